"""How good a run's pseudo-masks are by the truth, before and after its experts, and where they are wrong, which only
the world can say.

    python benchmarks/archive_masks.py runs/namedmask-world/copy-paste-2 [--first 200] [--half odd] [--clip]

Mean IoU over the first pictures of each name's archive that do show it, and the pixels that are wrong, in percent of
the thing's own: close to its outline, missing further inside it, and added further outside it. Thin is how many of the
thing's own pixels lie close to its outline, in percent. Beside saliency's masks and those that experts have redrawn
stand what either of them holds, and ways to choose between them without a label: by the names for which the two agree,
and by which cut-out of a picture CLIP finds more like the name (--clip).

Nothing that trains ever sees the truth. Choose on one half of the pictures, by the numbers that are their names, and
measure on the other.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from wordmask.compute import Compute
from wordmask.distillation.records import MaskTable
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask_world.drawing.names import THINGS

CLOSE = 2
"""Pixels from the thing's outline."""
AGREE = 0.75
"""IoU of the masks before and after, in the mean over a name. Chosen on even pictures of archives of 200."""
MEASURES = ("IoU", "outline", "missing", "added")
PER_PASS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--half", choices=("even", "odd"), help="pictures whose numbers are")
    parser.add_argument("--clip", action="store_true", help="let the run's CLIP choose, too")
    asked = parser.parse_args()
    told = yaml.safe_load((asked.run / "config.yaml").read_text())
    before, after = MaskTable(asked.run / "masks"), MaskTable(asked.run / "refined")
    judge = Judge(told, before.names) if asked.clip else None
    found: list[np.ndarray] = []
    for name in before.names:
        rows = [
            row
            for row in before.rows(name, usable=False)[: asked.first].tolist()
            if asked.half is None or number_of(before, row) % 2 == ("even", "odd").index(asked.half)
        ]
        masks, redrawn = ([table[row].mask() for row in rows] for table in (before, after))
        kinds = {"masks": masks, "redrawn": redrawn, "either": either(masks, redrawn)}
        kinds["agreeing"] = (
            redrawn if np.mean([iou(*both) for both in zip(masks, redrawn, strict=True)]) > AGREE else masks
        )
        if judge is not None:
            images = [before.open_image(before[row].image) for row in rows]
            is_better = judge.likeness(name, images, redrawn) >= judge.likeness(name, images, masks)
            kinds["by CLIP"] = [two[one] for *two, one in zip(masks, redrawn, is_better.tolist(), strict=True)]
        if not found:
            print(f"{'':14} {'pictures':>8} {'showing':>8} {'thin':>8}" + "".join(f" {kind:>8}" for kind in kinds))
        truths = [truth_of(Path(told["images"]), number_of(before, row), name) for row in rows]
        shown = [place for place, truth in enumerate(truths) if truth.any()]
        wrong = [[measured(own[place], truths[place]) for place in shown] for own in kinds.values()]
        found.append(100 * np.mean(wrong, axis=1))  # (kinds, measures)
        thin = 100 * np.mean([(outline(truths[place]) & truths[place]).sum() / truths[place].sum() for place in shown])
        figures = "".join(f" {kind[0]:8.1f}" for kind in found[-1])
        print(f"{name:14} {len(rows):8} {len(shown):8} {thin:8.1f}{figures}", flush=True)
    print(f"\n{'means':14}" + "".join(f" {measure:>8}" for measure in MEASURES) + "   better than masks for")
    for place, kind in enumerate(kinds):
        better = sum(own[place, 0] > own[0, 0] for own in found)
        figures = "".join(f" {figure:8.1f}" for figure in np.mean(found, axis=0)[place])
        print(f"{kind:14}{figures}   {better} of {len(found)} names")


def number_of(table: MaskTable, row: int) -> int:
    return int(Path(table[row].image.path).stem)


def truth_of(images: Path, number: int, name: str) -> np.ndarray:
    """(H, W) bool"""
    return np.asarray(Image.open(images.parent / "labels" / f"{number:06d}.png")) == THINGS.index(name)


def either(masks: list[np.ndarray], redrawn: list[np.ndarray]) -> list[np.ndarray]:
    return [one | other for one, other in zip(masks, redrawn, strict=True)]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def outline(truth: np.ndarray) -> np.ndarray:
    return binary_dilation(truth, iterations=CLOSE) & ~binary_erosion(truth, iterations=CLOSE)


def measured(mask: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    close = outline(truth)
    wrong = ((mask ^ truth) & close, truth & ~mask & ~close, mask & ~truth & ~close)
    return iou(mask, truth), *(part.sum() / truth.sum() for part in wrong)


class Judge:
    """The run's CLIP, which looks at cut-outs."""

    def __init__(self, told: dict[str, str], names: tuple[str, ...]):
        self.clip: ClipEncoder = clip_at(told["clip"], told["clip_weights"], Compute("auto", "fp32"))
        self.text = TextEmbedder(self.clip, templates(told["templates"]))(Vocabulary.of(list(names)))
        self.names = names

    @torch.inference_mode()
    def likeness(self, name: str, images: list[np.ndarray], masks: list[np.ndarray]) -> np.ndarray:
        """Cosines of the name and what lies under each mask, all else in CLIP's mean colour; -1 for nothing."""
        views = [self._view(image, mask) for image, mask in zip(images, masks, strict=True)]
        seen = torch.cat([self.clip.encode_image(part) for part in torch.stack(views).split(PER_PASS)])
        cosines = self.text.cosines(seen[:, :, None, None])[:, self.names.index(name), 0, 0].cpu().numpy()
        return np.where([mask.any() for mask in masks], cosines, -1.0)

    def _view(self, image: np.ndarray, mask: np.ndarray) -> torch.Tensor:
        grey = np.rint(255 * np.array(self.clip.statistics.mean)).astype(np.uint8)
        cut = np.where(mask[..., None], image, grey)
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) if mask.any() else np.array([0]) for axis in (1, 0))
        cut = cut[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return to_tensor(np.ascontiguousarray(cut), self.clip.image_size, mode="bicubic")


if __name__ == "__main__":
    main()
