"""A folder of pictures becomes a COCO data set, and pycocotools opens it.

python examples/label_a_folder.py [--out DIR]
"""

import argparse
import contextlib
import io
from pathlib import Path

from pycocotools.coco import COCO

from wordmask.labelling import Job, LabelSettings, label_folder
from wordmask.names.vocabulary import Vocabulary
from wordmask_world import THINGS, write_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/labels"), help="the folder to write")
    out = parser.parse_args().out
    pictures = write_folder(out / "world", 24) / "images"  # or a folder of yours

    labels = label_folder(
        Job(
            folder=pictures,
            out=out / "coco",
            vocabulary=Vocabulary.of([*THINGS]),
            settings=LabelSettings(format="coco", min_area=64),
            load={"method": "clip-dinoiser", "preset": "world"},
        )
    )
    print(f"{labels.pictures} pictures, {labels.instances} masks in {labels.seconds} s")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools says that it is loading
        coco = COCO(out / "coco" / "annotations.json")
    for category in coco.loadCats(coco.getCatIds()):
        count = len(coco.getAnnIds(catIds=[category["id"]]))
        if count:
            print(f"  {category['name']}: {count}")
    print(f"Look at {out / 'coco' / 'review.html'}: the pictures that the segmenter was least sure of.")


if __name__ == "__main__":
    main()
