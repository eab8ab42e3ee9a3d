"""How fast PAMR is beside its plain readings, how much memory each takes, and whether all say the same.

    python benchmarks/pamr_speed.py [--repeats 3] [--size 375 500] [--names 8] [--threads 1]

"Stacked" is the usual way in PyTorch: all 48 neighbours of every pixel side by side in one tensor, weighted and summed,
ten times over (`stacked` below). "Pixel by pixel" is the loop of tests/support/plain_pamr.py, on a small picture. Ours
goes through strips that stay in the processor's cache. The best of the repeats counts; memory is the peak of a process
of its own above what it takes before. Run it on a machine that does nothing else.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SMALL = (24, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=[375, 500], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--names", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    size, names = tuple(arguments.size), arguments.names
    print(
        f"{size[1]} x {size[0]}, {names} names, 10 iterations, {arguments.threads} threads, best of {arguments.repeats}"
    )
    print("way              seconds  peak memory")
    ours = alone("ours", size, names, arguments)
    stacked = alone("stacked", size, names, arguments)
    for way, row in (("ours", ours), ("stacked", stacked)):
        print(f"{way:15}  {row['seconds']:7.2f}  {row['megabytes']:8.0f} MB")
    difference = np.abs(ours["maps"] - stacked["maps"]).max()
    print(f"stacked / ours: {stacked['seconds'] / ours['seconds']:.1f} in time, ", end="")
    print(f"{stacked['megabytes'] / ours['megabytes']:.1f} in memory; largest difference {difference:.1e}")
    small, plain = (alone(way, SMALL, names, arguments) for way in ("ours", "plain"))
    difference = np.abs(small["maps"] - plain["maps"]).max()
    print(
        f"{SMALL[1]} x {SMALL[0]}: pixel by pixel / ours: {plain['seconds'] / small['seconds']:.0f} in time; ", end=""
    )
    print(f"largest difference {difference:.1e}")


def alone(way: str, size: tuple[int, int], names: int, arguments: argparse.Namespace) -> dict:
    """A way's time and memory, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, way, size, names, arguments.repeats, arguments.threads).result()


def measure(way: str, size: tuple[int, int], names: int, repeats: int, threads: int) -> dict:
    from support import plain_pamr
    from wordmask.refinement.pamr import pamr
    from wordmask_world import draw_scene

    torch.set_num_threads(threads)
    pixels = np.asarray(draw_scene(3, size).image)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    coarse = torch.rand(1, names, size[0] // 8 + 1, size[1] // 8 + 1, generator=torch.Generator().manual_seed(0))
    maps = F.interpolate((8 * coarse).softmax(dim=1), size=size, mode="bilinear")[0]
    ways = {
        "ours": lambda: pamr(image, maps).numpy(),
        "stacked": lambda: stacked(image, maps).numpy(),
        "plain": lambda: plain_pamr.pamr(pixels / 255, maps.double().numpy()),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(1 if way == "plain" else repeats):
        start = time.perf_counter()
        refined = ways[way]()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": min(seconds), "megabytes": max(1, peak - before) / 1024, "maps": refined}


def stacked(image: Tensor, maps: Tensor, dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)) -> Tensor:
    """PAMR with every neighbour in a tensor of its own: (C, 48, H, W) at every step."""

    def neighbours(planes: Tensor) -> Tensor:
        height, width = planes.shape[1:]
        found = []
        for far in dilations:
            padded = F.pad(planes[None], [far] * 4, mode="replicate")
            windows = F.unfold(padded, 3, dilation=far)  # (1, C*9, H*W)
            found.append(windows.view(len(planes), 9, height, width))
        return torch.stack(found, dim=1)  # (C, distances, 9, H, W)

    around = neighbours(image)
    deviation = around.flatten(1, 2).std(dim=1)  # (3, H, W)
    others = [place for place in range(9) if place != 4]
    steps = (around[:, :, others].flatten(1, 2) - image[:, None]).abs()
    weights = (-steps / (1e-8 + 0.1 * deviation[:, None])).mean(dim=0).softmax(dim=0)  # (48, H, W)
    for _ in range(10):
        maps = (neighbours(maps)[:, :, others].flatten(1, 2) * weights).sum(dim=1)
    return maps


if __name__ == "__main__":
    main()
