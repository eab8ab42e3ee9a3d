"""How many pixels keep their label when networks compute in bf16 or int8 in place of fp32.

    python benchmarks/same_labels.py [--pictures 50] [--methods maskclip clip-diy] [--only world] [--seeds 5]

First with the world's trained weights: held-out pictures of all kinds, asked for the world's things and for background,
and for all its names. Then with networks of full size, whose weights are random and like trained ones in what makes
rounding hard (`like_trained`); names are directions near to what patches of the pictures say, as with plainly random
ones all names score alike. The pictures are scenes of the world's, and two photographs where scikit-learn is installed.
As both are drawn, and CLIP-DINOiser's heads, too, the mean and the least of several seeds are told. Beside each stands
how many patches of drawn pictures say the same, by which "auto" decides on int8.
"""

import argparse
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from random_clip import random_clip
from torch import Tensor, nn

import wordmask
from wordmask.compute import has_int8
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.int8_agreement import compute_in_int8, kept, same_directions
from wordmask.encoders.int8_agreement import leaves as drawn_pictures
from wordmask.extras import is_installed
from wordmask.names.vocabulary import BACKGROUND, Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.segmenters.clip_dinoiser import ClipDinoiser, ClipDinoiserSettings, DinoiserHeads
from wordmask.segmenters.clip_diy import ClipDiy, ClipDiySettings
from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings
from wordmask_world import NAMES, THINGS, draw_scene
from wordmask_world.benchmark import World

OTHERS = ("bf16", "int8") if has_int8() else ("bf16",)
FULL_SIZE = ("ViT-B-16", "ViT-B-32")
STUDENT = "namedmask"
COUNT = 21
SIDE = 336


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--methods", nargs="+", default=[*MAKERS, "selfmask-clip", STUDENT])
    parser.add_argument("--only", choices=["world", "full-size"])
    parser.add_argument("--seeds", type=int, default=5, help="of names and heads, with networks of full size")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["WORDMASK_CACHE"] = cache
        print(f"{'network':16}{'asked for':24}" + "".join(f"{f'same label in {own} (%)':>28}" for own in OTHERS))
        if arguments.only != "full-size":
            on_the_world(arguments.methods, arguments.pictures)
        if arguments.only != "world":
            at_full_size(arguments.methods, arguments.seeds)


def on_the_world(methods: Sequence[str], count: int) -> None:
    images = [sample.image for sample in World("all", pictures=count)]
    questions = {"things and background": [*THINGS, BACKGROUND], "things and stuff": list(NAMES)}
    for method in methods:
        loaded = {own: wordmask.load(method, preset="world", device="cpu", precision=own) for own in ("fp32", *OTHERS)}
        for question, names in questions.items():
            if method == STUDENT and not {*names} <= {*loaded["fp32"].vocabulary.names}:
                continue  # it was not distilled for all of them
            row(method, question, [{own: labels(each, images, names) for own, each in loaded.items()}])
    for own in kept():
        verdict = "enough" if own.is_enough else "too few"
        print(f"{own.what}: {own.same:.2%} of drawn patches say the same in int8, {verdict} for auto ({own.least:.1%})")


def at_full_size(methods: Sequence[str], seeds: int) -> None:
    images = [draw_scene(number, SIDE).image for number in range(4)] + photographs()
    for architecture in FULL_SIZE:
        clips = {own: clip_like_trained(architecture, own) for own in ("fp32", *OTHERS)}
        said = {own: said_of(clip, drawn_pictures(4, 224)) for own, clip in clips.items()}
        for own in OTHERS:
            print(
                f"{architecture}: {same_directions(said['fp32'], said[own]):.2%} of drawn patches say the same in {own}"
            )
        pictures = torch.cat([F.interpolate(to_tensor(image, (224, 224))[None], (224, 224)) for image in images])
        for method, make in MAKERS.items():
            if method in methods:
                found, segmenters, seen = [], {}, {}
                for seed in range(seeds):
                    if not seen or method in DRAWN:
                        segmenters = {own: make(clip, seed) for own, clip in clips.items()}
                        seen = {own: [each.look(image) for image in images] for own, each in segmenters.items()}
                    text = names_among(read_by(segmenters["fp32"], pictures), seed=seed)
                    found.append({own: asked(segmenters[own], seen[own], text) for own in clips})
                row(method, f"{COUNT} names, {architecture}", found)


def asked(segmenter: Any, seen: Sequence[Any], text: Tensor) -> list[np.ndarray]:
    """Return the labels of pictures that a segmenter has seen."""
    segmenter.embed._seen = dict(zip(VOCABULARY.all_phrases, text, strict=True))
    return [own.segment(VOCABULARY, fill=True).labels for own in seen]


def row(what: str, question: str, found: Sequence[dict[str, list[np.ndarray]]]) -> None:
    """found: of each seed."""
    print(f"{what:16}{question:24}", end="")
    for own in OTHERS:
        same = [100 * np.mean([np.mean(a == b) for a, b in zip(one["fp32"], one[own], strict=True)]) for one in found]
        told = f"{np.mean(same):.2f}" + (f", least {min(same):.2f}" if len(same) > 1 else "")
        print(f"{told:>28}", end="")
    print(flush=True)


def labels(segmenter: Any, images: Sequence[np.ndarray], names: Any) -> list[np.ndarray]:
    return [found.labels for found in segmenter.segment_many(images, names, fill=True)]


def photographs() -> list[np.ndarray]:
    if not is_installed("sklearn"):
        return []
    from sklearn.datasets import load_sample_images

    return [np.ascontiguousarray(image[:, :427]) for image in load_sample_images().images]


def clip_like_trained(architecture: str, precision: str) -> ClipEncoder:
    torch.manual_seed(0)
    clip = random_clip(architecture)
    like_trained(clip.model.visual.transformer.resblocks)
    if precision == "bf16":
        clip = random_clip(architecture, "bf16", like=clip.model)
    if precision == "int8":
        compute_in_int8(clip.int8_host())
    return clip


@torch.no_grad()
def like_trained(blocks: Sequence[Any], seed: int = 0) -> None:
    """Fill blocks of `open_clip`'s as training fills them, as far as rounding goes.

    Weights have heavy tails (Student's t with five degrees of freedom); the gains of norms spread by half, and one
    channel of a hundred has eight times as much; a few channels of the residual stream are forty times as large as the
    others from the second block on, and the norms behind weigh them little (Sun et al., "Massive Activations", 2024);
    some neurons of each MLP answer six times as loudly.
    """
    chance, dice = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    width = blocks[0].ln_1.weight.shape[0]
    massive = torch.randperm(width, generator=chance)[:3]

    def heavy(weight: Tensor, scale: float = 1.0) -> None:
        tails = torch.from_numpy(dice.standard_t(5, size=tuple(weight.shape))).float() / math.sqrt(5 / 3)
        weight.copy_(tails * scale * weight.shape[1] ** -0.5)

    for block in blocks:
        attention, mlp = block.attn, block.mlp
        for weight, scale in (
            (attention.in_proj_weight, 1.0),
            (attention.out_proj.weight, 0.5),
            (mlp.c_fc.weight, 1.0),
            (mlp.c_proj.weight, 0.7),
        ):
            heavy(weight, scale)
        attention.in_proj_weight[: 2 * width] *= 1.5
        for bias in (attention.in_proj_bias, attention.out_proj.bias, mlp.c_proj.bias):
            bias.normal_(0, 0.1, generator=chance)
        mlp.c_fc.bias.normal_(-0.5, 0.5, generator=chance)
        for norm in (block.ln_1, block.ln_2):
            _weigh(norm, chance, massive)
        loud = torch.randperm(4 * width, generator=chance)[:8]
        mlp.c_fc.weight[loud] *= 6
    blocks[1].mlp.c_proj.bias[massive] += 40 * torch.tensor([1.0, -1.0, 0.5])


def _weigh(norm: nn.LayerNorm, chance: torch.Generator, massive: Tensor) -> None:
    width = len(norm.weight)
    norm.weight.normal_(0, 0.4, generator=chance).exp_().mul_(0.6)
    norm.bias.normal_(0, 0.2, generator=chance)
    norm.weight[torch.randperm(width, generator=chance)[: width // 100]] *= 8
    norm.weight[massive] = 0.03


def said_of(clip: ClipEncoder, pictures: Tensor) -> Tensor:
    return clip.dense(pictures).values.flatten(2).transpose(1, 2)  # (B, h*w, D)


def names_among(said: Tensor, count: int = COUNT, seed: int = 0) -> Tensor:
    """Return unit vectors (count, D): of patches (n, D) chosen by chance, what tells each from their mean, with as much
    noise. What is common to all patches favours no name.
    """
    chance = torch.Generator().manual_seed(1 + seed)
    said = F.normalize(said.float(), dim=1)
    common = said.mean(dim=0)
    own = said[torch.randperm(len(said), generator=chance)[:count]] - common
    noise = torch.randn(own.shape, generator=chance) * own.norm(dim=1).mean() * own.shape[1] ** -0.5
    common = F.normalize(common, dim=0)
    names = own + noise
    return F.normalize(names - (names @ common)[:, None] * common, dim=1)


@torch.inference_mode()
def read_by(segmenter: Any, pictures: Tensor) -> Tensor:
    """Return what a segmenter compares with names (n, D): of patches, or of windows of a quarter of pictures' sides."""
    if not isinstance(segmenter, ClipDiy):
        return segmenter.read(pictures)[0].flatten(2).transpose(1, 2).flatten(0, 1)
    side = pictures.shape[-1] // 4
    windows = pictures.unfold(2, side, side // 2).unfold(3, side, side // 2).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    large = F.interpolate(windows, size=segmenter.clip.image_size, mode="bicubic")
    return segmenter.clip.encode_image(large.clamp(0, 1))


VOCABULARY = Vocabulary.of([f"name {number}" for number in range(COUNT)])


def _dinoiser(clip: ClipEncoder, seed: int) -> ClipDinoiser:
    torch.manual_seed(seed)
    heads = DinoiserHeads(768).eval().requires_grad_(False)
    return ClipDinoiser(clip, heads, ClipDinoiserSettings(templates="plain"))


MAKERS: dict[str, Callable[[ClipEncoder, int], Any]] = {
    "maskclip": lambda clip, seed: MaskClip(clip, MaskClipSettings(templates="plain")),
    "clip-diy": lambda clip, seed: ClipDiy(
        clip, ClipDiySettings(templates="plain", saliency="none", shorter_side=SIDE)
    ),
    "clip-dinoiser": _dinoiser,
}
DRAWN = ("clip-dinoiser",)
"""Part of them is drawn by the seed, so that they look anew."""


if __name__ == "__main__":
    main()
