"""How fast MaskCLIP runs, how much memory it takes, and how much of the time is not the network's.

    python benchmarks/maskclip_speed.py [--pictures 16] [--threads 2] [--precision fp32]

ViT-B/16 with random weights (speed does not depend on them), shorter side 448, 21 names, pictures of 500 x 375 (VOC's
usual size) read from JPEG files. Every batch size runs in a process of its own, so that its peak memory is its own;
"before pictures" is the peak with the model loaded and PyTorch's libraries, before any picture is read.
"Outside" is the share of the time in which the image tower does not run: waiting for pictures to be read, resizing,
cutting, scoring, upsampling, argmax. Run it on a machine that does nothing else.
"""

import argparse
import multiprocessing
import platform
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

NAMES = ["background", *(f"thing {index}" for index in range(20))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    arguments = parser.parse_args()
    print(f"{processor()}, {arguments.threads} threads, {arguments.precision}, {len(NAMES)} names, 448 windows")
    print("batch  pictures/s  windows/s  peak memory  before pictures  outside the network")
    context = multiprocessing.get_context("spawn")
    for batch_size in arguments.batch_sizes:
        with ProcessPoolExecutor(1, mp_context=context) as alone:
            row = alone.submit(measure, batch_size, arguments).result()
        print(
            f"{batch_size:5}  {row['pictures']:10.2f}  {row['windows']:9.2f}  {row['peak']:8.0f} MB  "
            f"{row['model']:12.0f} MB  {row['outside']:18.1%}"
        )


def measure(batch_size: int, arguments: argparse.Namespace) -> dict[str, float]:
    import numpy as np
    import torch
    from PIL import Image
    from random_clip import CONTEXT, random_clip

    from wordmask.names.vocabulary import Vocabulary
    from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    encoder = random_clip(
        "ViT-B-16", arguments.precision, tokenizer=lambda prompts: torch.randint(1, 40_000, (len(prompts), CONTEXT))
    )
    with tempfile.TemporaryDirectory() as folder:
        segmenter = MaskClip(encoder, MaskClipSettings(templates="plain"))
        segmenter.embed.cache.path = Path(folder) / "text.sqlite"
        names = Vocabulary.of(NAMES)
        segmenter.embed(names)
        generator = np.random.default_rng(0)
        paths = []
        for index in range(arguments.pictures):
            coarse = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            paths.append(Path(folder) / f"{index}.jpg")
            Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
        model_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        list(segmenter.segment_many(paths[:batch_size], names, batch_size=batch_size))  # warm up

        network = 0.0
        windows = 0
        dense = encoder.dense

        def timed(images: "torch.Tensor", **options: object) -> object:
            nonlocal network, windows
            start = time.perf_counter()
            read = dense(images, **options)  # type: ignore[arg-type]
            network += time.perf_counter() - start
            windows += len(images)
            return read

        encoder.dense = timed  # type: ignore[method-assign, assignment]
        start = time.perf_counter()
        for _ in segmenter.segment_many(paths, names, batch_size=batch_size):
            pass
        total = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "pictures": arguments.pictures / total,
        "windows": windows / total,
        "peak": peak,
        "model": model_peak,
        "outside": 1 - network / total,
    }


def processor() -> str:
    """The machine's processor, as it calls itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
