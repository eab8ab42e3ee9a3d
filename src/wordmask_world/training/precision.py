"""In which precision a training takes its steps fastest on this processor: tried, not assumed."""

import copy
import math
import time
from collections.abc import Callable
from typing import Literal, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from wordmask.compute import AUTO, has_bf16, pick_precision
from wordmask.encoders.precision import MARGIN

Precision = Literal["bf16", "fp32"]
Learning = TypeVar("Learning", bound=nn.Module)

ROUNDS = 2
"""Of a step in each precision, by turns, after one that warms up; the faster one of them counts."""


def fastest_precision(
    recipe: Learning, loss: Callable[[Learning, Precision], Tensor], device: torch.device
) -> Precision:
    """Return what a step is faster in, or what the environment says. loss: of a recipe like this one, which is a copy
    that is thrown away.
    """
    told = pick_precision(AUTO, device)
    if told in get_args(Precision):
        return cast(Precision, told)
    if not has_bf16(device):  # nothing learns in int8
        return "fp32"
    probe = copy.deepcopy(recipe).train()
    seconds: dict[Precision, float] = {"fp32": math.inf, "bf16": math.inf}
    for number in range(ROUNDS + 1):
        for precision, least in seconds.items():
            started = time.perf_counter()
            loss(probe, precision).backward()
            probe.zero_grad()
            if number:
                seconds[precision] = min(least, time.perf_counter() - started)
    return "bf16" if seconds["bf16"] < (1 - MARGIN) * seconds["fp32"] else "fp32"
