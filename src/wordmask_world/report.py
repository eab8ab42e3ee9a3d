"""`wordmask world report`: how good the world's small models are, on held-out pictures, in figures and in pictures."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from wordmask.benchmarks.datasets import Sample
from wordmask.benchmarks.evaluation import evaluate
from wordmask.benchmarks.scores import Report
from wordmask.compute import Compute
from wordmask.console.progress import progress_bar
from wordmask.encoders.dino import DinoEncoder
from wordmask.html_page import Page, text_table
from wordmask.methods import settings_of
from wordmask.names.prompts import templates
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.segmenters.base import Segmenter
from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings
from wordmask.segmenters.student_file import read_student
from wordmask_world.baselines import AllBackground, BestName
from wordmask_world.benchmark import FIRST_SEED, SPLITS, World
from wordmask_world.drawing.names import NAMES, STUFF, THINGS
from wordmask_world.drawing.scenes import WORLD_VERSION, draw_scene
from wordmask_world.models import DINO, KINDS, RESNET, find, world_clip, world_dino, world_resnet, world_weights
from wordmask_world.probes import cls_features, linear_probe, patch_neighbours
from wordmask_world.training.data import HELD_OUT_SEED
from wordmask_world.training.dino_network import IMAGENET
from wordmask_world.training.figures import naming, neighbour_naming, recall_at_1

PROBE_SEED = FIRST_SEED // 2
"""Labelled pictures that the probes fit on: neither trained on nor tested on."""
PROBE_PICTURES = 480
NEIGHBOUR_PICTURES = 120
SHOWN = 8
UNSURE = 0.99
"""Of the thresholds 0.4, 0.6, 0.8, 0.9, 0.95 and 0.99 the best one on validation pictures."""


@dataclass(frozen=True)
class Protocol:
    """What is asked for, and how MaskCLIP is told what background is."""

    title: str
    benchmark: dict[str, Any] = field(default_factory=dict)
    background_threshold: float | None = None


PROTOCOLS = (
    Protocol("Things and background, which is asked for by that word"),
    Protocol(
        f"Things and background, which is where MaskCLIP is less than {100 * UNSURE:.0f}% sure of any thing",
        background_threshold=UNSURE,
    ),
    Protocol("Things and background, which is asked for by the stuff's names", {"background": STUFF}),
    Protocol("Things and stuff, no background", {"stuff": True}),
)
""" "background" is a word that captions seldom say of pictures without things: the papers' complaint about MaskCLIP."""


class PrintedPage:
    """Says everything twice: on the terminal and on the page."""

    def __init__(self, title: str):
        self.page = Page(title, "world report")

    def section(self, title: str, text: str) -> None:
        print(f"\n{title}\n{text}")
        self.page.heading(title)
        self.page.text(text)

    def table(self, columns: list[str], rows: list[list[object]], *, best: bool = False) -> None:
        print(text_table(columns, rows))
        self.page.table(columns, rows, best=best)


def run(out: Path, *, pictures: int, device: str) -> None:
    """Print the figures and write them, with pictures, to `out`."""
    tell = PrintedPage("The built-in world and its models")
    tell.page.check(out)
    clip = world_clip(Compute(device, "fp32"))
    print(f"World {WORLD_VERSION}, held-out pictures of {World().size} x {World().size} pixels")

    tell.section("The small CLIP", "Zero-shot naming of one thing among all things; retrieval among 100 captions.")
    tell.table(
        ["", "percent", "chance"],
        [
            ["naming, pictures of one thing", naming(clip), 100 / len(THINGS)],
            ["caption to picture, recall@1 of 100", recall_at_1(clip), 1.0],
        ],
    )

    if DINO in world_weights():
        tell_of_dino(tell, world_dino(Compute(device, "fp32")))
    else:
        tell.section("The small DINO", "This installation carries none; `wordmask world train-dino` trains one.")

    if RESNET in world_weights():
        tell_of_resnet(tell, world_resnet(device=device, output_stride=16).eval())
    else:
        tell.section(
            "The small ResNet",
            "This installation carries none; `wordmask world train-dino --network resnet` trains one.",
        )

    tell_of_kinds(tell, read_student(find(KINDS).path).network.to(clip.device))

    baselines: list[Segmenter] = [AllBackground(), BestName(clip, templates("photo"))]
    labels = ["all background", "best name everywhere", "MaskCLIP, value path", "MaskCLIP, residual and MLP"]
    for protocol in PROTOCOLS:
        variants = maskclip_variants(protocol.background_threshold)
        segmenters = [*baselines, *(MaskClip(clip, settings) for settings in variants)]
        chosen = list(zip(labels, segmenters, strict=True))[1 if "stuff" in protocol.benchmark else 0 :]
        tell.section(f"Masks. {protocol.title}", f"mIoU on {pictures} held-out pictures a split.")
        reports = measure(chosen, pictures=pictures, **protocol.benchmark)
        tell.table(
            ["", *SPLITS],
            [[label, *(reports[label, split].miou for split in SPLITS)] for label, _ in chosen],
            best=True,
        )
        tell.section(f"{protocol.title}: every name", "IoU on the split `all`.")
        names = list(reports[chosen[0][0], "all"].per_class)
        tell.table(
            ["", *(label for label, _ in chosen)],
            [[name, *(reports[label, "all"].per_class[name] for label, _ in chosen)] for name in names],
            best=False,
        )
    tell.page.heading("MaskCLIP looks at held-out pictures")
    tell.page.picture(
        mask_pictures(MaskClip(clip, settings_of("segmenter", "maskclip", "world"))),
        "Pictures, and what MaskCLIP finds of all the world's names.",
    )
    tell.page.save(out)
    print(f"\n{out}")


def tell_of_dino(tell: PrintedPage, dino: DinoEncoder) -> None:
    tell.section(
        "The small DINO", "Trained on pictures alone, against the same network untrained. Labels only measure."
    )
    untrained = untrained_copy(dino)
    tell.table(
        ["", "trained", "untrained"],
        [
            ["linear probe on CLS, naming (%)", probe_cls(dino), probe_cls(untrained)],
            ["nearest patches, things and stuff (mIoU)", probe_patches(dino), probe_patches(untrained)],
        ],
    )
    tell.page.picture(dino_pictures(dino), "Pictures; where CLS looks; the three main components of the patch tokens.")


def tell_of_resnet(tell: PrintedPage, resnet: nn.Module) -> None:
    tell.section(
        "The small ResNet",
        "Pictures of one thing: does the nearest other one, by pooled features, show the same thing?",
    )

    untrained = copy.deepcopy(resnet)
    torch.manual_seed(0)
    for module in untrained.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    untrained.init_weights()  # type: ignore[operator]
    tell.table(
        ["", "trained", "untrained"],
        [["the same thing (%)", naming_by_resnet(resnet), naming_by_resnet(untrained)]],
    )


def naming_by_resnet(network: nn.Module, first_seed: int = HELD_OUT_SEED) -> float:
    device = next(network.parameters()).device

    @torch.no_grad()
    def pooled(images: torch.Tensor) -> torch.Tensor:
        return network(IMAGENET.normalise(images.to(device))).cpu()

    return neighbour_naming(pooled, first_seed=first_seed)


def tell_of_kinds(tell: PrintedPage, network: Any) -> None:
    tell.section(
        "The network that has learnt kinds",
        "Pictures of one thing: does the nearest other one, by the mean of its features where it sees no background, "
        "show the same thing?",
    )
    tell.table(["", "trained"], [["the same thing (%)", naming_by_kinds(network)]])


def naming_by_kinds(network: Any) -> float:
    @torch.no_grad()
    def pooled(images: torch.Tensor) -> torch.Tensor:
        features = network.features(network.statistics.normalise(images.to(next(network.parameters()).device)))
        salient = 1 - network.classify(features).softmax(dim=1)[:, :1]  # (B, 1, h, w)
        means: torch.Tensor = (features * salient).sum(dim=(2, 3)) / salient.sum(dim=(2, 3))
        return means.cpu()

    return neighbour_naming(pooled)


def maskclip_variants(background_threshold: float | None) -> list[MaskClipSettings]:
    settings = settings_of("segmenter", "maskclip", "world", background_threshold=background_threshold)
    return [replace(settings, residual=residual) for residual in (False, True)]


def measure(segmenters: list[tuple[str, Segmenter]], **options: Any) -> dict[tuple[str, str], Report]:
    reports = {}
    for split in SPLITS:
        benchmark = World(split, **options)
        for label, segmenter in segmenters:
            with progress_bar(f"{label}, {split}", len(benchmark)) as progress:
                reports[label, split] = evaluate(segmenter, benchmark, on_progress=progress)
    return reports


def untrained_copy(encoder: DinoEncoder) -> DinoEncoder:
    """The same network as it was before its training."""
    model = copy.deepcopy(encoder.model)
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model.init_weights()
    return DinoEncoder(model, name=f"{encoder.name}, untrained", device=encoder.device)


def probe_cls(encoder: DinoEncoder, first_seed: int = FIRST_SEED) -> float:
    def features(seed: int) -> tuple[np.ndarray, np.ndarray]:
        scenes = list(islice(_singles(seed), PROBE_PICTURES))
        return cls_features(encoder, (image for image, _ in scenes)), np.array([label for _, label in scenes])

    return linear_probe(features(PROBE_SEED), features(first_seed))


def _singles(first_seed: int) -> Iterator[tuple[np.ndarray, int]]:
    seed = first_seed
    while True:
        scene = draw_scene(seed, World().size, kind="single")
        seed += 1
        if len(scene.things) == 1:
            yield scene.image, THINGS.index(scene.things[0])


def probe_patches(encoder: DinoEncoder, first_seed: int = FIRST_SEED) -> float:
    def samples(seed: int) -> Iterator[Sample]:
        for index in range(NEIGHBOUR_PICTURES):
            scene = draw_scene(seed + index, World().size)
            yield Sample(scene.image, scene.labels, str(index))

    return patch_neighbours(encoder, samples(PROBE_SEED), samples(first_seed), list(NAMES))


def dino_pictures(encoder: DinoEncoder, zoom: int = 2) -> Image.Image:
    """Three rows: pictures, CLS attention, main components of the tokens."""
    scenes = [draw_scene(FIRST_SEED + index, World().size) for index in range(SHOWN)]
    read = encoder(torch.stack([to_tensor(scene.image) for scene in scenes]))
    size = scenes[0].labels.shape
    attention = read.cls_attention.mean(dim=1).unflatten(1, read.grid)
    attention = attention / attention.amax(dim=(1, 2), keepdim=True)
    tokens = read.tokens.permute(0, 2, 3, 1).flatten(0, 2)  # (B*h*w, D)
    _, _, directions = torch.pca_lowrank(tokens, q=3)
    components = ((tokens - tokens.mean(dim=0)) @ directions).view(len(scenes), *read.grid, 3).permute(0, 3, 1, 2)
    low, high = components.flatten(2).quantile(0.02, dim=2), components.flatten(2).quantile(0.98, dim=2)
    components = (components - low[..., None, None]) / (high - low)[..., None, None]
    rows = [
        np.concatenate([scene.image for scene in scenes], axis=1),
        _row(attention[:, None].expand(-1, 3, -1, -1), size),
        _row(components, size),
    ]
    page = Image.fromarray(np.concatenate(rows))
    return page.resize((page.width * zoom // 2, page.height * zoom // 2))


def _row(maps: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """(n, 3, h, w) in [0, 1] -> (H, n*W, 3) uint8, each patch a square."""
    large = F.interpolate(maps.clamp(0, 1), size=size, mode="nearest")
    return np.concatenate(list((255 * large).byte().permute(0, 2, 3, 1).cpu().numpy()), axis=1)


def mask_pictures(segmenter: Segmenter) -> Image.Image:
    """Two rows of pictures and overlays, with a legend to each."""
    vocabulary = Vocabulary.of(NAMES)
    scenes = [draw_scene(FIRST_SEED + index, 256) for index in range(SHOWN)]
    overlays = [segmenter.segment(scene.image, vocabulary, fill=True).overlay() for scene in scenes]
    height = 256 + max(overlay.height for overlay in overlays) + 4
    page = Image.new("RGB", (260 * SHOWN, height), "white")
    for index, (scene, overlay) in enumerate(zip(scenes, overlays, strict=True)):
        page.paste(Image.fromarray(scene.image), (260 * index, 0))
        page.paste(overlay, (260 * index, 260))
    return page
