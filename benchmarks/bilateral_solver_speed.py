"""How fast the bilateral solver is beside the usual NumPy reading of its equations, and whether both say the same.

    python benchmarks/bilateral_solver_speed.py [--repeats 5] [--size 384 512]

The usual reading (`solve_sparse` in tests/support/plain_bilateral.py) numbers the cells in floating point, keeps a
splatting matrix and one sparse matrix a dimension, and builds all of it anew for every map. Both run on one core; the
best of the repeats counts. "Again" is a further map of the same picture, whose grid is there already.
"""

import argparse
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=[384, 512], metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    if not ONE_CORE.items() <= os.environ.items():  # libraries read these as they are loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_CORE})
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from support.plain_bilateral import solve_sparse
    from wordmask.refinement.bilateral_solver import BilateralGrid, solve

    height, width = arguments.size
    print(f"{width} x {height}, one core, best of {arguments.repeats}, milliseconds")
    print(f"{'picture':24}  cells   usual   ours  ratio  again  largest difference")
    for name, image in pictures(height, width).items():
        target = np.zeros((height, width))
        target[height // 4 : -height // 3, width // 4 : -width // 4] = 1
        grid = BilateralGrid(image)
        grid.solve(target)
        usual, expected = best(lambda: solve_sparse(image, target), arguments.repeats)  # noqa: B023
        ours, solved = best(lambda: solve(image, target), arguments.repeats)  # noqa: B023
        again, _ = best(lambda: grid.solve(target), arguments.repeats)  # noqa: B023
        difference = np.abs(solved - expected).max()
        print(
            f"{name:24} {grid.cells:6}  {usual:6.1f} {ours:6.1f} {usual / ours:6.1f} {again:6.1f}  {difference:18.1e}"
        )


def pictures(height: int, width: int) -> dict[str, np.ndarray]:
    """A drawn scene; the same with a sensor's grain, as a camera would write it and raw; noise like no photograph."""
    from wordmask_world import draw_scene

    chance = np.random.default_rng(0)
    scene = np.asarray(draw_scene(3, (height, width)).image)
    grainy = (scene + chance.normal(0, 6, scene.shape)).clip(0, 255).astype(np.uint8)
    noise = chance.integers(0, 256, scene.shape, dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(grainy).save(written, format="JPEG", quality=90)
    photo = np.array(Image.open(written).convert("RGB"))
    return {"drawn scene": scene, "with grain, as JPEG": photo, "with grain, raw": grainy, "pure noise": noise}


def best(work: Callable[[], np.ndarray], repeats: int) -> tuple[float, np.ndarray]:
    """Milliseconds, and what came out."""
    shortest, result = float("inf"), np.zeros(0)
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        shortest = min(shortest, time.perf_counter() - start)
    return 1000 * shortest, result


if __name__ == "__main__":
    main()
