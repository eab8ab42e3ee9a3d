"""Networks that a file describes: nothing is built before what is asked for has been held against what is there."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from wordmask.errors import WordmaskError
from wordmask.weights.loading import WeightsError, check_fit, load_into

Network = TypeVar("Network", bound=nn.Module)

REPLACED, SMALL_NETWORK = 8, 4096
"""While it is built, a network may hold some times as many layers as in the end, as those of a classifier are replaced
and those behind the features cut off; and a small one a few thousand."""
SMALL_VALUES = 2**24
LARGE_NUMBER = 4096
"""Of channels, blocks or pixels, where the tensors themselves are all smaller."""


def built_from(
    build: Callable[[], Network],
    state: Mapping[str, Tensor],
    *,
    what: str,
    rename: Callable[[str], str] | None = None,
    allow_extra: Iterable[str] = (),
    on_draft: Callable[[], None] = lambda: None,
) -> Network:
    """Return the network that `build` makes, with `state` in it.

    It is made without memory first (on the meta device), and only when all of its tensors are those of `state` for
    real: a file of a few bytes may describe a network of any size. on_draft: called then, before it is.
    """
    extra = tuple(allow_extra)
    try:
        with _no_more_than(state, what), torch.random.fork_rng(devices=[]), torch.device("meta"):
            draft = build()
    except WordmaskError:
        raise
    except Exception as error:  # every family of networks fails in its own ways
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(f"{what}: the network that it describes cannot be built ({why})") from error
    check_fit(draft, state, what=what, rename=rename, allow_extra=extra)
    on_draft()
    network = build()
    load_into(network, state, what=what, rename=rename, allow_extra=extra)
    return network


def check_numbers(told: Any, state: Mapping[str, Tensor], what: str) -> None:
    """Refuse a description with larger numbers than anything in the file can stand for: so many blocks or channels."""
    sides = [side for tensor in state.values() if tensor.numel() for side in tensor.shape]
    most = max([LARGE_NUMBER, len(state), *sides])
    waiting = [told]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, int | float) and not -most <= value <= most:
            raise WeightsError(f"{what}: the network that it describes is larger than the file (it asks for {value:g})")


@contextmanager
def _no_more_than(state: Mapping[str, Tensor], what: str) -> Iterator[None]:
    """While this thread builds a network, it may make so many layers and values as these tensors can be those of."""
    layers = REPLACED * len(state) + SMALL_NETWORK
    values = REPLACED * sum(tensor.numel() for tensor in state.values()) + SMALL_VALUES
    own = threading.get_ident()

    def count(module: nn.Module, name: str, added: Any) -> None:
        nonlocal layers, values
        if threading.get_ident() != own or added is None:
            return
        layers -= 1
        values -= added.numel() if isinstance(added, Tensor) else 0
        if layers < 0 or values < 0:
            raise WeightsError(f"{what}: the network that it describes is larger than the file")

    handles = [
        register(count)
        for register in (
            register_module_module_registration_hook,
            register_module_parameter_registration_hook,
            register_module_buffer_registration_hook,
        )
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
