"""Pictures a second of `wordmask label`, of this state of the project and of an older one, in turns.

    python benchmarks/label_photographs.py [--pictures 2000] [--before DIR] [--method namedmask] [--rounds 2]

Drawn pictures of 640 x 480 are written as JPEG files as a camera's, and labelled by a method of the built-in world, by
the command as it is, start included. `--before DIR` is a checkout of an older state (`git worktree add DIR COMMIT`): it
labels the same files by the same libraries in turns with this one, the least time of each counts, and how many label
files are the very same is told. Both choose their precision themselves unless `--precision` says it.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from maskclip_speed import processor
from PIL import Image

from wordmask_world import NAMES, THINGS, draw_scene

ROOT = Path(__file__).parent.parent
SIZE = (480, 640)
QUALITY = 92


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--method", default="clip-dinoiser")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    told = parser.parse_args()
    states = {"before": told.before, "now": ROOT} if told.before else {"now": ROOT}
    for state, place in states.items():
        if not (place / "src" / "wordmask").is_dir():
            raise SystemExit(f"{state}: {place} is no checkout of this project: it has no src/wordmask")
    with tempfile.TemporaryDirectory(prefix="wordmask-") as folder:
        draw(Path(folder) / "pictures", told.pictures)
        seconds: dict[str, float] = {}
        labels: dict[str, dict[str, str]] = {}
        for turn in range(told.rounds):
            for state, place in states.items():
                out = Path(folder) / f"{state}-{turn}"
                start = time.perf_counter()
                label(place, Path(folder), out, told)
                seconds[state] = min(seconds.get(state, float("inf")), time.perf_counter() - start)
                labels[state] = digests(out)
    print(f"{processor()}, {told.threads} threads, {told.method}: {told.pictures} pictures of {SIZE[1]} x {SIZE[0]}")
    for state, took in seconds.items():
        print(f"{state:8} {told.pictures / took:8.2f} pictures/s (start included)")
    if told.before:
        same = np.mean([labels["now"].get(name) == own for name, own in labels["before"].items()])
        print(f"ratio    {seconds['before'] / seconds['now']:8.2f}, {same:.1%} of the label files are the very same")


def draw(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(write, [(folder, number) for number in range(count)], chunksize=16):
            pass


def write(told: tuple[Path, int]) -> None:
    folder, number = told
    Image.fromarray(np.asarray(draw_scene(number, SIZE).image)).save(folder / f"{number:06d}.jpg", quality=QUALITY)


def label(place: Path, folder: Path, out: Path, told: argparse.Namespace) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(place / "src"),
        "OMP_NUM_THREADS": str(told.threads),
        "WORDMASK_CACHE": str(folder / f"cache-{place.resolve().name}"),
    }
    names = ["background", *THINGS] if told.method == "namedmask" else NAMES
    options = ["--method", told.method, "--preset", "world", "--precision", told.precision, "--format", "yolo"]
    command = [sys.executable, "-c", "from wordmask.cli import main; main()", "label", str(folder / "pictures")]
    command += ["--names", ",".join(names), "-o", str(out), *options]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{place}: labelling failed:\n{ran.stderr}")


def digests(out: Path) -> dict[str, str]:
    """Return a hash of each picture's labels, wherever below the folder a state of the project puts them."""
    files = [path for path in out.rglob("*.txt") if path.parent.name != out.name and ".wordmask" not in path.parts]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
