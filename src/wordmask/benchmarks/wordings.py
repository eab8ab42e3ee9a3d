"""Vocabularies by name: by which words the names of a benchmark are asked for, as data (`data/vocabularies.toml`).

>>> worded(open_benchmark("voc", root="data"), "sclip").vocabulary.phrases[4]
('ship',)
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from functools import cache
from importlib.resources import files

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from wordmask.benchmarks.datasets import Benchmark, BenchmarkError, Sample

PLAIN = "plain"
"""The vocabulary of the benchmark's own names."""
OTHERS = "others"
"""The key of what is unsure on all benchmarks that have no word of their own."""


class WordingError(BenchmarkError):
    """No such vocabulary, or none for this benchmark."""


@dataclass(frozen=True)
class Wording:
    """A row of the data file. words: benchmark -> name -> what is read in its place, phrases or the name of a group."""

    about: str
    words: Mapping[str, Mapping[str, str | tuple[str, ...]]] = field(default_factory=dict)
    unsure: Mapping[str, str] = field(default_factory=dict)

    def unsure_on(self, benchmark: str) -> str:
        """Return what is not known of the published words on a benchmark; nothing where all is."""
        return self.unsure.get(benchmark, self.unsure.get(OTHERS, "")) if benchmark in self.words else ""


@cache
def _read() -> tuple[dict[str, tuple[str, ...]], dict[str, Wording]]:
    text = files("wordmask").joinpath("data/vocabularies.toml").read_text(encoding="utf-8")
    told = tomllib.loads(text)
    groups = TypeAdapter(dict[str, tuple[str, ...]]).validate_python(told.pop("groups"))
    return groups, TypeAdapter(dict[str, Wording]).validate_python(told)


def list_wordings() -> dict[str, Wording]:
    """Return all vocabularies by their names."""
    return _read()[1]


def find_wording(name: str) -> Wording:
    """Return a vocabulary by its name."""
    known = list_wordings()
    if name not in known:
        raise WordingError(f"no vocabulary is called {name!r}; choose one of {', '.join(known)}")
    return known[name]


class Worded:
    """A benchmark whose names are asked for in other words; `wording` is what these are called."""

    def __init__(self, benchmark: Benchmark, wording: str):
        self.name, self.split, self.ignore = benchmark.name, benchmark.split, benchmark.ignore
        self.wording = wording
        self._benchmark = benchmark
        read = {name: _phrases(words) for name, words in _words(wording, benchmark.name).items()}
        known = benchmark.vocabulary
        if unknown := read.keys() - set(known.names):
            raise WordingError(f"{wording} words {sorted(unknown)}, which {benchmark.name} does not have")
        pairs = zip(known.names, known.phrases, strict=True)
        # not checked for phrases that stand for two names: published lists have such
        self.vocabulary = replace(known, phrases=tuple(read.get(name, phrases) for name, phrases in pairs))

    def __len__(self) -> int:
        return len(self._benchmark)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._benchmark)

    def __getitem__(self, index: int) -> Sample:
        return self._benchmark[index]

    def key(self, index: int) -> str:
        return self._benchmark.key(index)


def worded(benchmark: Benchmark, wording: str) -> Benchmark:
    """Return a benchmark whose names are asked for in the words of a vocabulary."""
    find_wording(wording)
    return benchmark if wording == PLAIN else Worded(benchmark, wording)


def wording_of(benchmark: Benchmark) -> str:
    """Return the name of the vocabulary that a benchmark is asked for in."""
    return str(getattr(benchmark, "wording", PLAIN))


def _words(wording: str, benchmark: str) -> Mapping[str, str | tuple[str, ...]]:
    known = find_wording(wording).words
    if benchmark not in known:
        raise WordingError(
            f"the vocabulary {wording!r} has no words for {benchmark}, but for {', '.join(known)}: choose {PLAIN!r}"
        )
    return known[benchmark]


def _phrases(words: str | tuple[str, ...]) -> tuple[str, ...]:
    return _read()[0][words] if isinstance(words, str) else words
