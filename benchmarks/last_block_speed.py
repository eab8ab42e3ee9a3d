"""What the readings of CLIP's last block cost beside MaskCLIP, at full size.

    python benchmarks/last_block_speed.py [--pictures 3] [--threads 2] [--rounds 2] [--precision fp32] [--names 21]

ViT-B/16 with random weights (speed does not depend on them), pictures of 500 x 375 pixels, each method as its preset
"paper" looks at them; NACLIP without its PAMR too. The first column is what looking takes, where CLIP runs; the
second what an answer does for so many names, and background. Methods take turns, and the best round counts: what else
a machine does can only make one slower.
"""

import argparse
import time
from typing import Any

from maskclip_speed import processor

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "MaskCLIP": ("maskclip", {"residual": False}),
    "SCLIP": ("sclip", {}),
    "ClearCLIP": ("clearclip", {}),
    "NACLIP": ("naclip", {"pamr": False}),
    "NACLIP + PAMR": ("naclip", {}),
    "SC-CLIP": ("sc-clip", {}),
    "ResCLIP": ("resclip", {}),
}
SIZE = (375, 500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--names", type=int, default=21)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--only", choices=tuple(WAYS), nargs="*", default=tuple(WAYS))
    arguments = parser.parse_args()

    import numpy as np
    import open_clip
    import torch
    from random_clip import random_clip

    from wordmask.methods import methods_of
    from wordmask.names.vocabulary import Vocabulary
    from wordmask.plugins import named

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    clip = random_clip("ViT-B-16", arguments.precision, tokenizer=open_clip.get_tokenizer("ViT-B-16"), quick_gelu=True)
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(arguments.pictures)]
    names = Vocabulary.of([f"thing {number}" for number in range(arguments.names)])
    height, width = SIZE
    print(
        f"{processor()}, {arguments.threads} threads, {arguments.precision}, {arguments.pictures} pictures of "
        f"{width} x {height}, {arguments.names} names and background"
    )
    best: dict[str, tuple[float, float]] = {}
    for _ in range(arguments.rounds):
        for label in arguments.only:
            method, settings = WAYS[label]
            chosen = named(methods_of("segmenter")[method].at)
            segmenter = chosen(clip, chosen.Settings(templates="plain", **settings))
            segmenter.look(pictures[0][:64, :64]).segment(names)  # names are read, and memory is there
            looking = answering = 0.0
            for picture in pictures:
                start = time.perf_counter()
                seen = segmenter.look(picture)
                middle = time.perf_counter()
                seen.segment(names)
                looking, answering = looking + middle - start, answering + time.perf_counter() - middle
            took = looking / len(pictures), answering / len(pictures)
            best[label] = min(took, best.get(label, took), key=sum)
    plain = sum(best["MaskCLIP"]) if "MaskCLIP" in best else None
    for label, (looking, answering) in best.items():
        beside = "" if plain is None else f", {(looking + answering) / plain:5.2f} of MaskCLIP"
        print(f"{label:14} {looking:7.3f} s to look, {answering:7.3f} s to answer{beside}")


if __name__ == "__main__":
    main()
