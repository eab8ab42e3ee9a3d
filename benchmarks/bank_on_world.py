"""What a bank of drawn pictures does for CorrCLIP on the built-in world: mIoU without it and with it.

    python benchmarks/bank_on_world.py [--bank 300] [--pictures 60] [--set auxiliary=...] [--out FOLDER]

The bank's pictures are drawn from seeds that no split of the benchmark and no training has. Nothing is told of what is
on them: their masks are not looked at. With --out, the pictures and the bank are kept, and gone on with.
"""

import argparse
import tempfile
from pathlib import Path

import wordmask
from wordmask.benchmarks.evaluation import evaluate
from wordmask.cli.options import changes
from wordmask.collection.piles import open_pile
from wordmask.compute import Compute
from wordmask.console.progress import progress_bar
from wordmask.segmenters.bank_building import build_bank, load_readers
from wordmask_world.benchmark import World
from wordmask_world.files.writing import write_folder

SEED = 40_000_000
"""Of the bank's pictures: far from those of validation (5,000,000) and of the benchmark (10**15)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=int, default=300, help="pictures in the bank")
    parser.add_argument("--pictures", type=int, default=60, help="held-out pictures of each benchmark")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of CorrCLIP")
    parser.add_argument("--out", type=Path, help="where pictures and bank are kept; by default they are not")
    arguments = parser.parse_args()
    settings = changes(arguments.set)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        pictures, bank = folder / "pictures", folder / "bank"
        write_folder(pictures, arguments.bank, seed=SEED, image_format="png")
        with progress_bar("regions", None) as progress:
            readers = load_readers("world", Compute("cpu", "fp32"), **settings)
            built = build_bank(open_pile(pictures / "images"), readers, bank, progress=progress)
        print(f"{built.regions} regions of {built.pictures} pictures")
        rows = {"without a bank": {}, "with the bank": {"bank": bank}}
        for label, own in rows.items():
            segmenter = wordmask.load("corrclip", preset="world", device="cpu", precision="fp32", **settings, **own)
            figures = [
                evaluate(segmenter, World(stuff=stuff, pictures=arguments.pictures), batch_size=1).miou
                for stuff in (False, True)
            ]
            print(f"{label:16} world {figures[0]:6.2f}   world-stuff {figures[1]:6.2f}", flush=True)


if __name__ == "__main__":
    main()
