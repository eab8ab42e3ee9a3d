"""A review of as many labelled pictures as are asked for, without a segmenter."""

import numpy as np
from PIL import Image

from wordmask.corrections import Corrections
from wordmask.labelling.fingerprints_kept import KeptFingerprints
from wordmask.labelling.ledger import Entry, Ledger, Row
from wordmask.labelling.review import write_review
from wordmask.masks.instances import find_instances, part_of

NAMES = ["dog", "cat", "grass", "sky"]
SIZE = (96, 128)


def write_many(root, count):
    """`root/photos` with `count` pictures, and `root/labels/review.html`; the path of the page."""
    photos, out = root / "photos", root / "labels"
    photos.mkdir(parents=True)
    chance = np.random.default_rng(0)
    ledger = Ledger(out / ".wordmask" / "ledger.sqlite")
    entries, rows = [], []
    pictures_of = dict.fromkeys(NAMES, 0)
    for number in range(count):
        image = np.zeros((*SIZE, 3), np.uint8) + chance.integers(40, 215, 3).astype(np.uint8)
        labels = np.full(SIZE, len(NAMES))
        for label in chance.choice(len(NAMES), 3, replace=False).tolist():
            top, left = int(chance.integers(0, 60)), int(chance.integers(0, 80))
            labels[top : top + 34, left : left + 44] = label
            image[top : top + 34, left : left + 44] = 60 * label
        name = f"{number:05d}"
        Image.fromarray(image).save(photos / f"{name}.png", compress_level=1)
        scores = np.full(SIZE, float(chance.uniform(0.3, 1)), np.float32)
        parts = [part_of(each, NAMES, SIZE) for each in find_instances(labels, [*NAMES, "background"], scores)]
        entries.append(Entry(f"{name}.png", name, ""))
        rows.append(Row(f"{name}.png", name, SIZE, round(1 - float(scores.mean()), 6), tuple(parts)))
        for part in {part.name for part in parts}:
            pictures_of[part] += 1
    ledger.add(entries, rows, 0)
    write_review(
        out,
        photos,
        ledger,
        names=NAMES,
        pictures_of=pictures_of,
        labelled=count,
        most=count,
        corrections=Corrections(),
        fingerprints=KeptFingerprints(out / ".wordmask" / "fingerprints.json", photos),
    )
    ledger.close()
    return out / "review.html"
