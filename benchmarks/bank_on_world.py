"""What a bank of drawn pictures does for CorrCLIP on the built-in world: mIoU without it and with it.

    python benchmarks/bank_on_world.py [--bank 300] [--pictures 60] [--set auxiliary=...] [--out FOLDER]

Also how often what looks most like a region of the bank, in another picture, is the same thing: a bank lives on that.
The bank's pictures are drawn from seeds that no split of the benchmark and no training has. Nothing is told of what is
on them: their masks are looked at for that share alone. With --out, pictures and bank are kept, and gone on with.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import wordmask
from wordmask.benchmarks.evaluation import evaluate
from wordmask.cli.options import changes
from wordmask.collection.piles import open_pile
from wordmask.compute import Compute
from wordmask.console.progress import progress_bar
from wordmask.regions.bank import RegionBank
from wordmask.regions.base import RegionMaker, region_map
from wordmask.segmenters.bank_building import build_bank, load_readers
from wordmask_world.benchmark import World
from wordmask_world.files.writing import write_folder
from wordmask_world.tables.frontier import BANK, BANK_SEED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=int, default=BANK, help="pictures in the bank")
    parser.add_argument("--pictures", type=int, default=60, help="held-out pictures of each benchmark")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of CorrCLIP")
    parser.add_argument("--out", type=Path, help="where pictures and bank are kept; by default they are not")
    arguments = parser.parse_args()
    settings = changes(arguments.set)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        pictures, bank = folder / "pictures", folder / "bank"
        write_folder(pictures, arguments.bank, seed=BANK_SEED, image_format="png")
        with progress_bar("regions", None) as progress:
            readers = load_readers("world", Compute("cpu", "fp32"), **settings)
            built = build_bank(open_pile(pictures / "images"), readers, bank, progress=progress)
        print(f"{built.regions} regions of {built.pictures} pictures")
        for count, share in same_things(RegionBank(bank), pictures, readers.main.maker).items():
            print(f"of the {count} regions of other pictures that look most like one, {share:.0%} are of the same name")
        rows = {"without a bank": {}, "with the bank": {"bank": bank}}
        for label, own in rows.items():
            segmenter = wordmask.load("corrclip", preset="world", device="cpu", precision="fp32", **settings, **own)
            figures = [
                evaluate(segmenter, World(stuff=stuff, pictures=arguments.pictures), batch_size=1).miou
                for stuff in (False, True)
            ]
            print(f"{label:16} world {figures[0]:6.2f}   world-stuff {figures[1]:6.2f}", flush=True)


def same_things(bank: RegionBank, folder: Path, maker: RegionMaker) -> dict[int, float]:
    """Of the 1 and of the 20 nearest regions of other pictures, the share that has the name of most of the pixels."""
    manifest = [
        json.loads(line) for path in sorted((bank.folder / "manifest").glob("0*.jsonl")) for line in path.open()
    ]
    names, owner = [], []
    for number, line in enumerate(manifest):
        labels = np.array(Image.open(folder / "labels" / Path(line["image"]).name))
        regions = region_map(maker, np.array(Image.open(line["image"]).convert("RGB")))
        names += [np.bincount(labels[regions == region]).argmax() for region in range(1, regions.max() + 1)]
        owner += [number] * line["regions"]
    name, picture = np.array(names), np.array(owner)
    keys = np.concatenate([np.load(part.keys) for part in bank.parts]).astype(np.float32)
    similar = np.where(picture[:, None] == picture, -np.inf, keys @ keys.T)
    nearest = np.argsort(-similar, axis=1)
    return {count: float((name[nearest[:, :count]] == name[:, None]).mean()) for count in (1, 20)}


if __name__ == "__main__":
    main()
