"""Install this package into an empty environment and print what that costs: how large it is, how long imports take.

python scripts/bare_install.py                  # the core, for somebody who only segments
python scripts/bare_install.py --extras distill,app
"""

import argparse
import shutil
import subprocess
import tempfile
import time
import venv
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
REPEATS = 5
LARGEST = 8
"""Packages that are named."""
SEGMENT = """
import numpy as np, wordmask
picture = np.zeros((96, 96, 3), np.uint8)
picture[24:72, 24:72] = 255, 0, 0
print(wordmask.load(preset="world", device="cpu").segment(picture, ["red circle", "background"]).labels.shape)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="parted by commas")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wordmask-bare-") as folder:
        environment = Path(folder, "environment")
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        source = copy(Path(folder, "source"))
        what = f"{source}[{asked.extras}]" if asked.extras else str(source)
        packages = environment / "lib"
        empty = size_of(packages)
        start = time.perf_counter()
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", what)
        print(f"installed in {time.perf_counter() - start:.0f} s")
        print(f"size: {(size_of(packages) - empty) / 1e6:,.0f} MB, of which:")
        [site] = packages.glob("python*/site-packages")
        for size, name in sorted(((size_of(path), path.name) for path in site.iterdir()), reverse=True)[:LARGEST]:
            print(f"  {size / 1e6:8,.0f} MB  {name}")
        run(python, "-I", "-c", SEGMENT)  # also writes the caches of bytecode
        print(f"import wordmask: {seconds(python, '-I', '-c', 'import wordmask'):.2f} s")
        print(f"wordmask --help: {seconds(environment / 'bin' / 'wordmask', '--help'):.2f} s")
        print(f"a picture from start to end: {seconds(python, '-I', '-c', SEGMENT, repeats=2):.1f} s")


def copy(source: Path) -> Path:
    """What is built from: in the repository itself, files of earlier builds would be in the package too."""
    shutil.copytree(REPOSITORY / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    return source


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


def seconds(*command: str | Path, repeats: int = REPEATS) -> float:
    """The least of several times, as anything else that runs only adds to it."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(*command)
        found.append(time.perf_counter() - start)
    return min(found)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all that lies below a folder."""
    if not path.is_dir():
        return path.lstat().st_size
    return sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())


if __name__ == "__main__":
    main()
