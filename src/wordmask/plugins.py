"""What other packages bring: methods, presets, addresses of weights, benchmarks, tables, verbs.

A package says so by an entry point of the group `wordmask.plugins` that names a `Plugin`:

    [project.entry-points."wordmask.plugins"]
    my-package = "my_package.plugin:PLUGIN"

A `Plugin` is a value that names things by "module:attribute", so that nothing is imported before it is asked for: the
module that holds it must be light itself.
"""

import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
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
class BroughtBenchmark:
    """A benchmark of a package's own.

    about: what it is, in a few words. open: a function from (name, root, split, pictures) to a `Benchmark`.
    preset: of methods made for its pictures. Such a benchmark draws its pictures and needs no data, and the papers'
    tables have a column for it beside their own. background: whether one of its names is background.
    archive: a function that draws pictures to learn names from, below a folder, and says where they lie.
    """

    about: str
    open: str
    preset: str | None = None
    background: bool = True
    archive: str | None = None


@dataclass(frozen=True)
class BroughtSuite:
    """Tables of a package's own that are measured together, one after the other, by one name.

    open: a function from what was said of the suite (a mapping; `device` and `teller` by name) to what its tables
    share, which `Run.shared` holds, and the tables by their names.
    """

    tables: tuple[str, ...]
    open: str


@dataclass(frozen=True)
class BroughtFolder:
    """A folder that a command of a package's wrote before folders had markers.

    settings: the file that tells it, and `holds`: what else lies in it. is_its: a function that looks into that file.
    verb: the command. pictures: the folders below it that hold pictures.
    """

    settings: str
    holds: frozenset[str]
    is_its: str
    verb: str
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plugin:
    """What one package brings. Every value is an address of Python's, "module:attribute", or holds some."""

    presets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Method -> preset -> the settings that differ from the method's own, by name. Also a training (`train-found`,
    `train-selfmask`, `train-dinoiser`) -> preset -> the same, and `distill` -> preset -> a `RunConfig`."""
    methods: Mapping[str, str] = field(default_factory=dict)
    """Method -> what describes it: `wordmask.methods.Method`."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Scheme -> a function from a name to what `scheme:name` stands for: `wordmask.weights.addresses.Found`."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Words that stand for an address of weights. The only values here that are no addresses of Python's."""
    verbs: Mapping[str, Verb] = field(default_factory=dict)
    """What `wordmask` is to be able to do besides, by its word."""
    benchmarks: Mapping[str, BroughtBenchmark] = field(default_factory=dict)
    """Benchmark -> what it is and how it is opened."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """Table -> a mapping of tables by name, which holds it."""
    suites: Mapping[str, BroughtSuite] = field(default_factory=dict)
    """Suite -> its tables, and how it is begun."""
    models: Mapping[str, str] = field(default_factory=dict)
    """What the record of a table's figures calls the package's networks -> a function to their fingerprint, from what
    the record says already, or None."""
    drawn: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Training -> preset -> the pictures that it draws where none are given: `training.pictures.Drawn`."""
    folders: tuple[BroughtFolder, ...] = ()
    """Folders written before there were markers."""
    examples: str | None = None
    """A function to pictures with names for the page and for `/docs`: `serving.examples.Examples`."""


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
    """Return the presets that plug-ins bring for a method, a training or `distill`."""
    found = (plugin.presets.get(name, {}) for plugin in installed())
    return {preset: named(address) for presets in found for preset, address in presets.items()}


def preset_words() -> list[str]:
    """Return the presets that plug-ins bring for anything."""
    return list(
        dict.fromkeys(word for plugin in installed() for brought in plugin.presets.values() for word in brought)
    )


def where_from(preset: str) -> str:
    """Return what to add to a message that there is no such preset: which package brings it, where that is known and
    the package is not here.
    """
    if preset in preset_words():
        return ""
    text = files("wordmask").joinpath("data/presets-of-packages.json").read_text(encoding="utf-8")
    known: dict[str, dict[str, str]] = json.loads(text)
    if preset not in known:
        return ""
    told = known[preset]
    return f"; {preset!r} is brought by {told['package']}, which is not installed here: {told['get']}"


def named(address: str) -> Any:
    """Return what "module:attribute" names."""
    module, _, attribute = address.partition(":")
    return getattr(import_module(module), attribute)
