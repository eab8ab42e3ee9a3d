"""The authors' way in fp32, ours in fp32, bf16 and int8, and ours as it chooses by itself, side by side in one run.

    python benchmarks/precision_speed.py [--rounds 5] [--threads 2] [--seeds 5] [--only clip-diy selfmask]

Full-size networks with random weights (speed does not depend on them; CLIP's are like trained ones in what makes
rounding hard, see `same_labels.py`), one picture each. The authors' way is their
equations written down with PyTorch: CLIP-DINOiser by a plain forward (`clip_dinoiser_speed.py`), CLIP-DIY by one
forward of all windows of a scale, SelfMask with attention as it stands in DINO and all layers' masks, DeepLabV3+ by its
modules in the usual order of memory, the bilateral solver as in `bilateral_solver_speed.py`. All ways of a row take
turns in one process, and the least time of each counts; behind it stands how many times as fast as the authors' way it
is, and how many pixels have the label that ours gives them in fp32: the mean and the least of several seeds, which draw
names and heads, or, where there are none, pictures. What auto chose is named. Run it on a machine that does nothing
else.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.pop("WORDMASK_PRECISION", None)
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
import torch
import torch.nn.functional as F
from clip_dinoiser_speed import plain_forward
from maskclip_speed import NAMES, processor
from PIL import Image
from random_clip import random_clip
from same_labels import like_trained, names_among, read_by
from torch import Tensor

from support import plain_bilateral, plain_deeplab
from wordmask.compute import Compute, has_int8
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import build_clip
from wordmask.encoders.precision import MEASURED, Sample, confirmed, settled
from wordmask.encoders.samples import clip_sample
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.refinement.bilateral_solver import solve
from wordmask.saliency.selfmask import SelfMask
from wordmask.saliency.selfmask_network import STATISTICS, SelfMaskNetwork, SelfMaskShape
from wordmask.segmenters.clip_dinoiser import ClipDinoiser, ClipDinoiserSettings, DinoiserHeads
from wordmask.segmenters.clip_diy import ClipDiy, ClipDiySettings
from wordmask.segmenters.deeplab import DeepLabV3Plus
from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings
from wordmask.segmenters.student_file import Student
from wordmask.weights.loading import load_into

SIDE = 448
Way = Callable[[int], Any]
"""Does the work once, by a seed; gives what can be compared. That of seed 0 is timed."""
OTHERS = ("bf16", "int8") if has_int8() else ("bf16",)
Row = tuple[str, dict[str, Way], str]
"""What is done, the ways, and what auto chose."""
VOCABULARY = Vocabulary.of(NAMES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="by default torch's own number")
    parser.add_argument("--seeds", type=int, default=5, help="that labels are compared for")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {arguments.rounds} rounds")
    ways_told = "".join(f"{name:>36}" for name in ("ours fp32", *OTHERS, "auto"))
    print(f"{'':46}  authors'{ways_told}")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["WORDMASK_CACHE"] = cache
        for name in arguments.only:
            torch.manual_seed(0)
            with MEASURED.anew(), torch.inference_mode():
                what, ways, chosen = ROWS[name](arguments.seeds)
            seconds = taking_turns(ways, arguments.rounds)
            same = same_labels(ways, arguments.seeds)
            first = seconds["authors"]
            told = [f"{what:46}  {first:6.3f} s"]
            for way in ("fp32", *OTHERS, "auto"):
                if way in ways:
                    kept = same[chosen if way == "auto" else way]
                    share = f"{np.mean(kept):7.2%}, least {min(kept):7.2%}"
                    told.append(f"{seconds[way]:6.3f} s ({first / seconds[way]:4.2f}x, {share})")
                else:
                    told.append(f"{'-':>34}")
            told.append(chosen)
            print("  ".join(told), flush=True)


def taking_turns(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Return the least seconds of each way."""
    for way in ways.values():
        way(0)  # warms up
    seconds = dict.fromkeys(ways, float("inf"))
    order = list(ways)
    for _ in range(rounds):
        for name in order:
            start = time.perf_counter()
            ways[name](0)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
        order.reverse()
    return seconds


@torch.inference_mode()
def same_labels(ways: dict[str, Way], seeds: int) -> dict[str, list[float]]:
    """Return, of each precision, the share of pixels with the label of ours in fp32, seed by seed."""
    exact = [np.asarray(ways["fp32"](seed)) for seed in range(seeds)]
    return {
        name: [float(np.mean(np.asarray(way(seed)) == exact[seed])) for seed in range(seeds)]
        for name, way in ways.items()
        if name not in ("authors", "auto")
    }


def picture(height: int = SIDE, width: int = SIDE, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def clips(architecture: str) -> dict[str, ClipEncoder]:
    """Return one CLIP by what it computes in."""
    exact = random_clip(architecture).model
    like_trained(exact.visual.transformer.resblocks)

    def sample() -> Sample:
        return clip_sample(architecture, lambda own: build_clip(architecture, precision=own, device="meta"))

    def make(chosen: Compute) -> ClipEncoder:
        return random_clip(architecture, chosen.of_parameters, like=exact)

    found = {}
    for way in ("fp32", *OTHERS, "auto"):
        chosen = settled(Compute("cpu", way), sample)
        found[way] = confirmed(make(chosen), ClipEncoder.int8_host, chosen, sample if way == "auto" else None, make)
    return found


def asking(segmenters: Sequence[Any], image: np.ndarray, texts: Sequence[Tensor]) -> Way:
    """Each seed has its own names, and its own segmenter, if there is not one for all: that looks once for the others,
    as what it sees has nothing of the seed.
    """
    seen: list[Any] = []

    def ask(seed: int) -> np.ndarray:
        segmenter = segmenters[seed % len(segmenters)]
        segmenter.embed._seen = dict(zip(VOCABULARY.all_phrases, texts[seed], strict=True))
        if seed < len(segmenters):
            return segmenter.segment(image, VOCABULARY, fill=True).labels
        if not seen:
            seen.append(segmenter.look(image))
        return seen[0].segment(VOCABULARY, fill=True).labels

    return ask


def text_of(segmenter: Any, image: np.ndarray, seed: int) -> Tensor:
    """Return names that tell places of a picture apart."""
    said = read_by(segmenter, to_tensor(image, (SIDE, SIDE))[None])
    return names_among(said, len(VOCABULARY.all_phrases), seed)


def clip_dinoiser(seeds: int) -> Row:
    found = clips("ViT-B-16")
    heads, image = [DinoiserHeads(768).eval().requires_grad_(False) for _ in range(seeds)], picture()
    settings = ClipDinoiserSettings(templates="plain")
    texts = [text_of(ClipDinoiser(found["fp32"], own, settings), image, seed) for seed, own in enumerate(heads)]
    ours = {
        way: asking([ClipDinoiser(clip, own, settings) for own in heads], image, texts) for way, clip in found.items()
    }
    authors = {"authors": lambda seed: plain_forward(found["fp32"], heads[seed], texts[seed], image)}
    return f"CLIP-DINOiser, ViT-B/16, {SIDE} x {SIDE}", authors | ours, found["auto"].precision


def clip_diy(seeds: int) -> Row:
    found = clips("ViT-B-32")
    exact, image = found["fp32"], picture()
    settings = ClipDiySettings(windows=(256, 128, 64), templates="plain", saliency="none", shorter_side=SIDE)
    ours = ClipDiy(exact, settings)
    texts = [text_of(ours, image, seed) for seed in range(seeds)]
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
    plans = [ours._plan(pixels, window) for window in settings.windows]

    def authors(seed: int) -> np.ndarray:
        """All windows of a scale through the tower at once, then the mean of the scales' maps."""
        text = texts[seed]
        maps = torch.zeros(len(text), SIDE, SIDE)
        for plan in plans:
            windows = F.interpolate(plan.cut(pixels).float() / 255, size=exact.image_size, mode="bicubic")
            embedded = F.normalize(exact.model.encode_image(exact.statistics.normalise(windows)), dim=-1)
            grid = (embedded @ text.T).T.view(len(text), *plan.grid)
            maps += F.interpolate(grid[None], size=(SIDE, SIDE), mode="bilinear")[0] / len(plans)
        return maps.softmax(dim=0).argmax(dim=0).numpy()

    ways: dict[str, Way] = {"authors": torch.inference_mode()(authors)}
    ways |= {way: asking([ClipDiy(clip, settings)], image, texts) for way, clip in found.items()}
    return f"CLIP-DIY, ViT-B/32, {sum(map(len, plans))} windows", ways, found["auto"].precision


def selfmask(seeds: int) -> Row:
    network = SelfMaskNetwork(SelfMaskShape()).eval().requires_grad_(False)
    images = [picture(320, 448, seed) for seed in range(seeds)]
    encoder = network.encoder
    heads = encoder.blocks[0].attn.num_heads

    def block(own: Any, x: Tensor) -> Tensor:
        """As in DINO: the whole matrix of attention, then the values."""
        count, tokens, width = x.shape
        parts = own.attn.qkv(own.norm1(x)).view(count, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        attention = (q @ k.transpose(-2, -1) * (width // heads) ** -0.5).softmax(dim=-1)
        x = x + own.attn.proj((attention @ v).transpose(1, 2).reshape(count, tokens, width))
        return x + own.mlp(own.norm2(x))

    def authors(seed: int) -> np.ndarray:
        seen = to_tensor(images[seed], (320, 448))[None]
        x = encoder.patch_embed.proj(STATISTICS.normalise(seen))
        grid = x.shape[-2:]
        positions = encoder.pos_embed[:, 1:].view(1, *encoder.patch_embed.grid_size, -1).permute(0, 3, 1, 2)
        positions = F.interpolate(positions, size=grid, mode="bicubic").flatten(2).transpose(1, 2)
        x = torch.cat([encoder.cls_token + encoder.pos_embed[:, :1], x.flatten(2).transpose(1, 2) + positions], dim=1)
        for own in encoder.blocks:
            x = block(own, x)
        tokens = encoder.norm(x)[:, 1:]
        readings = network.decoder(network.queries, tokens)
        pixels = F.interpolate(tokens.transpose(1, 2).unflatten(2, tuple(grid)), scale_factor=2, mode="bilinear")
        masks = torch.einsum("lbqd,bdhw->lbqhw", readings, pixels).sigmoid()
        best = network.objectness(readings)[-1, 0, :, 0].argmax()
        return (F.interpolate(masks[-1, :, best][None], size=(320, 448), mode="bilinear")[0, 0] > 0.5).numpy()

    def own(precision: str) -> SelfMask:
        copy = SelfMaskNetwork(SelfMaskShape()).eval()
        copy.load_state_dict(network.state_dict())
        return SelfMask(copy, device="cpu", precision=precision)

    ours = {way: own(way) for way in ("fp32", *OTHERS, "auto")}
    ways: dict[str, Way] = {"authors": torch.inference_mode()(authors)}
    ways |= {name: lambda seed, own=own: own.maps([images[seed]])[0] > 0.5 for name, own in ours.items()}
    return "SelfMask, ViT-S/8, 320 x 448", ways, ours["auto"].precision


def deeplab(seeds: int) -> Row:
    state, images = plain_deeplab.random_checkpoint(len(NAMES)), [picture(384, 384, seed) for seed in range(seeds)]
    size = NamedMaskSettings(longer_side=384)

    def network() -> DeepLabV3Plus:
        new = DeepLabV3Plus(len(NAMES)).eval()
        load_into(new, state, what="a random checkpoint")
        return new

    def student(precision: str) -> NamedMask:
        return NamedMask(Student(network(), VOCABULARY, {}), size, device="cpu", precision=precision)

    ours, plain = {name: student(name) for name in ("fp32", *OTHERS, "auto")}, network()

    def authors(seed: int) -> np.ndarray:
        seen = plain.statistics.normalise(to_tensor(images[seed], (384, 384))[None])
        return plain(seen).argmax(dim=1)[0].numpy()

    ways: dict[str, Way] = {"authors": torch.inference_mode()(authors)}
    ways |= {
        name: lambda seed, own=own: own.segment(images[seed], VOCABULARY, fill=True).labels
        for name, own in ours.items()
    }
    return "DeepLabV3+, ResNet-50, 384 x 384", ways, ours["auto"].precision


def solver(seeds: int) -> Row:
    images = [picture(384, 512, seed) for seed in range(seeds)]
    target = np.zeros((384, 512))
    target[96:-128, 128:-128] = 1
    ways: dict[str, Way] = {
        "authors": lambda seed: plain_bilateral.solve_sparse(images[seed], target),
        "fp32": lambda seed: solve(images[seed], target),
    }
    return "bilateral solver, 384 x 512 (fp64, one way)", ways, "fp64"


ROWS: dict[str, Callable[[int], Row]] = {
    "clip-dinoiser": clip_dinoiser,
    "clip-diy": clip_diy,
    "selfmask": selfmask,
    "deeplab": deeplab,
    "solver": solver,
}


if __name__ == "__main__":
    main()
