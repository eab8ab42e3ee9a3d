"""Masks as a person mends them."""

import json

import numpy as np

from wordmask.corrections.run_lengths import lengths_of, mask_of

SIZE = (30, 40)  # of ring.png


def box(top, left, height, width, size=SIZE):
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def masks_by_name(correction):
    found = {}
    for mask in correction.masks:
        own = mask_of(lengths_of(mask.counts, correction.size), correction.size)
        found[mask.name] = found.get(mask.name, False) | own
    return found


MENDED = {"red": box(2, 3, 8, 9), "lynx": box(20, 10, 5, 20)}


def coco_file(folder, segmentation, **changes):
    image = {"id": 7, "file_name": "ring.png", "height": SIZE[0], "width": SIZE[1]}
    told = {
        "images": [image | changes, {"id": 8, "file_name": "nothing.png", "height": 24, "width": 24}],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "lynx"}],
        "annotations": [
            {"id": number, "image_id": 7, "category_id": number, "segmentation": segmentation(mask)}
            for number, mask in enumerate(MENDED.values(), start=1)
        ],
    }
    path = folder / "coco.json"
    path.write_text(json.dumps(told))
    return path
