"""The training of an open student: its features learn to be the teacher's own, or, where that has none, to be nearest
to the text of what is there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.console.progress import Progress
from wordmask.distillation.augmentations import View, coloured, draw_colours, draw_view, see
from wordmask.distillation.batches import Batch, Examples, Samples
from wordmask.distillation.copy_paste import paste
from wordmask.distillation.feature_space import (
    LEARNT_BY,
    SETTLED,
    SURVEYED,
    FeatureSpace,
    fit_last_layer,
    in_cells,
    settle_ground,
    survey,
)
from wordmask.distillation.student import (
    STUDENT_FILE,
    StudentSettings,
    check_on,
    is_done,
    sampler_of,
    told_of,
    with_background,
)
from wordmask.distillation.target_examples import TargetExamples
from wordmask.distillation.training import cross_entropy, seeded, train
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.runs.parts import Say, warn, write_part
from wordmask.segmenters.base import Names
from wordmask.segmenters.deeplab import DeepLabV3Plus, fill_backbone
from wordmask.segmenters.open_deeplab import OpenDeepLab, new_open_network
from wordmask.segmenters.open_student import (
    OpenStudent,
    OpenStudentFile,
    TextTower,
    open_logits,
    write_open_student,
)

if TYPE_CHECKING:
    from wordmask.benchmarks.datasets import Benchmark


NAMES_ALONE = "names alone"
"""What a run is known by where a teacher has no features, or they are not to be learnt."""

MEASURED, WHOLE = 64, 640
"""Pictures whose longest side is that of the views that the last layer is fitted on, and the most of it."""


class Texts(NamedTuple):
    """What reads names, and where it is."""

    embed: TextEmbedder
    tower: TextTower


class OpenLoss:
    """Cross-entropy over background and the cosines with the names' texts.

    With a teacher's features (`space`), a network gives coordinates, and it learns how far they are from the teacher's,
    times `weight`. Cross-entropy then teaches background alone: what has no name among those that it is distilled for
    bears another's, which its features are not to follow. Where a zoom has made the student's cells finer than the
    teacher's features are asked for, those of a place are held against them in the mean.
    """

    def __init__(self, texts: Texts, names: Vocabulary, settings: StudentSettings, space: FeatureSpace | None = None):
        self.text, self.space = texts.embed(names), space
        self.temperature, self.weight, self.batch = settings.temperature, settings.features_weight, settings.batch
        self.at_cells = settings.learn_at == "cells"

    def __call__(
        self, output: Tensor, labels: Tensor, beside: Tensor | None, *, ignore: int, counted: Tensor
    ) -> Tensor:
        """output (b, D + 1, h, w), labels (b, S, S), beside (b, D, g, g): zeros where nothing is to be learnt of it."""
        output = output.float()
        if self.space is None:
            return self._names(output, labels, ignore, counted)
        assert beside is not None
        own, teacher = output[:, :-1], beside.float()
        features = self.space.features(own.detach())
        ground = self._names(torch.cat([features, output[:, -1:]], dim=1), labels, ignore, counted)
        distance = self.space.apart(in_cells(own, teacher), teacher)
        return ground + self.weight * distance.sum() / (self.batch * teacher[0, 0].numel())

    def _names(self, output: Tensor, labels: Tensor, ignore: int, counted: Tensor) -> Tensor:
        logits = open_logits(output, self.text, self.temperature)
        if not self.at_cells:
            logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        return cross_entropy(logits, labels, None, ignore=ignore, counted=counted)


class FeatureSamples(Samples):
    """Samples with the teacher's features beside them, on the grid of the student's without a zoom."""

    def __init__(self, *given: object, grid: int, **options: object):
        super().__init__(*given, **options)  # type: ignore[arg-type]
        self.grid = grid

    def one(self, place: int) -> tuple[Tensor, ...]:
        chance = np.random.default_rng((self.seed, place))
        image, labels, features = self._seen(self.index(place), chance)
        for _ in range(int(chance.integers(1, self.most_pasted + 1)) - 1):
            other, other_labels, _ = self._seen(int(chance.integers(len(self.examples))), chance)
            thing = self.examples.thing(other_labels, chance, ignore=self.ignore)
            before = image.clone()
            paste(image, labels, other, other_labels, chance, ignore=self.ignore, thing=thing)
            touched = F.adaptive_max_pool2d((image != before).any(dim=0)[None].float(), self.grid)[0]
            features = features * (touched == 0)
        return image, labels, features

    def _seen(self, index: int, chance: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        assert isinstance(self.examples, TargetExamples)
        image, mask, told = self.examples.read_target(index)
        view = draw_view(chance, mask.shape, self.augmentation)
        pixels, labels = see(image, mask, view, self.augmentation.crop, label=1, ignore=self.ignore)
        features = features_in(view, told, self.augmentation.crop, self.grid)
        return coloured(pixels, draw_colours(chance, self.augmentation)), labels, features


def features_in(view: View, features: np.ndarray | None, crop: int, grid: int) -> Tensor:
    """Return a picture's features (D, h, w) as a view of it shows them, (D, grid, grid): of length 1, and zeros beyond
    the picture.
    """
    if features is None:
        raise AssertionError("a teacher without features has no samples of them")
    places = []
    centres = (torch.arange(grid) + 0.5) * (crop / grid)
    for axis in (0, 1):
        own = crop - centres if axis == 1 and view.flipped else centres
        places.append((own - view.place[axis] + view.start[axis]) / view.size[axis])  # 0 to 1 in the picture
    rows, columns = torch.meshgrid(*places, indexing="ij")
    lattice = torch.stack([columns, rows], dim=-1) * 2 - 1
    maps = torch.from_numpy(features.astype(np.float32))[None]
    seen = F.grid_sample(maps, lattice[None], mode="bilinear", padding_mode="border", align_corners=False)[0]
    inside = (lattice.abs() <= 1).all(dim=-1)
    return F.normalize(seen, dim=0) * inside


def train_open_student(
    examples: Examples,
    names: Names,
    settings: StudentSettings,
    out: Path,
    *,
    texts: Texts,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    validation: "Benchmark | None" = None,
    preset: str | None = None,
    note: str | None = None,
    say: Say = warn,
) -> Path:
    """As `student.train_student`, of a student that answers to any names. texts: what reads them."""
    vocabulary = with_background(names)
    own = vocabulary.without_background()
    path = out / STUDENT_FILE
    teacher = examples if settings.features_weight and has_features(examples) else None
    how = NAMES_ALONE if teacher is None else f"{LEARNT_BY} up to {WHOLE}, background by {SETTLED}"
    identity = f"{settings.identity(seed, examples)} of {texts.tower} by {how}"
    if is_done(path, identity, say):
        return path
    space = None if teacher is None else survey(teacher)
    loss = OpenLoss(texts, own, settings, space)

    def make() -> OpenDeepLab:
        vectors = loss.text.vectors
        first = F.normalize(vectors.mean(dim=0), dim=0) if space is None else torch.zeros(vectors.shape[1])
        network = seeded(seed, lambda: new_open_network(vectors.shape[1], settings.network, first))
        if settings.start is not None:
            fill_backbone(network, settings.start)
        return network

    def student_of(network: DeepLabV3Plus, told: Mapping[str, str]) -> OpenStudentFile:
        assert isinstance(network, OpenDeepLab)
        return OpenStudentFile(network, vocabulary, loss.text.vectors, texts.tower, settings.temperature, told)

    def finish(network: OpenDeepLab, run: str) -> None:
        if teacher is not None and space is not None:
            views = partial(plain_batches, teacher, settings, seed)
            fit_last_layer(network, space, views(SURVEYED))
            settle_ground(network, loss.text, settings.temperature, views(SETTLED), ignore=teacher.ignore)
        write_open_student(path, student_of(network, told_of(settings, run, preset, note)), write=write_part)

    def segmenter_of(network: OpenDeepLab, device: torch.device) -> OpenStudent:
        told = network if space is None else space.unfold(network)
        return OpenStudent(student_of(told, {}), device=device, precision="fp32")

    train(
        len(vocabulary),
        examples,
        settings,
        out,
        seed=seed,
        device=device,
        finish=finish,
        progress=progress,
        check=None if validation is None else check_on(validation, segmenter_of),
        say=say,
        run=identity,
        make=make,
        sampler=sampler_of(settings) if teacher is None else partial(FeatureSamples, grid=grid_of(settings)),
        loss=loss,
    )
    return path


def has_features(examples: Examples) -> TypeGuard[TargetExamples]:
    return isinstance(examples, TargetExamples) and examples.targets[0].features is not None


def plain_batches(examples: TargetExamples, settings: StudentSettings, seed: int, most: int) -> Iterator[Batch]:
    """Yield pictures as a student will see them: whole up to a side of `WHOLE`, at their own size, and in their own
    colours, which are part of what a teacher's features say.
    """
    sides = [max(examples.targets[index].labels.shape) for index in range(min(len(examples), MEASURED))]
    side = max(settings.augmentation.crop, min(WHOLE, max(sides)))
    plain = replace(settings.augmentation, crop=side, scale=(1.0, 1.0), jitter=0.0, grey=0.0, blur=0.0)
    grid = grid_of(replace(settings, augmentation=plain))
    samples = FeatureSamples(examples, plain, most_pasted=1, seed=seed, ignore=examples.ignore, grid=grid)
    count = min(len(examples), most)
    for start in range(0, count, settings.batch):
        yield samples.at(range(start, min(start + settings.batch, count)))


def grid_of(settings: StudentSettings) -> int:
    """Return how many cells the student's features have along a side of a crop, which it looks at without a zoom: a
    teacher's own are no finer.
    """
    crop = settings.augmentation.crop
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # nothing but its shape is asked for
        return OpenDeepLab(1, replace(settings.network, zoom=1.0)).eval()(torch.empty(1, 3, crop, crop)).shape[-1]
