"""How many threads networks compute with while they serve.

Torch spreads each operation over all processors. A small network's are too short to gain from that, and while several
requests are at work each of their threads wakes the others for nothing.
"""

import time
from collections.abc import Iterable

import numpy as np
import torch

from wordmask.segmenters.base import Segmenter

SIDE, ROUNDS = 448, 5
GAIN = 1.5
"""Times as fast as one thread all of them must be, to be worth what they take from other requests."""


def settle_threads(segmenters: Iterable[Segmenter]) -> int:
    """Have torch compute with one thread where all processors are no faster for these networks; return how many."""
    most = torch.get_num_threads()
    if most == 1:
        return most
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    seconds = {most: 0.0, 1: 0.0}
    for segmenter in segmenters:
        least = dict.fromkeys(seconds, float("inf"))
        for _ in range(1 + ROUNDS):  # the first warms up
            for count in least:
                torch.set_num_threads(count)
                start = time.perf_counter()
                segmenter.see([picture], ["<measured>"])
                least[count] = min(least[count], time.perf_counter() - start)
        for count, own in least.items():
            seconds[count] += own
    threads = most if seconds[1] > GAIN * seconds[most] else 1
    torch.set_num_threads(threads)
    return threads
