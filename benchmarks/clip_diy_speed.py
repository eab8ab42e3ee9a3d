"""CLIP-DIY against a plain loop over its windows: time, memory, and whether the answers are the same.

    python benchmarks/clip_diy_speed.py [--pictures 4] [--threads 2] [--size 448]

ViT-B/32 with random weights (speed does not depend on them), windows of 256, 128 and 64, 21 names, no objectness. The
plain loop is the paper's equations written down: crop with Pillow, resize with Pillow, one forward of open_clip's own
model at a time, in fp32; then upsample, average, softmax, argmax. Every way runs in a process of its own, one after the
other, so that its peak memory is its own; "above the model" is what it takes beyond the loaded model and PyTorch's
libraries. Run it on a machine that does nothing else.
"""

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from maskclip_speed import NAMES, processor

WINDOWS = (256, 128, 64)
WAYS = {"plain loop, fp32": "loop", "wordmask, fp32": "fp32", "wordmask, bf16": "bf16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=448, help="pixels on a side of each picture")
    parser.add_argument("--windows", type=int, nargs="+", default=list(WINDOWS))
    arguments = parser.parse_args()
    print(f"{processor()}, {arguments.threads} threads, {arguments.pictures} pictures of {arguments.size} pixels")
    print("way               s/picture  times as fast  same label  furthest score  above the model")
    context = multiprocessing.get_context("spawn")
    first: dict[str, Any] = {}
    for label, way in WAYS.items():
        with ProcessPoolExecutor(1, mp_context=context) as alone:
            row = alone.submit(measure, way, arguments).result()
        first = first or row
        same = (row["labels"] == first["labels"]).mean()
        far = abs(row["scores"] - first["scores"]).max()
        print(
            f"{label:16}  {row['seconds']:9.2f}  {first['seconds'] / row['seconds']:13.2f}  {same:10.2%}  "
            f"{far:14.1e}  {row['memory']:12.0f} MB"
        )


def measure(way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import torch
    from PIL import Image
    from random_clip import random_clip

    from wordmask.names.vocabulary import Vocabulary
    from wordmask.segmenters.clip_diy import ClipDiy, ClipDiySettings

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    encoder = random_clip("ViT-B-32")
    if way == "bf16":
        encoder = random_clip("ViT-B-32", "bf16", like=encoder.model)
    generator = np.random.default_rng(0)
    side = arguments.size
    pictures = []
    for _ in range(arguments.pictures):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        pictures.append(np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)))
    text = torch.nn.functional.normalize(torch.randn(len(NAMES), 512), dim=-1)
    chosen = ClipDiySettings(
        windows=tuple(arguments.windows), templates="plain", saliency="none", shorter_side=arguments.size
    )
    names = Vocabulary.of(NAMES)
    with tempfile.TemporaryDirectory() as folder:
        segmenter = ClipDiy(encoder, chosen)
        segmenter.embed.cache.path = Path(folder) / "text.sqlite"
        segmenter.embed._seen = dict(zip(names.all_phrases, text, strict=True))

        def segment(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if way == "loop":
                return plain_loop(encoder, image, text, arguments.windows)
            result = segmenter.segment(image, names, fill=True)
            assert result.scores is not None
            return result.labels, result.scores

        encoder.encode_image(torch.zeros(1, 3, 224, 224))
        Path("/proc/self/clear_refs").write_text("5")  # forget what loading took at its most
        loaded = peak_memory()
        segment(pictures[0])  # warm up
        start = time.perf_counter()
        answers = [segment(picture) for picture in pictures]
        seconds = (time.perf_counter() - start) / len(pictures)
    labels, scores = (np.stack(part) for part in zip(*answers, strict=True))
    return {"seconds": seconds, "labels": labels, "scores": scores, "memory": peak_memory() - loaded}


def peak_memory() -> float:
    """In MB, since it was last forgotten."""
    told = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in told if line.startswith("VmHWM")) / 1024


def plain_loop(encoder: Any, image: Any, text: Any, windows: list[int]) -> tuple[Any, Any]:
    """Equations 1, 2 and 4, one window at a time."""
    import numpy as np
    import torch
    from PIL import Image

    from wordmask.pictures.windows import SlidingWindows

    picture = Image.fromarray(image)
    total = torch.zeros(len(text), *image.shape[:2])
    for window in windows:
        plan = SlidingWindows(image.shape[0], image.shape[1], window, window // 2)
        similarities = []
        for box in plan.boxes:
            crop = picture.crop((box.left, box.top, box.right, box.bottom)).resize((224, 224), Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None].float() / 255
            with torch.inference_mode():
                embedding = encoder.model.encode_image(encoder.statistics.normalise(pixels), normalize=True)[0]
            similarities.append(text @ embedding)
        grid = torch.stack(similarities, dim=1).view(1, len(text), *plan.grid)
        total += torch.nn.functional.interpolate(grid, size=image.shape[:2], mode="bilinear")[0] / len(windows)
    scores, labels = total.softmax(dim=0).max(dim=0)
    return labels.numpy(), scores.numpy()


if __name__ == "__main__":
    main()
