"""How long LPOSS and LPOSS+ take for a picture, beside LPOSS+ with its matrix written down, and how far both agree.

    python benchmarks/lposs_speed.py [--size 448 600] [--names 21] [--threads 1] [--matrix-size 112 150]

DINO itself is left out: its values are random here, and the picture is noise made smooth. The matrix of a whole
picture takes gigabytes, so that it is made for a small one. Run it on a machine that does nothing else.
"""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.pictures.windows import SlidingWindows
from wordmask.refinement.lposs import DEFAULTS, PatchGraph, PixelGraph, conjugate_gradients, lab, normalised

PATCH, WIDTH = 16, 768
Done = TypeVar("Done")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[448, 600], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--matrix-size", type=int, nargs=2, default=[112, 150], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--names", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dice = torch.Generator().manual_seed(0)
    height, width = arguments.size
    print(f"{width} x {height}, {arguments.names} names, {arguments.threads} threads")
    plan = SlidingWindows(height, width, 224, 112)
    values = torch.randn(len(plan), WIDTH, 14, 14, generator=dice) + 1
    graph = timed(f"graph of {len(plan) * 14 * 14} patches", lambda: PatchGraph(values, plan, PATCH))
    scores = torch.rand(len(plan), arguments.names, 14, 14, generator=dice)
    timed("LPOSS", lambda: graph.spread(scores, PATCH))
    pixels = timed("graph of the pixels", lambda: PixelGraph(smooth(height, width, dice)))
    timed("LPOSS+", lambda: pixels.spread(torch.rand(arguments.names, height, width, generator=dice)))

    height, width = arguments.matrix_size
    print(f"{width} x {height}")
    image, maps = smooth(height, width, dice), torch.rand(arguments.names, height, width, generator=dice)
    ours = timed("LPOSS+", lambda: PixelGraph(image).solve(maps))
    theirs = timed("LPOSS+ by a matrix", lambda: by_matrix(image, maps))
    print(f"largest difference {(ours - theirs).abs().max():.1e}, of scores up to {theirs.abs().max():.1f}")


def timed(what: str, work: Callable[[], Done]) -> Done:
    start = time.perf_counter()
    done = work()
    print(f"{what:28}  {time.perf_counter() - start:7.2f} s")
    return done


def smooth(height: int, width: int, dice: torch.Generator) -> Tensor:
    coarse = torch.rand(1, 3, height // 16, width // 16, generator=dice)
    return F.interpolate(coarse, size=(height, width), mode="bilinear")[0]


def by_matrix(image: Tensor, maps: Tensor) -> Tensor:
    """LPOSS+ with all weights in one sparse matrix."""
    reach, (height, width) = DEFAULTS.reach, image.shape[1:]
    colours, number = lab(image).double().numpy(), np.arange(height * width).reshape(height, width)
    rows, columns, weights = [], [], []
    for down in range(reach + 1):
        for across in range(-reach, reach + 1):
            if (down, across) <= (0, 0):
                continue
            here = slice(0, height - down), slice(max(-across, 0), width - max(across, 0))
            there = slice(down, height), slice(max(across, 0), width - max(-across, 0))
            far = np.linalg.norm(colours[:, *here] - colours[:, *there], axis=0)
            weights.append(np.exp(-far / DEFAULTS.colours).ravel())
            rows.append(number[here].ravel())
            columns.append(number[there].ravel())
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    matrix = normalised(scipy.sparse.csr_array(entries, shape=(height * width,) * 2))

    def system(own: Tensor) -> Tensor:
        return own - DEFAULTS.alpha * torch.from_numpy((matrix @ own.numpy().T).T.copy())

    return conjugate_gradients(system, maps.double().flatten(1)).view(maps.shape)


if __name__ == "__main__":
    main()
