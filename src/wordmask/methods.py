"""Methods by name: a small table, modules imported when they are asked for, settings that are checked."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from wordmask.errors import WordmaskError
from wordmask.text_files import shown

FEW = 12
"""Settings that a message lists whole."""
MOST_LETTERS = 60
"""Of a setting that is not there: comparing long ones takes long."""


class MethodError(WordmaskError):
    """No such method, preset, setting or device."""


@dataclass(frozen=True)
class Method:
    """Where a method lives: a class with `load`, its dataclass of settings, and its presets by name."""

    paper: str
    module: str
    name: str
    settings: str
    presets: str = "PRESETS"
    about: str = ""
    """What it does, in a few words."""


def load_method(
    kind: str,
    methods: Mapping[str, Method],
    method: str,
    *,
    preset: str,
    weights: str | Path | None,
    device: str,
    precision: str,
    settings: Mapping[str, Any],
) -> Any:
    """The method of a table, set up from a preset with single settings changed. `kind` is what messages call it."""
    from wordmask.encoders.precision import pick_precision

    chosen, module = check_method(kind, methods, method, preset=preset, settings=settings)
    try:
        device = pick_device(device)
        loaded = getattr(module, chosen.name).load(
            preset, weights=weights, device=device, precision=pick_precision(precision, device), **settings
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise MethodError(
            f"{method}: {first['loc'][0]}={shown(first['input'])} cannot be used: {first['msg'].lower()}"
        ) from error
    loaded.preset = preset
    return loaded


def check_method(
    kind: str, methods: Mapping[str, Method], method: str, *, preset: str, settings: Iterable[str]
) -> tuple[Method, ModuleType]:
    """That there is such a method with such a preset and settings; nothing is loaded but its module."""
    if method not in methods:
        raise MethodError(f"no {kind} is called {shown(method)}; choose one of {', '.join(methods)}")
    chosen = methods[method]
    module = import_module(chosen.module)
    presets = getattr(module, chosen.presets)
    if preset not in presets:
        raise MethodError(f"{method} has no preset {shown(preset)}; choose one of {', '.join(presets)}")
    known = [field.name for field in fields(getattr(module, chosen.settings))]
    for key in settings:
        if key not in known:
            where = f"{chosen.module}.{chosen.settings}"
            raise MethodError(f"{method} has no setting {shown(key)}; {nearest(key, known, where)}")
    return chosen, module


def nearest(key: str, known: Sequence[str], where: str) -> str:
    """Return what to write in place of a setting that there is not: the ones that are most like it, or else all.

    where: the module and class of the settings, which Python documents.
    """
    if len(known) <= FEW:
        return f"it has {', '.join(known)}"
    own = [name for name in known if key in name.split("_") or name in key.split("_")]
    near = list(dict.fromkeys([*own, *difflib.get_close_matches(key[:MOST_LETTERS], known, n=3)]))[:3]
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}`python -m pydoc {where}` explains all {len(known)}"


def pick_device(device: str) -> str:
    """ "auto" -> the accelerator of this machine, or the CPU."""
    import torch

    if device != "auto":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise MethodError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}; try cpu") from error
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
