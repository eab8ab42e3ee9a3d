"""Labels made of labels, against labels made anew: the time of each as a share of the first run's, and whether the
files are the same.

python benchmarks/label_convert.py [--pictures 200] [--folder PHOTOS] [--preset world] [--method maskclip] [--out DIR]

By default on drawn pictures and small networks; `--folder PHOTOS --preset paper` for photographs and a published
network. Each line is a command of its own, its start and the loading of networks included.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from wordmask_world import NAMES, write_folder

CODE = "from wordmask.cli import main; main()"
CHANGES = {
    "another format (yolo), of the masks": ["--format", "yolo", "--val", "0"],
    "larger parts (--min-area 200), of the masks": ["--min-area", "200"],
    "a threshold (--min-score 0.3), of features": ["--min-score", "0.3"],
    "other names, of features": ["--names", "dog,tree,car,grass"],
}
"""Options of `label convert`, which are those of `label` as well."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200, help="how many are drawn, without --folder")
    parser.add_argument("--side", type=int, default=256, help="of those, in pixels")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--method", default="maskclip")
    parser.add_argument("--preset", default="world")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    out = told.out or Path(tempfile.mkdtemp(prefix="wordmask-"))
    folder = (
        told.folder or write_folder(out / "world", told.pictures, size=(told.side, told.side), workers=2) / "images"
    )
    network = ["--method", told.method, "--preset", told.preset, "--precision", told.precision]
    label = ["label", str(folder), *network]

    plain = timed([*label, "--names", told.names, "--out", str(out / "plain")])
    first = timed([*label, "--names", told.names, "--keep-features", "--out", str(out / "first")])
    pictures = sum(1 for _ in (out / "first" / "features").rglob("*.safetensors"))
    room = sum(path.stat().st_size for path in (out / "first" / "features").rglob("*.safetensors"))
    print(f"{pictures} pictures, {told.method}, preset {told.preset}, {told.precision}")
    print(f"first run: {plain:.1f} s; keeping features {first:.1f} s, {room / pictures / 1e6:.2f} MB a picture")
    for number, (what, options) in enumerate(CHANGES.items()):
        made, fresh = out / f"converted-{number}", out / f"anew-{number}"
        seconds = timed(["label", "convert", str(out / "first"), *options, "--out", str(made)])
        given = options if "--names" in options else ["--names", told.names, *options]
        anew = timed([*label, *given, "--out", str(fresh)])
        same = digest(made) == digest(fresh)
        print(
            f"{what}: {seconds:.1f} s, {seconds / plain:.2f} of the first run ({seconds / anew:.2f} of a run anew), "
            f"{'the very same files' if same else 'OTHER FILES'}",
            flush=True,
        )
        if not same:
            raise SystemExit(1)


def timed(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", CODE, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def digest(out: Path) -> str:
    """Of every file but the run's own bookkeeping."""
    total = hashlib.sha256()
    for path in sorted(out.rglob("*")):
        if path.is_file() and ".wordmask" not in path.parts:
            total.update(f"{path.relative_to(out)}\n".encode() + path.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    main()
