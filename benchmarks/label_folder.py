"""Labelling a folder of the world's pictures: memory, speed, and what a kill costs.

python benchmarks/label_folder.py [--pictures 5000] [--out DIR]

Prints the peak of memory over the first tenth and the last tenth of the pictures, pictures per second, and whether a
run that is killed half-way and started again writes the very same files.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from wordmask_world import NAMES, write_folder

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="wordmask-"))
    folder = write_folder(out / "world", arguments.pictures, workers=2) / "images"

    start = time.perf_counter()
    memory = watched(command(folder, out / "whole", arguments.workers), out / "whole", arguments.pictures)
    seconds = time.perf_counter() - start
    print(f"peak memory of all processes in MiB: first tenth {memory[0]:.0f}, last tenth {memory[-1]:.0f}")
    print(f"every tenth: {', '.join(f'{peak:.0f}' for peak in memory)}")
    print(f"pictures a second: {arguments.pictures / seconds:.1f} ({arguments.workers} workers, start included)")

    killed = subprocess.Popen(command(folder, out / "killed", arguments.workers))
    while killed.poll() is None and written(out / "killed") < arguments.pictures // 2:
        time.sleep(0.2)
    killed.kill()
    killed.wait()
    print(f"killed after {written(out / 'killed')} pictures")
    subprocess.run(command(folder, out / "killed", arguments.workers), check=True)
    same = digest(out / "killed") == digest(out / "whole")
    print(f"killed and started again: {'the very same files' if same else 'OTHER FILES'}")
    if not same:
        raise SystemExit(1)


def command(folder: Path, out: Path, workers: int) -> list[str]:
    code = "from wordmask.cli import main; main()"
    options = ["--method", "maskclip", "--preset", "world", "--precision", "fp32", "--format", "yolo"]
    options += ["--batch-size", str(BATCH), "--workers", str(workers)]
    return [sys.executable, "-c", code, "label", str(folder), "--names", ",".join(NAMES), "-o", str(out), *options]


def watched(command: list[str], out: Path, pictures: int) -> list[float]:
    """The peak memory, in MiB, of every tenth of a run."""
    process = psutil.Popen(command, env={**os.environ})
    peaks = [0.0] * 10
    while process.poll() is None:
        done = written(out)
        if done:
            tenth = min(9, 10 * done // pictures)
            peaks[tenth] = max(peaks[tenth], resident(process) / 2**20)
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit("labelling failed")
    return peaks


def resident(process: psutil.Process) -> int:
    try:
        return sum(own.memory_info().rss for own in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def written(out: Path) -> int:
    labels = out / "labels"
    return sum(1 for entry in os.scandir(labels) if entry.name.endswith(".txt")) if labels.is_dir() else 0


def digest(out: Path) -> str:
    """Of every file but the run's own bookkeeping."""
    total = hashlib.sha256()
    for path in sorted(out.rglob("*")):
        if path.is_file() and ".wordmask" not in path.parts and not path.is_symlink():
            total.update(f"{path.relative_to(out)}\n".encode())
            total.update(path.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    main()
