"""All that takes a CUDA device, in one run of under eight minutes: tests, and how fast methods are there.

    python benchmarks/on_accelerator.py [--minutes 8] [--batch 16] [--tf32] [--compile]
    python benchmarks/on_accelerator.py --dry            # on the processor, small: whether the script still runs

Prints, in this order: the card; the slow tests that need CUDA (`tests/test_cuda.py`); of each network the pictures a
second of the authors' way written down with PyTorch, of ours in fp32 and of ours in bf16, all in turns in one process,
with ours' share of what a large matrix product reaches on the same card in the same precision, the peak of its memory,
and how often its labels are those of fp32; how fast pictures come to the card, from pageable and from pinned memory;
and how fast JPEG files are decoded, by this package's threads and, where torchvision was built with it, by the card.
Networks are of full size with random weights, on which speed does not hang. `--tf32` lets fp32 round what it
multiplies, as `WORDMASK_TF32=1` does. `--compile` adds a student compiled for its shape, and says after how many
pictures that has paid back. No part begins after the time is over, and what is left out is told.
"""

import argparse
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
import torch
import torch.nn.functional as F
from clip_dinoiser_speed import plain_forward
from maskclip_speed import NAMES, processor
from PIL import Image
from random_clip import random_clip
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from support import plain_deeplab
from wordmask.compute import set_tf32
from wordmask.encoders.clip import ClipEncoder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.accelerator import on_device
from wordmask.pictures.images import read_image, to_tensor
from wordmask.saliency.selfmask import SelfMask
from wordmask.saliency.selfmask_network import SelfMaskNetwork, SelfMaskShape
from wordmask.segmenters.clip_dinoiser import ClipDinoiser, ClipDinoiserSettings, DinoiserHeads
from wordmask.segmenters.clip_diy import ClipDiy, ClipDiySettings
from wordmask.segmenters.deeplab import DeepLabV3Plus
from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings, ready
from wordmask.segmenters.student_file import Student
from wordmask.weights.loading import load_into

ROOT = Path(__file__).parent.parent
VOCABULARY = Vocabulary.of(NAMES)
READERS = 8
PRECISIONS = ("fp32", "bf16")
Way = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--batch", type=int, default=16, help="pictures that a method is given together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    for option in ("tf32", "compile", "dry"):
        parser.add_argument(f"--{option}", action="store_true")
    told = parser.parse_args()
    if not told.dry and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here: take a machine that has one, or try the script with --dry")
    bench = Bench("cpu" if told.dry else "cuda", told)
    for name in told.only:
        if bench.left() <= 0:
            print(f"{name}: left out, as {told.minutes:g} minutes are over", flush=True)
            continue
        print(f"\n{name}", flush=True)
        torch.manual_seed(0)
        PARTS[name](bench)
    if bench.failed:
        raise SystemExit("tests failed")


class Bench:
    """The device, what was asked for, and how much time is left."""

    def __init__(self, device: str, told: argparse.Namespace):
        self.device, self.told, self.failed = torch.device(device), told, False
        self.end = time.perf_counter() + 60 * told.minutes
        self.batch, self.rounds = (1, 1) if told.dry else (told.batch, told.rounds)
        self.tall, self.wide = (64, 96) if told.dry else (448, 448)
        set_tf32("1" if told.tf32 else "0")

    def left(self) -> float:
        return self.end - time.perf_counter()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, way: Way) -> float:
        self.wait()
        start = time.perf_counter()
        way()
        self.wait()
        return time.perf_counter() - start

    def peak_memory(self, way: Way) -> float:
        """Return the MiB that a way takes at its most; NaN on a processor."""
        if self.device.type != "cuda":
            return float("nan")
        torch.cuda.reset_peak_memory_stats(self.device)
        way()
        self.wait()
        return torch.cuda.max_memory_allocated(self.device) / 2**20

    def taking_turns(self, ways: dict[str, Way]) -> dict[str, float]:
        """Return the least seconds of each, behind a first time that chooses kernels."""
        for way in ways.values():
            self.seconds(way)
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(self.rounds):
            for name, way in ways.items():
                best[name] = min(best[name], self.seconds(way))
        return best

    def reached(self, precision: str) -> float:
        """Return the FLOP a second of a large matrix product."""
        side = 256 if self.told.dry else 8192
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        one = torch.randn(side, side, device=self.device, dtype=dtype)
        way = lambda: one @ one  # noqa: E731
        return 2 * side**3 / min(self.seconds(way) for _ in range(5))

    def report(self, what: str, plain: Way, ours: dict[str, Way], pictures: int) -> None:
        """Print a row for each way. They answer with the labels of `pictures` pictures."""
        with torch.inference_mode():
            ways = {"plain fp32": plain, **ours}
            seconds = self.taking_turns(ways)
            with FlopCounterMode(display=False) as counter:
                exact = ours["fp32"]()
            work = counter.get_total_flops()
            for name, way in ways.items():
                line = f"{what:34} {name:10} {pictures / seconds[name]:8.1f} pictures/s"
                line += f" {seconds['plain fp32'] / seconds[name]:6.2f}x"
                if name in PRECISIONS:
                    same = np.mean(np.asarray(way()) == np.asarray(exact))
                    share = work / seconds[name] / self.reached(name)
                    line += f" {share:6.1%} of a product's speed, same labels {same:.2%}"
                print(f"{line}, {self.peak_memory(way):.0f} MiB", flush=True)


def card(bench: Bench) -> None:
    print(f"{processor()}, torch {torch.__version__}")
    if bench.device.type == "cuda":
        own, (free, _) = torch.cuda.get_device_properties(bench.device), torch.cuda.mem_get_info(bench.device)
        print(f"{own.name}, {own.total_memory / 2**30:.0f} GiB of memory, {free / 2**30:.0f} GiB of them free")
        print(
            f"fused attention: flash {torch.backends.cuda.flash_sdp_enabled()}, cuDNN {torch.backends.cudnn.version()}"
        )
    for precision in PRECISIONS:
        print(f"a large matrix product in {precision}: {bench.reached(precision) / 1e12:.2f} TFLOP/s")


def tests(bench: Bench) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "slow",
        "-p",
        "no:cacheprovider",
        str(ROOT / "tests/test_cuda.py"),
    ]
    environment = {**os.environ, **({"WORDMASK_DRY": "1"} if bench.told.dry else {})}
    try:
        bench.failed |= subprocess.run(command, cwd=ROOT, env=environment, timeout=max(1, bench.left())).returncode != 0
    except subprocess.TimeoutExpired:
        print("tests: stopped, as the time is over")
        bench.failed = True


def pictures(count: int, height: int, width: int) -> list[np.ndarray]:
    dice = np.random.default_rng(0)
    coarse = [Image.fromarray(dice.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(count)]
    return [np.asarray(own.resize((width, height), Image.Resampling.BICUBIC)) for own in coarse]


def clips(architecture: str, bench: Bench) -> dict[str, ClipEncoder]:
    exact = random_clip(architecture, device=bench.device)
    return {"fp32": exact, "bf16": random_clip(architecture, "bf16", like=exact.model, device=bench.device)}


def asking(segmenter: Any, images: Sequence[np.ndarray], text: Tensor | None = None) -> Way:
    if text is not None:
        segmenter.embed._seen = dict(zip(VOCABULARY.all_phrases, text, strict=True))
    names = [""] * len(images)
    return lambda: [seen.segment(VOCABULARY, fill=True).labels for seen in segmenter.look_many(images, names)]


def text_of(bench: Bench) -> Tensor:
    return F.normalize(torch.randn(len(VOCABULARY.all_phrases), 512), dim=-1)


def clip_dinoiser(bench: Bench) -> None:
    images = pictures(bench.batch, 448, 448)  # the plain way's size
    text, encoders = text_of(bench), clips("ViT-B-16", bench)
    heads = DinoiserHeads(768).eval().requires_grad_(False).to(bench.device)
    settings, there = ClipDinoiserSettings(templates="plain"), text.to(bench.device)

    def plain() -> list[np.ndarray]:
        return [plain_forward(encoders["fp32"], heads, there, image).cpu().numpy() for image in images]

    ours = {name: asking(ClipDinoiser(clip, heads, settings), images, text) for name, clip in encoders.items()}
    bench.report("CLIP-DINOiser, ViT-B/16, 448 x 448", plain, ours, len(images))


def clip_diy(bench: Bench) -> None:
    images, text, encoders = pictures(bench.batch, bench.tall, bench.wide), text_of(bench), clips("ViT-B-32", bench)
    side = min(bench.tall, bench.wide)
    settings = ClipDiySettings(
        windows=(256, 128, 64) if side == 448 else (64, 32), templates="plain", saliency="none", shorter_side=side
    )
    own = {name: ClipDiy(clip, settings) for name, clip in encoders.items()}
    exact, there = encoders["fp32"], text.to(bench.device)

    def plain() -> list[np.ndarray]:
        return [diy_in_one_forward_a_scale(own["fp32"], exact, there, image) for image in images]

    ours = {name: asking(segmenter, images, text) for name, segmenter in own.items()}
    bench.report(f"CLIP-DIY, ViT-B/32, {bench.tall} x {bench.wide}", plain, ours, len(images))


def diy_in_one_forward_a_scale(diy: ClipDiy, clip: ClipEncoder, text: Tensor, image: np.ndarray) -> np.ndarray:
    pixels, maps = torch.from_numpy(image.copy()).permute(2, 0, 1).to(clip.device), 0
    size = (pixels.shape[1], pixels.shape[2])
    for window in diy.settings.windows:
        plan = diy._plan(pixels, window)
        windows = F.interpolate(plan.cut(pixels).float() / 255, size=clip.image_size, mode="bicubic")
        embedded = F.normalize(clip.model.encode_image(clip.statistics.normalise(windows)), dim=-1)
        grid = (embedded @ text.T).T.view(len(text), *plan.grid)
        maps = maps + F.interpolate(grid[None], size=size, mode="bilinear")[0]
    return maps.argmax(dim=0).cpu().numpy()


def selfmask(bench: Bench) -> None:
    network = SelfMaskNetwork(SelfMaskShape()).eval().requires_grad_(False)
    copy = SelfMaskNetwork(SelfMaskShape()).eval()
    copy.load_state_dict(network.state_dict())
    images = pictures(bench.batch, bench.tall, bench.wide)
    own = {
        name: SelfMask(each, device=str(bench.device), precision=name)
        for name, each in zip(PRECISIONS, (network, copy), strict=True)
    }
    ours = {name: lambda method=method: [m > 0.5 for m in method.maps(images)] for name, method in own.items()}
    plain = lambda: [own["fp32"].maps([image])[0] > 0.5 for image in images]  # noqa: E731
    bench.report("SelfMask, ViT-S/8 (plain: alone)", plain, ours, len(images))


def student(bench: Bench) -> None:
    state, side = plain_deeplab.random_checkpoint(len(NAMES)), 64 if bench.told.dry else 384
    images, size = pictures(bench.batch, side, side), NamedMaskSettings(longer_side=side)

    def network() -> DeepLabV3Plus:
        new = DeepLabV3Plus(len(NAMES)).eval()
        load_into(new, state, what="a random checkpoint")
        return new

    own = {
        p: NamedMask(Student(network(), VOCABULARY, {}), size, device=str(bench.device), precision=p)
        for p in PRECISIONS
    }
    bare = network().to(bench.device)
    seen = bare.statistics.normalise(torch.stack([to_tensor(image) for image in images])).to(bench.device)
    plain = lambda: bare(seen).argmax(dim=1).cpu().numpy()  # noqa: E731
    bench.report(
        f"DeepLabV3+, {side} x {side}", plain, {p: asking(each, images) for p, each in own.items()}, len(images)
    )
    if bench.told.compile:
        compiled(bench, bare, seen)


def compiled(bench: Bench, network: DeepLabV3Plus, seen: Tensor) -> None:
    """Say after how many pictures a student that is compiled for its shape has made up for the compiling."""
    own = ready(network, "bf16")
    batch = seen.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    faster = torch.compile(own.features, mode="reduce-overhead" if bench.device.type == "cuda" else "default")
    with torch.inference_mode():
        spent = bench.seconds(lambda: faster(batch))
        seconds = bench.taking_turns({"plain": lambda: own.features(batch), "compiled": lambda: faster(batch)})
    gained = (seconds["plain"] - seconds["compiled"]) / len(seen)
    after = f"after {spent / gained:,.0f} pictures of this size" if gained > 0 else "never"
    print(f"compiled, bf16: {seconds['plain'] / seconds['compiled']:.2f}x, {spent:.0f} s to compile: pays back {after}")


def transfers(bench: Bench) -> None:
    values = torch.rand(bench.batch, 3, bench.tall, bench.wide)
    ways: dict[str, Way] = {
        "pageable": lambda: values.to(bench.device),
        "pinned": lambda: on_device(values, bench.device),
    }
    for name, seconds in bench.taking_turns(ways).items():
        print(f"{name}: {values.nbytes / seconds / 1e9:.2f} GB/s")


def decoding(bench: Bench) -> None:
    files = []
    for image in pictures(4 if bench.told.dry else 64, 480, 640):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=92)
        files.append(buffer.getvalue())
    with ThreadPoolExecutor(READERS) as pool:
        seconds = bench.taking_turns({"threads": lambda: list(pool.map(read_image, files))})["threads"]
    print(f"640 x 480 by {READERS} threads: {len(files) / seconds:.0f} pictures/s")
    if bench.device.type != "cuda":
        print("by the card: there is none")
        return
    from torchvision.io import ImageReadMode, decode_jpeg

    told = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    try:
        seconds = bench.taking_turns({"card": lambda: decode_jpeg(told, mode=ImageReadMode.RGB, device=bench.device)})[
            "card"
        ]
    except RuntimeError as error:
        print(f"by the card: torchvision cannot ({str(error).splitlines()[0]})")
    else:
        print(f"640 x 480 by the card: {len(files) / seconds:.0f} pictures/s")


PARTS: dict[str, Callable[[Bench], None]] = {
    "card": card,
    "tests": tests,
    "clip-dinoiser": clip_dinoiser,
    "clip-diy": clip_diy,
    "selfmask": selfmask,
    "deeplab": student,
    "transfers": transfers,
    "decoding": decoding,
}


if __name__ == "__main__":
    main()
