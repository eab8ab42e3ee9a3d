"""Labels made of labels, against labels made anew: the time of each as a share of the first run's, and whether the
files are the same.

python benchmarks/label_convert.py [--pictures 300] [--folder PHOTOS] [--preset world] [--method clip-dinoiser]
    [--out DIR]

By default on drawn pictures and small networks; `--folder PHOTOS --preset paper` for photographs and a published
network. Each time is that of a command, and beside it what the command itself took: without the start of Python and the
import of packages, which is always the same, and with the loading of networks.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from wordmask.methods import find_method
from wordmask_world import NAMES, write_folder

CODE = """
import sys, time
from importlib import import_module
for module in sys.argv.pop(1).split(","):
    import_module(module)
from wordmask.cli import main
start = time.perf_counter()
try:
    main()
finally:  # it ends by an exception
    print(time.perf_counter() - start)
"""
IMPORTED = ("torch", "open_clip", "timm", "wordmask.labelling.convert", "wordmask.cli.label_convert")
"""Beside the method's own module, what each of the commands imports."""
CHANGES = {
    "another format (yolo), of the masks": ["--format", "yolo", "--val", "0"],
    "larger parts (--min-area 200), of the masks": ["--min-area", "200"],
    "a threshold (--min-score 0.3), of features": ["--min-score", "0.3"],
    "other names, of features": ["--names", "dog,tree,car,grass"],
}
"""Options of `label convert`, which are those of `label` as well."""


class Times(NamedTuple):
    """Of a command, in seconds: all of it, and what came after its start."""

    whole: float
    own: float

    def __str__(self) -> str:
        return f"{self.whole:.1f} ({self.own:.1f})"

    def share_of(self, other: "Times") -> str:
        return f"{self.whole / other.whole:.2f} ({self.own / other.own:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=300, help="how many are drawn, without --folder")
    parser.add_argument("--side", type=int, default=256, help="of those, in pixels")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--method", default="clip-dinoiser")
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
    modules = [*IMPORTED, find_method("segmenter", told.method).at.partition(":")[0]]

    def timed(*arguments: str) -> Times:
        start = time.perf_counter()
        command = [sys.executable, "-c", CODE, ",".join(modules), *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return Times(time.perf_counter() - start, float(done.stdout.splitlines()[-1]))

    plain = timed(*label, "--names", told.names, "--out", str(out / "plain"))
    first = timed(*label, "--names", told.names, "--keep-features", "--out", str(out / "first"))
    pictures = sum(1 for _ in (out / "first" / "features").rglob("*.safetensors"))
    room = sum(path.stat().st_size for path in (out / "first" / "features").rglob("*.safetensors"))
    print(f"{pictures} pictures, {told.method}, preset {told.preset}, {told.precision}")
    print("seconds of each command (and without its start)")
    print(f"first run: {plain}; keeping features {first}, {room / pictures / 1e6:.2f} MB a picture", flush=True)
    for number, (what, options) in enumerate(CHANGES.items()):
        made, fresh = out / f"converted-{number}", out / f"anew-{number}"
        own = timed("label", "convert", str(out / "first"), *options, "--out", str(made))
        given = options if "--names" in options else ["--names", told.names, *options]
        anew = timed(*label, *given, "--out", str(fresh))
        same = digest(made) == digest(fresh)
        print(
            f"{what}: {own}, {own.share_of(plain)} of the first run, {own.share_of(anew)} of a run anew, "
            f"{'the very same files' if same else 'OTHER FILES'}",
            flush=True,
        )
        if not same:
            raise SystemExit(1)


def digest(out: Path) -> str:
    """Of every file but the run's own bookkeeping."""
    total = hashlib.sha256()
    for path in sorted(out.rglob("*")):
        if path.is_file() and ".wordmask" not in path.parts:
            total.update(f"{path.relative_to(out)}\n".encode() + path.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    main()
