"""A small archive with masks: coloured shapes on noise, one name a colour. Quick to make and quick to learn."""

import numpy as np
from PIL import Image

from wordmask.collection.references import ImageRef
from wordmask.distillation.augmentations import Augmentation
from wordmask.distillation.records import MaskRecord, MaskTable, encode_mask, write_masks
from wordmask.distillation.student import StudentSettings
from wordmask.segmenters.deeplab import small_resnet_settings

COLOURS = {"apple": (220, 30, 30), "leaf": (30, 200, 40), "sky": (40, 60, 230)}


def picture(name, seed, size=(40, 48)):
    """A disc of the name's colour on grey noise, and where it is."""
    draw = np.random.default_rng((seed, len(name)))
    height, width = size
    image = draw.integers(90, 150, (height, width, 1)).repeat(3, axis=2).astype(np.uint8)
    rows, columns = np.mgrid[:height, :width]
    radius = height * draw.uniform(0.2, 0.32)
    centre = draw.uniform(radius, height - radius), draw.uniform(radius, width - radius)
    mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
    image[mask] = COLOURS[name]
    return image, mask


def make_archive(folder, each=4, names=tuple(COLOURS), masks_of=lambda mask: mask, size=(40, 48)):
    """`masks_of` may spoil the masks, as saliency does."""
    (folder / "pictures").mkdir(parents=True)
    records = []
    for name in names:
        for rank in range(each):
            image, mask = picture(name, rank, (size[0], size[1] - 4 * (rank % 2)))
            file = f"{name}-{rank}.png"
            Image.fromarray(image).save(folder / "pictures" / file)
            rle = encode_mask(masks_of(mask))
            records.append(MaskRecord(name, rank, ImageRef(file), rle, 1.0, 1.0 - rank / 100))
    write_masks(folder / "masks" / "0000.arrow", records, root=folder / "pictures", names=names)
    return MaskTable(folder / "masks")


TINY = small_resnet_settings(
    backbone_options={"channels": (8, 8, 16, 16), "layers": (1, 1, 1, 1), "stem_width": 4}, width=16, low_width=8
)

QUICK = StudentSettings(
    network=TINY,
    start=None,
    augmentation=Augmentation(crop=32, scale=(0.6, 1.0)),
    steps=6,
    batch=4,
    learning_rate=3e-3,
    backbone_rate=3e-3,
    save_every=2,
    log_every=1,
)

NAMES = list(COLOURS)
