"""A table under way: where its data lie, which device works, and the folder that keeps its figures."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from wordmask import benchmarks, saliency, segmenters
from wordmask._version import __version__
from wordmask.benchmarks import evaluation
from wordmask.benchmarks.datasets import Benchmark
from wordmask.benchmarks.protocols import OWN
from wordmask.benchmarks.results import is_evaluation
from wordmask.benchmarks.scores import Report
from wordmask.benchmarks.tables.errors import MISSING, NotRunError
from wordmask.benchmarks.wordings import PLAIN
from wordmask.console.progress import Progress
from wordmask.errors import WordmaskError
from wordmask.files import atomic_write
from wordmask.fingerprints import file_fingerprint
from wordmask.plugins import installed, named
from wordmask.runs.claim import check_claim, claimed, empty
from wordmask.runs.records import check_settings, plain
from wordmask.segmenters.base import Segmenter
from wordmask.text_files import TextFileError, read_json

Bar = Callable[[str, int | None], AbstractContextManager[Progress | None]]
"""(description, how many) -> a context that gives `report(done, total)`."""


VERB, FIGURES = "tables", "figures.json"


class RunError(WordmaskError):
    """The folder holds figures that were measured otherwise."""


def _was_ours(folder: Path) -> bool:
    """Return whether a table was measured here before there were markers."""
    try:
        told = read_json(folder / FIGURES)
    except TextFileError:
        return any(map(is_evaluation, (folder / "work").glob("*/*")))
    return isinstance(told, dict) and told.keys() >= {"of", "figures"}


def models_of_plugins() -> dict[str, str]:
    """Return what tells the networks that packages bring from those of another installation, which may be better
    trained.
    """
    return {label: named(address)() for plugin in installed() for label, address in plugin.models.items()}


class Shared(Protocol):
    """What the tables of a suite share, such as the runs that they distil."""

    def described(self) -> Mapping[str, Any]:
        """Return what figures hang on, by the names that a folder's record has for it."""
        ...


class Run:
    """Handed to every cell's `measure`.

    root: the folder of the data sets. pictures: how many of each benchmark, None for all. device: as for `load`.
    weights: a method's name -> a file or URL in place of its presets' weights, such as a student of one's own.
    archive: a folder of pictures, or a run of `wordmask distill`, for methods that learn names from such. shared: what
    the tables of a suite share.
    beside: whether the columns beside a paper's are measured, whose benchmarks need no data.
    protocol, vocabulary: in place of the rows' own, in tables whose rows have such.
    folder: keeps the figures, so that a table that was stopped goes on; `fresh` forgets those of an earlier run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        root: Path | None = None,
        pictures: int | None = None,
        device: str = "auto",
        precision: str = "fp32",
        batch_size: int = 8,
        weights: Mapping[str, str] | None = None,
        archive: Path | None = None,
        shared: Shared | None = None,
        beside: bool = True,
        protocol: str | None = None,
        vocabulary: str | None = None,
        fresh: bool = False,
        progress: Bar | None = None,
    ):
        self.folder, self.root, self.pictures = folder, root, pictures
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self.weights, self.archive, self.shared = dict(weights or {}), archive, shared
        self.beside = beside
        self.protocol, self.vocabulary = protocol, vocabulary
        self.progress: Bar = progress or (lambda description, total: nullcontext())
        self._loaded: tuple[str, Any] | None = None
        self._notes: dict[str, str] = {}  # of rows: what whoever reads their figures must know
        self._unloadable: dict[str, str] = {}  # why, so that a server is not asked again for every cell
        self._cell: tuple[str, str] = ("", "")
        check_claim(folder, VERB, was_ours=_was_ours, error=RunError)
        if fresh and folder.exists():
            with self.held():
                empty(folder)
        self._figures: dict[str, dict[str, dict[str, float]]] = self._open()

    def held(self) -> AbstractContextManager[None]:
        """Hold the folder while cells are measured."""
        return claimed(self.folder, VERB, was_ours=_was_ours, error=RunError)

    def segmenter(self, method: str, preset: str = "paper", **settings: Any) -> Segmenter:
        """`wordmask.load` on this run's device. The last one stays loaded for the next cell of its row."""
        return self._load(segmenters.load, "segmenter", method, preset, settings)

    def saliency(self, method: str, preset: str = "paper", **settings: Any) -> Any:
        """`wordmask.saliency.load` in the same way."""
        return self._load(saliency.load, "saliency", method, preset, settings)

    def open(self, benchmark: str, split: str | None = None, vocabulary: str = PLAIN) -> Benchmark:
        """Return a benchmark with this run's `root` and as many pictures as it is to have."""
        return benchmarks.open_benchmark(
            benchmark, split=split, root=self.root, pictures=self.pictures, vocabulary=vocabulary
        )

    def evaluate(
        self,
        segmenter: Segmenter,
        benchmark: "str | Benchmark",
        split: str | None = None,
        *,
        protocol: str = OWN,
        single: bool = False,
    ) -> Report:
        """Measure a segmenter on a benchmark, with progress; go on where that was stopped. protocol: what its way to
        look at pictures is called. single: ask for every name alone too.
        """
        opened = self.open(benchmark, split) if isinstance(benchmark, str) else benchmark
        out = self.cell_folder / f"{opened.name}-{opened.split}"
        with self.progress(self.describe(opened), len(opened)) as report:
            return evaluation.evaluate(
                segmenter,
                opened,
                batch_size=self.batch_size,
                out=out,
                protocol=protocol,
                single=single,
                page=False,
                on_progress=report,
            )

    def describe(self, benchmark: Benchmark) -> str:
        """For the progress bar: the row at hand and what it is measured on."""
        return f"{self._cell[0] or 'measuring'}: {benchmark.name}, {benchmark.split}"

    @contextmanager
    def at(self, row: str, column: str) -> Iterator[None]:
        self._cell = (row, column)
        try:
            yield
        finally:
            self._cell = ("", "")

    @property
    def row(self) -> str:
        """The label of the row at hand."""
        return self._cell[0]

    @property
    def cell_folder(self) -> Path:
        """For what a cell wants to keep while it is being measured."""
        return self.folder / "work" / "-".join(re.sub(r"[^\w+]+", "_", part).strip("_") for part in self._cell)

    def kept(self, row: str, column: str) -> float | None:
        return self._figures.get(row, {}).get(column, {}).get("value")

    def keep(self, row: str, figures: Mapping[str, float], *, seconds: float) -> None:
        for column, value in figures.items():
            self._figures.setdefault(row, {})[column] = {"value": float(value), "seconds": round(seconds, 2)}
        kept = {"of": self._described(), "figures": self._figures} | ({"notes": self._notes} if self._notes else {})
        text = json.dumps(kept, indent=1, ensure_ascii=False)
        with atomic_write(self._file) as file:
            file.write(text.encode())

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads the figures must know of what was measured, row by row."""
        return tuple(f"{row}: {note}" for row, note in self._notes.items())

    @property
    def count_kept(self) -> int:
        return sum(len(columns) for columns in self._figures.values())

    @property
    def _file(self) -> Path:
        return self.folder / FIGURES

    def _described(self) -> dict[str, Any]:
        return {
            "wordmask": __version__,
            **models_of_plugins(),
            "pictures": self.pictures,
            "precision": self.precision,
            "weights": {method: [file, file_fingerprint(Path(file))] for method, file in self.weights.items()},
            "archive": None if self.archive is None else str(self.archive),
            **({} if self.protocol is None else {"protocol": self.protocol}),
            **({} if self.vocabulary is None else {"vocabulary": self.vocabulary}),
            **({} if self.shared is None else self.shared.described()),
        }

    def _open(self) -> dict[str, dict[str, dict[str, float]]]:
        if not self._file.exists():
            return {}
        try:
            read = json.loads(self._file.read_text())
            of, figures, notes = dict(read["of"]), dict(read["figures"]), dict(read.get("notes", {}))
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self._file} holds no figures of a table ({error}); --fresh starts anew") from error
        asked, way_out = plain(self._described()), "choose another --out-dir, or --fresh to measure anew"
        check_settings(of, asked, holds=f"{self._file} holds figures", error=RunError, way_out=way_out)
        self._notes |= notes
        return figures

    def _load(self, load: Callable[..., Any], kind: str, method: str, preset: str, settings: Any) -> Any:
        if method in self.weights:
            settings = {"weights": self.weights[method], **settings}
        key = repr((kind, method, preset, sorted(settings.items())))
        if key in self._unloadable:
            raise NotRunError(self._unloadable[key])
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # two large networks need not fit together
            try:
                loaded = load(method, preset=preset, device=self.device, precision=self.precision, **settings)
            except MISSING as error:
                self._unloadable[key] = str(error)
                raise NotRunError(str(error)) from error
            self._loaded = (key, loaded)
        if (note := getattr(self._loaded[1], "note", None)) is not None:
            self._notes[self.row or method] = note
        return self._loaded[1]
