"""Methods by name: segmenters, saliency, refinements and makers of regions, the package's own and those of plug-ins.

What a name stands for is imported when it is asked for; settings are checked before anything is loaded.
"""

import difflib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, get_args

from pydantic import ValidationError

from wordmask.compute import Compute, is_processor
from wordmask.method_list import METHODS, NO_WEIGHTS, Kind, Method, MethodError
from wordmask.plugins import installed, named, presets_of, where_from
from wordmask.text_files import shown

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

__all__ = [
    "CALLED",
    "DEFAULT_PRESET",
    "LOADED_BY",
    "METHODS",
    "NO_WEIGHTS",
    "Declared",
    "Kind",
    "Method",
    "MethodError",
    "check_method",
    "find_method",
    "list_methods",
    "load_method",
    "methods_of",
    "nearest",
    "networks_behind",
    "presets_by_name",
    "settings_of",
    "table_to_choose_by",
]

CALLED: dict[str, str] = {
    "segmenter": "method",
    "saliency": "saliency method",
    "refinement": "refinement",
    "regions": "maker of regions",
}
"""Kinds as messages call them."""
LOADED_BY: dict[Kind, str] = {
    "segmenter": "wordmask.load",
    "saliency": "wordmask.saliency.load",
    "regions": "wordmask.regions.load",
}
FEW = 12
"""Settings that a message lists whole."""
MOST_LETTERS = 60
"""Of a setting that is not there: comparing long ones takes long."""
DEFAULT_PRESET = "paper"


def list_methods(kind: Kind | None = None) -> tuple[Method, ...]:
    """Return all methods, or those of a kind: "segmenter", "saliency", "refinement", "regions". The plug-ins' come
    last.
    """
    if kind is not None and kind not in get_args(Kind):
        raise MethodError(f"no kind of methods is called {shown(kind)}; choose one of {', '.join(get_args(Kind))}")
    known = {(method.kind, method.name): method for method in METHODS}
    for plugin in installed():
        for name, address in plugin.methods.items():
            method, trouble = _brought(name, address, known)
            if method is None:
                warnings.warn(f"the method {name} of {plugin.package or address} is left out: {trouble}", stacklevel=2)
            else:
                known[method.kind, method.name] = method
    return tuple(method for method in known.values() if kind in (None, method.kind))


def _brought(name: str, address: str, known: Mapping[tuple[Kind, str], Method]) -> tuple[Method | None, str]:
    """Return a plug-in's method, or None and why it cannot be taken."""
    try:
        method = named(address)
    except Exception as error:  # whatever a foreign module raises must not take the other methods along
        return None, str(error)
    if not isinstance(method, Method):
        return None, f"{address} is no wordmask.methods.Method"
    if method.name != name:
        return None, f"{address} calls itself {method.name!r}"
    if (method.kind, name) in known:
        return None, f"a {CALLED[method.kind]} of this name is there already"
    return method, ""


def methods_of(kind: Kind) -> dict[str, Method]:
    """Return a kind's methods by name. The package's own go before others of their name."""
    return {method.name: method for method in list_methods(kind)}


def find_method(kind: Kind, name: str) -> Method:
    """Return the method of this name."""
    known = methods_of(kind)
    if name not in known:
        hint = _instead(kind, name, known)
        raise MethodError(f"no {CALLED[kind]} is called {shown(name)}{hint}; choose one of {', '.join(known)}")
    return known[name]


def _instead(kind: Kind, name: str, known: Iterable[str]) -> str:
    """Return what may have been meant: the name as it is spelt, or that of a method of another kind."""
    for own in known:
        if own == str(name).lower().replace("_", "-"):
            return f", but {own} is"
    for other in LOADED_BY:
        if other != kind and name in methods_of(other):
            return f": it is a {other} method, which `{LOADED_BY[other]}({name!r})` loads"
    near = difflib.get_close_matches(str(name)[:MOST_LETTERS], list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def table_to_choose_by(methods: Iterable[Method]) -> str:
    """Return a table in Markdown of what segmenters can be chosen by, the best published first."""
    lines = ["| method | published mIoU | cost | needs | licence of its weights |", "|---|---|---|---|---|"]
    for method in sorted(methods, key=lambda method: -(method.card.mean or 0.0)):
        card = method.card
        mean = "-" if card.mean is None else f"{card.mean:.1f} ({card.protocol})"
        mean += f", with {card.beyond}" if card.beyond else ""
        cost = "-" if card.cost is None else f"{card.cost:g}"
        wants = f"; {card.wants}" if card.wants else ""
        lines.append(f"| {method.name} | {mean} | {cost} | {method.needs}{wants} | {method.licence} |")
    return "\n".join(lines) + (
        "\n\nmIoU in percent, the mean of eight benchmarks, as published with the preset `paper`; in brackets whose "
        "sizes and words it was made with, which differ. Cost: seconds a picture as multiples of MaskCLIP's, on a "
        "processor; of clip-diy an estimate by its networks' multiply-adds."
    )


class _Loading:
    """In place of the `load` that classes had."""

    def __get__(self, instance: object, owner: "type[Declared]") -> NoReturn:
        name = getattr(owner, "method", "METHOD")
        raise AttributeError(f"{owner.__name__} has no `load`: say {owner.loaded_by}({name!r}, preset=...)")


class Declared:
    """What a method says of its parts; every `Segmenter` and `Saliency` does.

    Settings: the dataclass of its settings, whose defaults are the paper's. presets: choices of them by name.
    has_weights: whether there are trained weights of its own, that `weights` can be given for. loaded_by: what loads
    it by its name.
    """

    method: ClassVar[str]
    Settings: ClassVar[Any] = None
    presets: ClassVar[Mapping[str, Any]] = {}
    has_weights: ClassVar[bool] = False
    loaded_by: ClassVar[str] = LOADED_BY["segmenter"]
    load = _Loading()
    preset: str = "custom"
    precision: str = "fp32"
    """What the networks compute with: "fp32", "bf16" or "int8"."""

    @classmethod
    def build(cls, *given: Any, **weights: Any) -> Self:
        """Return the method with the networks that its settings name: `build(settings, compute)`.

        Where it `has_weights`, `weights` is the address of those in place of the settings' own.
        """
        raise MethodError(f"{cls.__name__} cannot be loaded by its name: it has no `build`")

    @property
    def networks(self) -> "Mapping[str, nn.Module]":
        """Its networks by what they are to it. Here, those that are attributes of its own."""
        from torch import nn

        return {name: part for name, part in vars(self).items() if isinstance(part, nn.Module)}

    @property
    def device(self) -> "torch.device":
        """Return where its networks compute."""
        import torch

        weights = (weight for network in self.networks.values() for weight in network.parameters())
        first = next(weights, None)
        return torch.device("cpu") if first is None else first.device

    def equip(self) -> None:
        """Load what its settings ask for beside the method's own networks; `load` does so once it is built."""

    def to(self, device: "str | torch.device") -> Self:
        """Move its networks to a device, and return it."""
        usable = Compute(str(device), "fp32").device  # checked also where there is nothing to move
        if self.precision == "int8" and not is_processor(usable):
            raise MethodError(f"int8 is for processors, not for {usable!r}: load {self.method} anew on that device")
        for network in self.networks.values():
            network.to(usable)
        return self


def networks_behind(part: object, name: str) -> "dict[str, nn.Module]":
    """Return the networks of a method that another one asks, by itself or by one of its functions: `found.maps`."""
    owner = getattr(part, "__self__", part)
    return {f"{name}.{key}": network for key, network in owner.networks.items()} if isinstance(owner, Declared) else {}


def presets_by_name(kind: Kind, name: str) -> Mapping[str, Any]:
    """Return a method's presets, those of plug-ins included: settings, or those of them that differ from its own."""
    return presets_of(name, named(find_method(kind, name).at).presets)


def check_method(kind: Kind, name: str, *, preset: str, settings: Iterable[str]) -> type[Declared]:
    """Return the class of a method that has such a preset and settings; nothing is loaded but its module."""
    chosen: type[Declared] = named(find_method(kind, name).at)
    presets = presets_by_name(kind, name)
    if preset not in presets:
        known = ", ".join(presets)
        raise MethodError(f"{name} has no preset {shown(preset)}; choose one of {known}{where_from(preset)}")
    own = [field.name for field in fields(chosen.Settings)]
    for key in settings:
        if key not in own:
            where = f"{chosen.Settings.__module__}.{chosen.Settings.__name__}"
            raise MethodError(f"{name} has no setting {shown(key)}; {nearest(key, own, where)}")
    return chosen


def settings_of(kind: Kind, name: str, preset: str = DEFAULT_PRESET, **changes: Any) -> Any:
    """Return a preset's settings, with single ones changed."""
    chosen = check_method(kind, name, preset=preset, settings=changes)
    told = presets_by_name(kind, name)[preset]
    if not isinstance(told, Mapping):
        usual = chosen.Settings()
        told = {key: value for key, value in vars(told).items() if value != getattr(usual, key, None)}
    try:
        return chosen.Settings(**{**told, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        key, value, why = first["loc"][0], shown(first["input"]), first["msg"].lower()
        if first["type"] == "tuple_type":
            why = f"a list is wanted, such as {key}=[{value}]"
        raise MethodError(f"{name}: {key}={value} cannot be used: {why}") from error


def load_method(
    kind: Kind,
    name: str,
    *,
    preset: str,
    weights: "str | Path | None",
    compute: Compute | Callable[[], Compute],
    settings: Mapping[str, Any],
) -> Any:
    """Return a method by its name, from a preset with single settings changed. compute: or what makes it, once the rest
    is known to be right.
    """
    chosen = check_method(kind, name, preset=preset, settings=settings)
    if weights is not None and not chosen.has_weights:
        known = [field.name for field in fields(chosen.Settings)]
        own = [f"{network}_weights" for network in known if f"{network}_weights" in known]
        instead = " or ".join(f"{key}={weights}" for key in own)
        raise MethodError(
            f"{name} has no trained weights of its own to take from {weights}"
            + (f": for those of its networks say {instead} (`--set {own[0]}=...`)" if own else "")
        )
    told = settings_of(kind, name, preset, **settings)
    given = {} if weights is None else {"weights": weights}
    loaded = chosen.build(told, compute() if callable(compute) else compute, **given)
    loaded.equip()
    if "preset" not in vars(loaded):  # a student may know better
        loaded.preset = preset
    return loaded


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
