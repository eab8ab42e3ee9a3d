"""What other packages bring: methods, presets, addresses of weights, benchmarks, tables, verbs.

A package says so by an entry point of the group `wordmask.plugins` that names a `Plugin`:

    [project.entry-points."wordmask.plugins"]
    my-package = "my_package.plugin:PLUGIN"

A `Plugin` is a value that names things by "module:attribute", so that nothing is imported before it is asked for: the
module that holds it must be light itself.
"""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

GROUP = "wordmask.plugins"


@dataclass(frozen=True)
class Verb:
    """A verb of the command line, imported when it is called or its help is asked for."""

    address: str
    """A function as typer takes it, or a typer application with verbs of its own: "module:attribute"."""
    about: str
    """What `wordmask --help` says of it: the first paragraph of its own help."""
    resumes: bool | Collection[str] = False
    """Whether the same command goes on where it was stopped; of an application, those of its verbs that do."""


@dataclass(frozen=True)
class Plugin:
    """What one package brings. Every value is an address of Python's, "module:attribute"."""

    presets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Method -> preset -> the settings that differ from the method's own, by name."""
    methods: Mapping[str, str] = field(default_factory=dict)
    """Method -> what describes it: `wordmask.methods.Method`."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Scheme -> a function from a name to what `scheme:name` stands for: `wordmask.weights.addresses.Found`."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Words that stand for an address of weights. The only values here that are no addresses of Python's."""
    verbs: Mapping[str, Verb] = field(default_factory=dict)
    """What `wordmask` is to be able to do besides, by its word."""


@cache
def installed() -> tuple[Plugin, ...]:
    """Return the plug-ins of this environment. One that cannot be imported is named in a warning and left out."""
    found = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            plugin = point.load()
        except Exception as error:  # whatever a foreign package raises must not take the rest along
            warnings.warn(f"the plug-in {point.name} ({point.value}) cannot be loaded: {error}", stacklevel=2)
            continue
        if not isinstance(plugin, Plugin):
            warnings.warn(f"the plug-in {point.name} ({point.value}) is no wordmask.plugins.Plugin", stacklevel=2)
            continue
        found.append(plugin)
    return tuple(found)


def presets_of(name: str) -> dict[str, Any]:
    """Return the presets that plug-ins bring for a method."""
    found = (plugin.presets.get(name, {}) for plugin in installed())
    return {preset: named(address) for presets in found for preset, address in presets.items()}


def named(address: str) -> Any:
    """Return what "module:attribute" names."""
    module, _, attribute = address.partition(":")
    return getattr(import_module(module), attribute)
