"""Which networks a method answers with, told by their values: a file may be trained anew under its old name."""

from collections.abc import Iterator, Mapping
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

from torch import nn

from wordmask.fingerprints import short_digest_of
from wordmask.weights.loading import fingerprint


def networks_fingerprint(method: Any) -> str | None:
    """One hash of all the networks that a segmenter or a saliency method holds; None if it holds none."""
    found = [fingerprint(network) for network in networks_of(method)]
    return short_digest_of(" ".join(found)) if found else None


def networks_of(method: Any) -> list[nn.Module]:
    """Each once and as a whole, also those that it has through other objects of this package, through functions and
    their closures."""
    found: list[nn.Module] = []
    seen: set[int] = set()
    waiting = [*_parts(method, always=True)][::-1]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            found.append(thing)
        else:
            waiting += [*_parts(thing)][::-1]
    inner = {id(part) for network in found for part in network.modules() if part is not network}
    return [network for network in found if id(network) not in inner]


def _parts(thing: Any, *, always: bool = False) -> Iterator[Any]:
    if isinstance(thing, MethodType):
        yield thing.__self__
    elif isinstance(thing, FunctionType):
        yield from thing.__closure__ or ()
    elif isinstance(thing, CellType):
        try:
            yield thing.cell_contents
        except ValueError:  # not filled yet
            return
    elif isinstance(thing, partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, list | tuple):
        yield from thing
    elif always or type(thing).__module__.startswith("wordmask."):
        yield from getattr(thing, "__dict__", {}).values()
