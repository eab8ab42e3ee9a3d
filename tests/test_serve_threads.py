"""A service computes with as many threads as make its networks faster."""

import time

import numpy as np
import pytest
import torch

from wordmask.serving.threads import settle_threads


class Network:
    """Takes `seconds[threads]` for a picture."""

    def __init__(self, seconds: dict[int, float]):
        self._seconds = seconds

    def see(self, images: list[np.ndarray], sources: list[str]) -> list[object]:
        time.sleep(self._seconds[torch.get_num_threads()])
        return [object()] * len(images)


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("one", "two", "chosen"), [(0.02, 0.01, 2), (0.01, 0.01, 1), (0.01, 0.03, 1)])
def test_threads_are_those_that_make_the_network_faster(one: float, two: float, chosen: int) -> None:
    assert settle_threads([Network({1: one, 2: two})]) == chosen  # type: ignore[list-item]
    assert torch.get_num_threads() == chosen


def test_the_slowest_network_counts_most() -> None:
    small, large = Network({1: 0.004, 2: 0.008}), Network({1: 0.05, 2: 0.025})
    assert settle_threads([small, large]) == 2  # type: ignore[list-item]
