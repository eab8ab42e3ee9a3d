"""Label Studio's run lengths for brush labels: the format of thi.ng/rle-pack, over RGBA bytes.

A stream of bits: how many bytes there are (32 bits), the bits of a value less one (5), four sizes of run lengths less
one (4 each), and then tokens: 1 for a run or 0 for single values, which size its length has (2 bits), its length less
one, and the value.
"""

import numpy as np

LENGTH_BITS = (3, 4, 8, 16)
"""What Label Studio itself writes."""
VALUE_BITS = 8
CHANNELS = 4
"""A mask counts as an RGBA picture: each of its pixels four times."""
LONGEST_RUN = 2 ** LENGTH_BITS[-1]


def encode_brush(mask: np.ndarray) -> list[int]:
    """Return a mask (H, W) bool as Label Studio's list of bytes."""
    flat = np.asarray(mask, bool).ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1]) if flat.size else np.zeros(0, np.int64)
    lengths = CHANNELS * np.diff(np.append(starts, flat.size))
    pieces = -(-lengths // LONGEST_RUN)
    runs = np.full(int(pieces.sum()), LONGEST_RUN, np.int64)
    last = np.cumsum(pieces) - 1
    runs[last] = lengths - LONGEST_RUN * (pieces - 1)
    values = np.repeat(np.where(flat[starts], 255, 0), pieces)
    header = [(CHANNELS * flat.size, 32), (VALUE_BITS - 1, 5), *((bits - 1, 4) for bits in LENGTH_BITS)]
    sizes = np.searchsorted(2 ** np.array(LENGTH_BITS), runs)  # the first that holds each length
    length_bits = np.array(LENGTH_BITS)[sizes]
    tokens = (((0b100 | sizes) << length_bits | (runs - 1)) << VALUE_BITS) | values
    return _packed(
        np.concatenate([[value for value, _ in header], tokens]).astype(np.uint64),
        np.concatenate([[bits for _, bits in header], 3 + length_bits + VALUE_BITS]).astype(np.int64),
    )


def _packed(values: np.ndarray, widths: np.ndarray) -> list[int]:
    """Numbers of so many bits each, one after the other, the most significant bit first."""
    ends = np.cumsum(widths)
    owner = np.repeat(np.arange(len(widths)), widths)
    places = (ends[owner] - 1 - np.arange(ends[-1])).astype(np.uint64)
    bits = (values[owner] >> places) & np.uint64(1)
    packed: list[int] = np.packbits(bits.astype(np.uint8)).tolist()
    return packed
