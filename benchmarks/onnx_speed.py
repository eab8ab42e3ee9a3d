"""A segmenter in PyTorch, as ONNX, and as ONNX with int8 weights: seconds a picture, mIoU on the world, megabytes.

python benchmarks/onnx_speed.py [--method maskclip] [--preset world] [--pictures 100]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

import wordmask
from wordmask.export import compare, export, load_onnx, quantise
from wordmask.html_page import text_table
from wordmask.segmenters.base import Segmenter
from wordmask_world import draw_scene
from wordmask_world.benchmark import World

LOOKS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="maskclip")
    parser.add_argument("--preset", default="world")
    parser.add_argument("--weights")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    segmenter = wordmask.load(
        arguments.method, preset=arguments.preset, weights=arguments.weights, device="cpu", precision="fp32"
    )
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "int8.onnx"
        export(segmenter, whole)
        quantise(whole, small)
        runtimes = {"PyTorch": segmenter}
        for name, path in (("ONNX", whole), ("ONNX int8", small)):
            runtimes[name] = load_onnx(path, segmenter, threads=arguments.threads)
        seconds = fastest(runtimes)
        rows = []
        for name, path in (("PyTorch", None), ("ONNX", whole), ("ONNX int8", small)):
            miou = wordmask.evaluate(runtimes[name], World("single", pictures=arguments.pictures)).miou
            agreement = compare(segmenter, path) if path else None
            rows.append(
                [
                    name,
                    f"{1000 * seconds[name]:.1f}",
                    f"{seconds['PyTorch'] / seconds[name]:.2f}",
                    miou,
                    f"{path.stat().st_size / 1e6:.1f}" if path else None,
                    f"{agreement.difference:.1g}" if agreement else None,
                    f"{100 * agreement.same:.2f}" if agreement else None,
                ]
            )
    columns = ["runtime", "ms a look", "speed", "mIoU", "MB", "largest difference", "same name %"]
    print(text_table(columns, rows))


def fastest(runtimes: dict[str, Segmenter]) -> dict[str, float]:
    """The median of looks at a picture, the runtimes by turns, so that a busy machine is fair to all."""
    picture = draw_scene(7, 256).image
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for turn in range(LOOKS + 1):
        for name, segmenter in runtimes.items():
            start = time.perf_counter()
            segmenter.look(picture)
            if turn:  # the first warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(own) for name, own in times.items()}


if __name__ == "__main__":
    main()
