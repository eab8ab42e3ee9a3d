"""What a bank of drawn pictures does for CorrCLIP on the built-in world: mIoU without it and with it.

    python benchmarks/bank_on_world.py [--bank 300] [--pictures 60] [--set auxiliary=...] [--out FOLDER]

A bank lives on two things, which are printed first, of the bank's own regions, each held against those of other
pictures: how often what looks most like a region has its name, and how often a region is named right by its own value,
by those of its neighbours, by both, and by both if its neighbours were the nearest of its name. The bank's pictures are
drawn from seeds that no split of the benchmark and no training has. Nothing is told of what is on them: their masks are
looked at for these shares alone. With --out, pictures and bank are kept, and gone on with. --pictures 0 measures no
mIoU; --validation measures it on pictures that no table has, by which settings may be chosen.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import wordmask
from wordmask.benchmarks.evaluation import evaluate
from wordmask.cli.options import changes
from wordmask.collection.piles import open_pile
from wordmask.compute import Compute
from wordmask.console.progress import progress_bar
from wordmask.html_page import text_table
from wordmask.names.vocabulary import Vocabulary
from wordmask.regions.bank import KEYS, RegionBank, lines_of, manifests
from wordmask.regions.base import RegionMaker, region_map
from wordmask.segmenters.bank_building import build_bank, load_readers
from wordmask_world import NAMES, THINGS
from wordmask_world.benchmark import World
from wordmask_world.files.writing import write_folder
from wordmask_world.tables.frontier import BANK, BANK_SEED

VALIDATION_SEED = 7_500_000
NEIGHBOURS = 20
"""The published number of regions that answer."""
COUNTS, WEIGHTS = (1, 5, NEIGHBOURS), (0.0, 0.5, 0.75, 0.9, 1.0)
COLUMNS = [
    "regions",
    "how many",
    "name of the nearest",
    "of the 20 nearest",
    "named by own value",
    "by theirs",
    "by both",
    "if all had the name",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=int, default=BANK, help="pictures in the bank")
    parser.add_argument("--pictures", type=int, default=60, help="held-out pictures of each benchmark")
    parser.add_argument("--validation", action="store_true", help="measure on pictures for choosing settings")
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
        texts = readers.main.embed(Vocabulary.of(NAMES)).vectors.numpy()
        print(*at_regions(RegionBank(bank), pictures, readers.main.maker, texts), sep="\n\n")
        rows = {"without a bank": {}, "with the bank": {"bank": bank}} if arguments.pictures else {}
        more = {"first_seed": VALIDATION_SEED} if arguments.validation else {}
        for label, own in rows.items():
            segmenter = wordmask.load("corrclip", preset="world", device="cpu", precision="fp32", **settings, **own)
            figures = [
                evaluate(segmenter, World(stuff=stuff, pictures=arguments.pictures, **more), batch_size=1).miou
                for stuff in (False, True)
            ]
            print(f"{label:16} world {figures[0]:6.2f}   world-stuff {figures[1]:6.2f}", flush=True)


def at_regions(bank: RegionBank, folder: Path, maker: RegionMaker, texts: np.ndarray) -> Iterator[str]:
    """Yield what is told of the bank's regions: of things, of grounds, and of all; and how many of all are named right,
    by how many neighbours answer and what the region's own value counts. A region's name is that of most of its pixels.
    texts: of the world's names, (K, D).
    """
    names, owner = [], []
    lines = [line for manifest in manifests(bank.folder) for line in lines_of(manifest)]
    for number, line in enumerate(lines):
        labels = np.array(Image.open(folder / "labels" / Path(line["image"]).name))
        regions = region_map(maker, np.array(Image.open(line["image"]).convert("RGB")))
        names += [np.bincount(labels[regions == region]).argmax() for region in range(1, regions.max() + 1)]
        owner += [number] * line["regions"]
    name, picture = np.array(names), np.array(owner)
    keys = np.concatenate([np.load(part.tables[KEYS]) for part in bank.parts]).astype(np.float32)
    similar = np.where(picture[:, None] == picture, -np.inf, keys @ keys.T)
    nearest = np.argsort(-similar, axis=1)[:, :NEIGHBOURS]
    of_the_name = np.where(name[:, None] == name, similar, -np.inf)
    best = np.argsort(-of_the_name, axis=1)[:, :NEIGHBOURS]
    best[np.take_along_axis(of_the_name, best, axis=1) == -np.inf] = -1  # there are no more
    own = bank.values(np.arange(len(name))) @ texts.T

    def right(neighbours: np.ndarray, weight: float) -> np.ndarray:
        means = bank.means(neighbours)
        theirs = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9) @ texts.T
        return (weight * own + (1 - weight) * theirs).argmax(axis=1) == name

    same = name[nearest] == name[:, None]
    figures = [same[:, 0], same.mean(axis=1), *(right(nearest, weight) for weight in (1, 0, 0.5)), right(best, 0.5)]
    is_thing = name < len(THINGS)
    of = {"things": is_thing, "grounds": ~is_thing, "all": np.ones_like(is_thing)}
    rows = [
        [label, str(int(which.sum())), *(100 * float(own[which].mean()) for own in figures)]
        for label, which in of.items()
    ]
    yield text_table(COLUMNS, rows)
    rows = [[str(count), *(100 * float(right(nearest[:, :count], own).mean()) for own in WEIGHTS)] for count in COUNTS]
    yield text_table(["neighbours", *(f"own={own:g}" for own in WEIGHTS)], rows)


if __name__ == "__main__":
    main()
