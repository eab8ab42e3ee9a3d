"""Kinds that nobody named: what a segmenter can begin with, learnt from pictures alone.

SelfMask says what stands out in every picture, CLIP says what that looks like, and what looks alike is one kind, as in
DeepCluster (Caron et al., ECCV 2018). One network learns to find all kinds. Whoever has names then begins with a
network that tells things from their ground, and from each other, before it has been told one of them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask import saliency
from wordmask.collection.archive import Archive, Counts, Entry, write_archive
from wordmask.collection.references import ImageRef
from wordmask.compute import Compute
from wordmask.console.progress import OnStderr, Progress
from wordmask.distillation.pseudo_masks import MaskSettings, make_masks
from wordmask.distillation.records import MaskRecord, MaskTable, write_masks
from wordmask.distillation.student import StudentSettings, train_student
from wordmask.extras import need
from wordmask.fingerprints import short_digest_of
from wordmask.pictures.images import to_tensor
from wordmask.runs.crew import Processes
from wordmask.runs.parts import Parts, write_part
from wordmask.runs.records import keep_settings
from wordmask.segmenters.deeplab import DeepLabV3Plus
from wordmask.segmenters.saliency_clip import view_of
from wordmask.segmenters.student_file import read_student
from wordmask.weights.addresses import find
from wordmask_world.distilling import SMALL
from wordmask_world.drawing.scenes import WorldError
from wordmask_world.files.writing import write_folder
from wordmask_world.models import KINDS, world_clip
from wordmask_world.training.loop import choose_device
from wordmask_world.training.plans import MIXTURE

ANYTHING = "anything"
"""The one name of all masks before they are sorted into kinds."""
SIDE, BATCH = 128, 32
FRACTION = 4
"""Bits of the weights' fractions in what ships: as many pictures are told by their nearest as with all ten, and the
file packs to two thirds."""
BLOCK = 512
"""Masks that are looked at between two saves."""
Picture = tuple[np.ndarray, np.ndarray]
"""(H, W, 3) uint8, and what stands out in it (H, W) bool."""
Look = Callable[[Sequence[Picture]], Tensor]
"""What masks look like: (n, views, D)."""


@dataclass(frozen=True)
class KindsSettings:
    """pictures: without labels, to find kinds in. kinds: how many there are at most. kept: the share of all masks that
    is learnt from, those nearest to the middle of their kind. steps: of the last round, of `batch` samples each.

    start: a network that has learnt kinds before, by its address; then there is the last round alone, of this network.
    """

    out: Path
    pictures: int = 12_000
    kinds: int = 512
    kept: float = 0.6
    steps: int = 4_500
    batch: int = 16
    start: str | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    device: str = "auto"

    @property
    def rounds(self) -> Sequence[StudentSettings]:
        """Return how a network learns in each round. In the last one it looks at pictures twice as large; so does the
        student that ships, whose crowds these are.
        """
        sooner = StudentSettings(
            **SMALL | {"save_every": 50 if choose_device(self.device).type == "cpu" else 1000},
            steps=max(1, self.steps * 2 // 3),
            batch=self.batch,
            precision=self.precision,
            learn_at="cells",
            crowds=0.5,
            crowd_sides=(2, 3, 4),
            most_pasted=3,
        )
        last = replace(sooner, network=replace(sooner.network, zoom=2), steps=self.steps)
        return (last,) if self.start else (sooner, sooner, replace(last, far_steps=self.steps // 6))


def train_kinds(settings: KindsSettings, console: OnStderr) -> Path:
    """Run, or go on with, all of it; the network's file, a student of "kind 0" and so on.

    A network that has learnt the kinds tells better than CLIP what is alike, so that there are rounds: kinds are found
    anew by its own features, and learnt by a network that begins with it.
    """
    need("sklearn", "pyarrow")
    # Of all else the pictures, or else the students, say themselves what they were made with.
    told, holds = {"precision": settings.precision}, f"{settings.out} holds kinds"
    keep_settings(settings.out / "settings.json", told, holds=holds, error=WorldError)
    pictures = settings.out / "pictures"
    workers = os.cpu_count() or 1
    with console.progress("drawing pictures") as report:
        write_folder(pictures, settings.pictures, kinds=MIXTURE, size=SIDE, workers=workers, progress=report)
    with console.progress("masks") as report:
        masks = make_masks(
            everything(pictures / "images", settings.out / "archive.parquet"),
            partial(saliency.load, "selfmask", preset="world", device=settings.device, precision=settings.precision),
            settings.out / "masks",
            MaskSettings(side=SIDE, batch=16),
            progress=report,
            crew=Processes(workers, threads=1) if workers > 1 else None,
        )
    begun_with = f"-of-{short_digest_of(settings.start)}" if settings.start else ""
    start: str = settings.start or SMALL["start"]
    look = by_network(start, settings) if settings.start else by_clip(settings)
    for number, learning in enumerate(settings.rounds, start=1):
        own = settings.out / f"round-{number}{begun_with}"
        with console.progress(f"round {number}: looking at masks") as report:
            looks = np.concatenate(list(looks_of(masks, look, own / "looks", report)))
        table = write_kinds(masks, *clusters(looks, settings.kinds, settings.seed), settings.kept, own / "kinds")
        with console.progress(f"round {number}: learning kinds") as report:
            start = str(
                train_student(
                    table,
                    table.names,
                    replace(learning, start=start),
                    own / "student",
                    seed=settings.seed,
                    device=settings.device,
                    progress=report,
                    say=console.say,
                )
            )
        look = by_network(start, settings)
    return Path(start)


def everything(pictures: Path, out: Path) -> Archive:
    """Return the archive of one name that holds all pictures of a folder; `out` is its file."""
    files = sorted(path.name for path in pictures.iterdir())
    entries = [Entry(ANYTHING, rank, ImageRef(name), (SIDE, SIDE)) for rank, name in enumerate(files)]
    counts = {ANYTHING: Counts(len(files), len(files), {})}
    return write_archive(out, entries, counts, names=[ANYTHING], root=pictures, size=len(files), pictures=len(files))


def looks_of(masks: MaskTable, look: Look, folder: Path, progress: Progress) -> Iterator[np.ndarray]:
    """Yield what masks look like, (n, views, D), a block at a time; a block that is in the folder is read."""
    rows, parts = masks.rows(ANYTHING).tolist(), Parts()
    for start in range(0, len(rows), BLOCK):
        path = folder / f"{start:08d}.npy"
        if not parts.whole(path):
            looks = []
            for at in range(start, min(start + BLOCK, len(rows)), BATCH):
                records = [masks[row] for row in rows[at : min(at + BATCH, start + BLOCK)]]
                with torch.inference_mode():
                    seen = look([(masks.open_image(record.image), record.mask()) for record in records])
                looks.append(seen.float().cpu().numpy())
            with write_part(path) as file:
                np.save(file, np.concatenate(looks))
        progress(min(start + BLOCK, len(rows)), len(rows))
        yield np.load(path)


def by_clip(settings: KindsSettings) -> Look:
    """CLIP's embeddings of pictures and of what is cut out of them: (n, 2, D)."""
    clip = world_clip(Compute(settings.device, settings.precision))

    def look(pictures: Sequence[Picture]) -> Tensor:
        views = [view_of(*picture, clip, named_by) for picture in pictures for named_by in ("image", "masked")]
        return F.normalize(clip.encode_image(torch.stack(views)).float(), dim=-1).unflatten(0, (-1, 2))

    return look


def by_network(address: str, settings: KindsSettings) -> Look:
    """Means of a network's own features within masks: (n, 1, D)."""
    device = choose_device(settings.device)
    network = cast(DeepLabV3Plus, read_student(find(address, KINDS).path).network.to(device))

    def look(pictures: Sequence[Picture]) -> Tensor:
        images = torch.stack([to_tensor(image) for image, _ in pictures]).to(device)
        masks = torch.stack([torch.from_numpy(mask) for _, mask in pictures]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            features = network.features(network.statistics.normalise(images))
        return means_within(features.float(), masks.float())[:, None]

    return look


def means_within(features: Tensor, masks: Tensor) -> Tensor:
    """(n, D, h, w) and (n, H, W) -> (n, D). A cell weighs as much as of it is covered."""
    cover = F.interpolate(masks[:, None], size=features.shape[-2:], mode="area")
    return (features * cover).sum(dim=(2, 3)) / cover.sum(dim=(2, 3))


def clusters(looks: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind of each (n,), and how far it is from the middle of its kind (n,).

    looks: (n, views, D). What all of a view have in common says nothing, so that it is taken away, and views weigh the
    same.
    """
    from sklearn.cluster import MiniBatchKMeans

    apart = looks - looks.mean(axis=0)
    apart /= np.linalg.norm(apart, axis=-1, keepdims=True)
    flat = apart.reshape(len(apart), -1)
    found = MiniBatchKMeans(min(count, len(flat)), n_init=3, batch_size=4096, random_state=seed).fit(flat)
    return found.labels_, np.linalg.norm(flat - found.cluster_centers_[found.labels_], axis=1)


def write_kinds(masks: MaskTable, kind: np.ndarray, distance: np.ndarray, kept: float, folder: Path) -> MaskTable:
    """Write the share of masks that is nearest to the middle of its kind, by its name, the nearest first."""
    order = np.lexsort((distance, kind))
    order = order[distance[order] <= np.quantile(distance, kept)]
    rows, names = masks.rows(ANYTHING), [f"kind {number}" for number in np.unique(kind[order]).tolist()]
    records: list[MaskRecord] = []
    for place in order.tolist():
        name = f"kind {kind[place]}"
        rank = records[-1].rank + 1 if records and records[-1].name == name else 0
        records.append(replace(masks[int(rows[place])], name=name, rank=rank))
    write_masks(folder / "masks.arrow", records, root=masks.root, names=names)
    return MaskTable(folder)
