"""What each method of the frontier costs beside MaskCLIP, at full size, on one picture; and what a student of any does.

    python benchmarks/frontier_speed.py [--rounds 3] [--threads 2] [--precision fp32] [--only sclip]

Networks have the sizes of the preset "paper" and random weights (speed does not depend on them), the picture 640 x 480
pixels, the list 21 names with background. Every method looks at the picture as its own preset does, so windows differ;
`--protocol clip-dinoiser` has all that can look at it alike. The methods take turns in several rounds of one process,
and the best round counts: what else a machine does can only make a method slower. What is not here is said. Students
look at the whole picture, as it is or smaller.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from maskclip_speed import NAMES, processor

WIDTH, HEIGHT = 640, 480
BASE = "MaskCLIP"
B_16: dict[str, Any] = {"clip": "ViT-B-16/openai"}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    BASE: ("maskclip", {}),
    "CLIP-DIY, ViT-B/16": ("clip-diy", B_16),
    "CLIP-DINOiser": ("clip-dinoiser", {}),
    "ClearCLIP": ("clearclip", {}),
    "SCLIP": ("sclip", {}),
    "NACLIP, without PAMR": ("naclip", {"pamr": False}),
    "NACLIP": ("naclip", {}),
    "ResCLIP": ("resclip", {}),
    "SC-CLIP": ("sc-clip", {}),
    "ProxyCLIP": ("proxyclip", {}),
    "Talk2DINO": ("talk2dino", {}),
    "CorrCLIP": ("corrclip", B_16),
    "LPOSS": ("lposs", {}),
    "TIPSv2, ViT-L/14": ("tipsv2", {}),
    "dino.txt, DINOv3 ViT-L/16": ("dinotxt", {"weights": "random"}),
    "MaskCLIP, edges by PAMR": ("maskclip", {"refine": "pamr"}),
}
"""Label -> method, and what differs from its preset."""
STUDENTS: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "student, ResNet-50 as the paper's": ({}, {}),
    "student, MobileNetV3": ({"backbone": "mobilenetv3_large_100"}, {}),
    "student, small ResNet": (None, {}),
    "the same, at 427 x 320": (None, {"shorter_side": 320}),
}
"""Label -> its network (None: the one that the world's students have), and how it looks at pictures."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--protocol", default="own")
    parser.add_argument(
        "--only", action="append", help="a method of this label, or those whose label holds it, beside MaskCLIP"
    )
    arguments = parser.parse_args()
    import torch

    from wordmask.benchmarks.tables.base import is_asked

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    asked = arguments.only or []
    known = (*METHODS, *STUDENTS)
    chosen = {label: own for label, own in METHODS.items() if label == BASE or is_asked(label, known, asked)}
    taught = {label: own for label, own in STUDENTS.items() if is_asked(label, known, asked)}
    print(
        f"{processor()}, {arguments.threads} threads, {arguments.precision}, one picture of {WIDTH} x {HEIGHT}, "
        f"{len(NAMES)} names, protocol {arguments.protocol}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder, random_networks():
        segmenters = dict(built(chosen, Path(folder), arguments))
        segmenters |= {label: student(*own, arguments.precision) for label, own in taught.items()}
        seconds = measured(segmenters, arguments.rounds)
    width = max(map(len, seconds))
    print(f"{'':{width}}  s/picture  times {BASE}")
    for label, best in seconds.items():
        print(f"{label:{width}}  {best:9.2f}  {best / seconds[BASE]:14.2f}")


def built(
    chosen: dict[str, tuple[str, dict[str, Any]]], folder: Path, arguments: argparse.Namespace
) -> Iterator[tuple[str, Any]]:
    """Yield each method that is here, with its names' embeddings read beforehand."""
    import torch
    import torch.nn.functional as F

    from wordmask import segmenters
    from wordmask.benchmarks.protocols import ProtocolError, settings_under
    from wordmask.benchmarks.tables.errors import NotRunError
    from wordmask.benchmarks.tables.frontier import check_here
    from wordmask.names.vocabulary import Vocabulary

    for label, (method, settings) in chosen.items():
        try:
            check_here(method, settings)
            under = settings_under(arguments.protocol, method, "voc") if arguments.protocol != "own" else {}
        except (NotRunError, ProtocolError) as error:
            print(f"{label}: left out, {error}", flush=True)
            continue
        told = {**under, **settings}
        segmenter: Any = segmenters.load(method, device="cpu", precision=arguments.precision, **told)
        segmenter.embed.cache.path = folder / "text.sqlite"
        words = (*Vocabulary.of(NAMES).all_phrases, *segmenter.background_words)
        size = segmenter.embed.encoder.embedding_size
        segmenter.embed._seen = {word: F.normalize(torch.randn(size), dim=0) for word in words}
        yield label, segmenter


def student(network: dict[str, Any] | None, settings: dict[str, Any], precision: Any) -> Any:
    from wordmask.names.vocabulary import Vocabulary
    from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus, small_resnet_settings
    from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings
    from wordmask.segmenters.student_file import Student

    names = Vocabulary.of(NAMES)
    shape = small_resnet_settings() if network is None else DeepLabSettings(**network)
    made = DeepLabV3Plus(len(names), shape).eval()
    return NamedMask(Student(made, names, {}), NamedMaskSettings(**settings), device="cpu", precision=precision)


def measured(segmenters: dict[str, Any], rounds: int) -> dict[str, float]:
    """Label -> the seconds of its best round. The first look of each warms up, and does not count."""
    import numpy as np
    from PIL import Image

    from wordmask.names.vocabulary import Vocabulary

    coarse = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    names = Vocabulary.of(NAMES)
    best: dict[str, float] = {}
    for turn in range(rounds + 1):
        for label, segmenter in segmenters.items():
            start = time.perf_counter()
            segmenter.segment(picture, names)
            took = time.perf_counter() - start
            if turn:
                best[label] = min(took, best.get(label, took))
        print(f"round {turn} of {rounds}", file=sys.stderr, flush=True)
    return best


@contextmanager
def random_networks() -> Iterator[None]:
    """Have every method built with networks of the sizes that its addresses name, of random weights and shared."""
    import importlib
    import pkgutil
    from contextlib import ExitStack

    import wordmask

    made = {
        "clip_at": lambda address, weights, compute: clip(str(address).partition("/")[0], compute.precision),
        "dino_at": lambda address, weights, compute: dino(str(address), compute.precision),
        "load_heads": lambda source: dinoiser_heads(),
        "load_head": lambda source: found_head(),
        "load_mapper": lambda source: mapper(),
        "tips_text_at": lambda address, tokenizer, compute: UnaskedWords(1024),
        "dinotxt_at": lambda address, width, compute: (vision_head(width), UnaskedWords(width)),
    }
    with ExitStack() as stack:
        for package in ("segmenters", "saliency", "regions"):
            for module in pkgutil.iter_modules([str(Path(wordmask.__path__[0]) / package)]):
                loaded = importlib.import_module(f"wordmask.{package}.{module.name}")
                for name in made.keys() & vars(loaded).keys():
                    stack.enter_context(patch.object(loaded, name, made[name]))
        yield


@cache
def clip(architecture: str, precision: Any) -> Any:
    from random_clip import random_clip

    return random_clip(architecture, precision)


@cache
def dino(architecture: str, precision: Any) -> Any:
    from wordmask.encoders.dino import DinoEncoder
    from wordmask.encoders.timm_building import build_dino

    return DinoEncoder(build_dino(architecture.removeprefix("timm:"), precision=precision), name="random")


def dinoiser_heads() -> Any:
    from wordmask.segmenters.clip_dinoiser import DinoiserHeads

    return DinoiserHeads(768).eval().requires_grad_(False)


def found_head() -> Any:
    from wordmask.saliency.found import new_head

    return new_head(384).eval().requires_grad_(False)


def mapper() -> Any:
    from wordmask.segmenters.talk2dino import TextMapper

    return TextMapper(512, 768).eval().requires_grad_(False)


def vision_head(width: int) -> Any:
    from wordmask.encoders.dinotxt import HEAD_WIDTH, VisionHead

    head = VisionHead(width, 2, width // HEAD_WIDTH, 64 * -(-int(4 * width * 2 / 3) // 64), biased=False)
    return head.eval().requires_grad_(False)


class UnaskedWords:
    """A text tower that is never asked, as the names' embeddings are read beforehand."""

    grounds = ()
    name = text_fingerprint = "random"

    def __init__(self, embedding_size: int):
        from torch import nn

        self.embedding_size, self.model = embedding_size, nn.Identity()


if __name__ == "__main__":
    main()
