"""The speed table of the docs: five methods by their authors' way and by ours, and a folder that is labelled.

    python benchmarks/speed_table.py [--rounds 5] [--before DIR] [--pictures 2000]

First the table of `precision_speed.py`: the authors' way in fp32, ours in fp32, and ours as it chooses by itself, with
the ratios, and how often labels are those of ours in fp32. Then what `label_photographs.py` prints: pictures a second
of `wordmask label`. With `--before`, a checkout of an older state of this project, both label the same pictures in
turns, and the ratio is told. Each part runs in a process of its own. Run it on a machine that does nothing else.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", help="rows of precision_speed.py; by default all")
    parser.add_argument("--before", type=Path, help="a checkout of an older state, to label with in turns")
    parser.add_argument("--pictures", type=int, default=2000, help="to label; 0 leaves that out")
    told = parser.parse_args()
    rows = ["--rounds", str(told.rounds), "--threads", str(told.threads)]
    run("precision_speed.py", [*rows, *(["--only", *told.only] if told.only else [])])
    if told.pictures:
        print(flush=True)
        before = ["--before", str(told.before)] if told.before else []
        run("label_photographs.py", ["--pictures", str(told.pictures), "--threads", str(told.threads), *before])


def run(script: str, options: list[str]) -> None:
    if subprocess.run([sys.executable, str(HERE / script), *options]).returncode:
        raise SystemExit(f"{script} failed")


if __name__ == "__main__":
    main()
