"""The fixed table of names: the order is part of every file of labels, so it never changes."""

THINGS: tuple[str, ...] = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bowl", "bus", "car"),
    *("cat", "chair", "cow", "cup", "dog", "horse", "motorbike", "mushroom"),
    *("person", "potted plant", "sheep", "sofa", "table", "train", "tv monitor", "umbrella"),
)
STUFF: tuple[str, ...] = (
    *("brick", "curtain", "grass", "hedge", "road", "sand", "sky", "snow"),
    *("tiles", "water", "wood"),
)
NAMES: tuple[str, ...] = THINGS + STUFF
"""A label is an index into this: things first, then stuff, each in alphabetical order."""
INDEX: dict[str, int] = {name: index for index, name in enumerate(NAMES)}
