"""What other packages bring: methods, presets, addresses of weights, benchmarks, tables, verbs.

A package says so by an entry point of the group `wordmask.plugins` that names a `Plugin`:

    [project.entry-points."wordmask.plugins"]
    my-package = "my_package.plugin:PLUGIN"

A `Plugin` is a value that names things by "module:attribute", so that nothing is imported before it is asked for: the
module that holds it must be light itself.
"""

import json
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import Any

from wordmask.errors import WordmaskError

GROUP = "wordmask.plugins"
_ADDRESS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_VERB_WORD = re.compile("[a-z][a-z0-9-]*")


class PluginError(WordmaskError):
    """What an address names is not there."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command line, imported when it is called or its help is asked for."""

    address: str
    """A function as typer takes it, or a typer application with verbs of its own: "module:attribute"."""
    about: str
    """What `wordmask --help` says of it: the first paragraph of its own help."""
    resumes: bool | Collection[str] = False
    """Whether the same command goes on where it was stopped; of an application, those of its verbs that do."""
    below: Mapping[str, str] = field(default_factory=dict)
    """Words that may come first of what follows a function's own, and the addresses of the functions that they name."""


@dataclass(frozen=True)
class PluginBenchmark:
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
class PluginSuite:
    """Tables of a package's own that are measured together, one after the other, by one name.

    open: a function from what was said of the suite (a mapping; `device` and `console` by name) to what its tables
    share, which `Run.shared` holds, and the tables by their names.
    """

    tables: tuple[str, ...]
    open: str


@dataclass(frozen=True)
class PluginFolder:
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
    `train-selfmask`, `train-dinoiser`, `train-talk2dino`) -> preset -> the same; `distill` -> preset -> a `RunConfig`,
    and `distill-head` -> preset -> the `HeadStudentSettings` that its student has where it is of that kind."""
    methods: Mapping[str, str] = field(default_factory=dict)
    """Method -> what describes it: `wordmask.methods.Method`."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Scheme -> a function from a name to what `scheme:name` stands for: `wordmask.weights.addresses.Found`."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Words that stand for an address of weights. The only values here that are no addresses of Python's."""
    verbs: Mapping[str, Verb] = field(default_factory=dict)
    """What `wordmask` is to be able to do besides, by its word."""
    benchmarks: Mapping[str, PluginBenchmark] = field(default_factory=dict)
    """Benchmark -> what it is and how it is opened."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """Table -> a mapping of tables by name, which holds it."""
    suites: Mapping[str, PluginSuite] = field(default_factory=dict)
    """Suite -> its tables, and how it is begun."""
    models: Mapping[str, str] = field(default_factory=dict)
    """What the record of a table's figures calls the package's networks -> a function to their fingerprint."""
    drawn: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Training -> preset -> the pictures that it draws where none are given: `training.pictures.Drawn`."""
    folders: tuple[PluginFolder, ...] = ()
    """Folders written before there were markers."""
    best: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Preset -> its segmenters, the best first: what the method "auto" is with it. No addresses."""
    examples: str | None = None
    """A function to pictures with names for the page and for `/docs`: `serving.examples.Examples`."""
    package: str = ""
    """Who brings this, for messages; told when it is found."""


@cache
def installed() -> tuple[Plugin, ...]:
    """Return the plug-ins of this environment. One that cannot be imported, or that holds what a plug-in cannot, is
    named in a warning and left out.
    """
    found: list[Plugin] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        told = f"the plug-in {point.name} ({point.value})"
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:  # whatever a foreign package raises must not take the rest along
            warnings.warn(f"{told} cannot be loaded: {error}", stacklevel=2)
            continue
        if not isinstance(plugin, Plugin):
            warnings.warn(f"{told} is no wordmask.plugins.Plugin", stacklevel=2)
        elif faults := list(_faults(plugin)):
            warnings.warn(f"{told} is left out: {'; '.join(faults)}", stacklevel=2)
        else:
            found.append(_less(found, replace(plugin, package=_package(point))))
    return tuple(found)


def brought(what: str, is_own: Callable[[str], bool]) -> dict[str, Any]:
    """Return what plug-ins bring in a field of `Plugin`, by its words. What is a word of `wordmask` already stays
    what it is.
    """
    return {
        word: value
        for plugin in installed()
        for word, value in getattr(plugin, what).items()
        if not is_own(word) or _left_out(plugin, what, word, "wordmask")
    }


def _less(before: Collection[Plugin], plugin: Plugin) -> Plugin:
    """Return a plug-in without the words that one before it brings."""
    kept: dict[str, Any] = {}
    for what in ("addresses", "aliases", "verbs", "benchmarks", "tables", "suites", "models"):
        taken = {word: other.package for other in before for word in getattr(other, what)}
        kept[what] = {
            word: value
            for word, value in getattr(plugin, what).items()
            if word not in taken or _left_out(plugin, what, word, taken[word])
        }
    for what in ("presets", "drawn"):
        taken = {
            (of, word): other.package for other in before for of, some in getattr(other, what).items() for word in some
        }
        kept[what] = {
            of: {
                word: value
                for word, value in some.items()
                if (of, word) not in taken or _left_out(plugin, f"{what} of {of}", word, taken[of, word])
            }
            for of, some in getattr(plugin, what).items()
        }
    return replace(plugin, **kept)


def _left_out(plugin: Plugin, what: str, word: str, other: str) -> bool:
    """Warn that a word is taken; never true."""
    warnings.warn(
        f"{word!r} among the {what} of {plugin.package} is {other}'s already, so it is left out", stacklevel=3
    )
    return False


def _package(point: EntryPoint) -> str:
    return point.name if point.dist is None else point.dist.name


Check = Callable[[Any, str], Iterator[str]]
"""From a value and where it stands to what is wrong with it."""


def _faults(plugin: Plugin) -> Iterator[str]:
    """Yield what a plug-in holds that it cannot."""
    for name, check in _CHECKS.items():
        yield from check(getattr(plugin, name), name)


def _address(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        yield f'{where} is {value!r}, and not "module:attribute"'


def _a(kind: type, value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, kind):
        yield f"{where} is {value!r}, and not a {kind.__name__}"


def _maybe(check: Check, value: Any, where: str) -> Iterator[str]:
    if value is not None:
        yield from check(value, where)


def _by_word(check: Check, value: Any, where: str) -> Iterator[str]:
    yield from _a(Mapping, value, where)
    for word, one in value.items() if isinstance(value, Mapping) else ():
        yield from _a(str, word, f"a word of {where}")
        yield from check(one, f"{where}[{word!r}]")


def _verbs(value: Any, where: str) -> Iterator[str]:
    yield from _by_word(partial(_made_of, Verb, _VERB), value, where)
    for word in value if isinstance(value, Mapping) else ():
        if not _VERB_WORD.fullmatch(str(word)):
            yield f"{where} has {word!r}, and a verb's word is small letters, digits and -"


def _each(kind: type[Collection[Any]], check: Check, value: Any, where: str) -> Iterator[str]:
    yield from _a(kind, value, where)
    for number, one in enumerate(value if isinstance(value, kind) else ()):
        yield from check(one, f"{where}[{number}]")


def _made_of(kind: type, checks: Mapping[str, Check], value: Any, where: str) -> Iterator[str]:
    yield from _a(kind, value, where)
    for name, check in checks.items() if isinstance(value, kind) else ():
        yield from check(getattr(value, name), f"{where}.{name}")


def _resumes(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, bool):
        yield from _each(Collection, _text, value, where)  # type: ignore[type-abstract]


_text, _flag = partial(_a, str), partial(_a, bool)
_texts, _addresses = partial(_each, tuple, _text), partial(_by_word, _address)
_VERB: dict[str, Check] = {"address": _address, "about": _text, "resumes": _resumes}
_BENCHMARK: dict[str, Check] = {
    **{"about": _text, "open": _address, "preset": partial(_maybe, _text)},
    **{"background": _flag, "archive": partial(_maybe, _address)},
}
_FOLDER: dict[str, Check] = {
    **{"settings": _text, "holds": partial(_each, frozenset, _text)},
    **{"is_its": _address, "verb": _text, "pictures": _texts},
}
_SUITE: dict[str, Check] = {"tables": _texts, "open": _address}
_CHECKS: dict[str, Check] = {
    "presets": partial(_by_word, _addresses),
    "methods": _addresses,
    "addresses": _addresses,
    "aliases": partial(_by_word, _text),
    "verbs": _verbs,
    "benchmarks": partial(_by_word, partial(_made_of, PluginBenchmark, _BENCHMARK)),
    "tables": _addresses,
    "suites": partial(_by_word, partial(_made_of, PluginSuite, _SUITE)),
    "models": _addresses,
    "drawn": partial(_by_word, _addresses),
    "folders": partial(_each, tuple, partial(_made_of, PluginFolder, _FOLDER)),
    "best": partial(_by_word, _texts),
    "examples": partial(_maybe, _address),
}


class Presets(Mapping[str, Any]):
    """Presets by name: its own ones, then those of plug-ins, each imported when it is asked for."""

    def __init__(self, own: Mapping[str, Any], brought: Mapping[str, str]):
        self._own, self._brought = own, brought

    def __getitem__(self, name: str) -> Any:
        return self._own[name] if name in self._own else named(self._brought[name])

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._brought

    def __iter__(self) -> Iterator[str]:
        return iter({**self._own, **self._brought})

    def __len__(self) -> int:
        return len({**self._own, **self._brought})


def presets_of(name: str, own: Mapping[str, Any]) -> Presets:
    """Return the presets of a method, a training or `distill`: its own, and those that plug-ins bring."""
    found = ((plugin, plugin.presets.get(name, {})) for plugin in installed())
    return Presets(
        own,
        {
            preset: address
            for plugin, presets in found
            for preset, address in presets.items()
            if preset not in own or _left_out(plugin, f"presets of {name}", preset, "wordmask")
        },
    )


def preset_words() -> list[str]:
    """Return the presets that plug-ins bring for anything."""
    return list(
        dict.fromkeys(word for plugin in installed() for brought in plugin.presets.values() for word in brought)
    )


def where_from(word: str) -> str:
    """Return what to add to a message that there is no such preset, scheme, alias or benchmark: which package brings
    it, where that is known and the package is not here.
    """
    mappings = ("addresses", "aliases", "benchmarks")
    if word in preset_words() or any(word in getattr(plugin, what) for plugin in installed() for what in mappings):
        return ""
    text = files("wordmask").joinpath("data/words-of-packages.json").read_text(encoding="utf-8")
    known: dict[str, dict[str, Any]] = json.loads(text)
    return next(
        (
            f"; {word!r} is brought by {package}, which is not installed here: {told['get']}"
            for package, told in known.items()
            if word in told["words"]
        ),
        "",
    )


def named(address: str) -> Any:
    """Return what "module:attribute" names."""
    name, _, attribute = address.partition(":")
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):  # it is there, and needs another
            raise
        raise PluginError(f"{address}{_whose(address)} cannot be had: there is no module {error.name}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise PluginError(f"{address}{_whose(address)} cannot be had: {name} has no {attribute}") from error


def _whose(address: str) -> str:
    """Name the package that brings an address, where one is known to."""
    whose = (plugin.package for plugin in installed() if address in _texts_in(vars(plugin)))
    return next((f", which {package} brings," for package in whose if package), "")


def _texts_in(value: Any) -> Iterator[str]:
    """Yield all texts of what a plug-in holds."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(part)
    elif hasattr(value, "__dataclass_fields__"):
        yield from _texts_in(vars(value))
