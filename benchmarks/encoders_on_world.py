"""How good encoders are that `wordmask world train-clip` and `train-dino` have made, beside those that ship.

    wordmask world train-clip --out runs/clip
    wordmask world train-dino --out runs/dino
    wordmask world train-dino --network resnet --out runs/dino      # the ResNet that guided it, which is there already
    python benchmarks/encoders_on_world.py --runs runs/clip runs/dino [--held-out]

Figures are percent: as `wordmask world report` has them, on validation pictures, or with --held-out on its own.
MaskCLIP segments crowded pictures into things and stuff, by the last layer's value path and by all of it. The seed is
where FOUND looks before any training: what is unlike the least attended patch, on pictures of one thing.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wordmask.compute import PLAIN
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.timm_building import dino_at, load_timm_folder
from wordmask.html_page import text_table
from wordmask_world.benchmark import FIRST_SEED
from wordmask_world.models import CLIP, DINO, RESNET, find
from wordmask_world.report import naming_by_resnet, probe_cls, probe_patches
from wordmask_world.training.data import HELD_OUT_SEED, VALIDATION_SEED
from wordmask_world.training.figures import clip_figures, dino_figures


def of_clip(folder: Path, held_out: bool) -> dict[str, float]:
    figures = clip_figures(clip_at(str(folder), None, PLAIN), first_seed=HELD_OUT_SEED if held_out else VALIDATION_SEED)
    return {
        "naming, pictures of one thing": figures["naming"],
        "caption to picture, recall@1 of 100": figures["recall_at_1"],
        "MaskCLIP, value path (mIoU)": figures["miou_all_value_path"],
        "MaskCLIP, residual and MLP (mIoU)": figures["miou_all"],
    }


def of_dino(folder: Path, held_out: bool) -> dict[str, float]:
    dino = dino_at(str(folder), None, PLAIN)
    first, probed = (HELD_OUT_SEED, FIRST_SEED) if held_out else (VALIDATION_SEED, VALIDATION_SEED)
    figures = dino_figures(dino, first_seed=first)
    return {
        "linear probe on CLS, naming": probe_cls(dino, probed),
        "nearest patches, things and stuff (mIoU)": probe_patches(dino, probed),
        "the nearest other picture shows the same": figures["neighbour_naming"],
        "FOUND's seed (mIoU)": figures["miou_seed"],
    }


def of_resnet(folder: Path, held_out: bool) -> dict[str, float]:
    network = load_timm_folder(folder, what="the ResNet", output_stride=16).eval()
    first = HELD_OUT_SEED if held_out else VALIDATION_SEED
    return {"the nearest other picture shows the same": naming_by_resnet(network, first)}


MEASURES: dict[str, Callable[[Path, bool], dict[str, float]]] = {CLIP: of_clip, DINO: of_dino, RESNET: of_resnet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", type=Path, required=True, help="Their --out.")
    parser.add_argument("--held-out", action="store_true")
    asked = parser.parse_args()
    for run in asked.runs:
        if not (run / "weights").is_dir():
            parser.error(f"{run} holds no weights: train them first, as said above")
    print(f"{'held-out' if asked.held_out else 'validation'} pictures")
    for name, measure in MEASURES.items():
        trained = [run / "weights" / name for run in asked.runs if (run / "weights" / name).exists()]
        if not trained:
            continue
        found: list[dict[str, float]] = [measure(folder, asked.held_out) for folder in (find(name).path, *trained)]
        rows: list[list[Any]] = [[row, *(figures[row] for figures in found)] for row in found[0]]
        print(f"\n{text_table([name, 'that ships', *(str(folder) for folder in trained)], rows)}")


if __name__ == "__main__":
    main()
