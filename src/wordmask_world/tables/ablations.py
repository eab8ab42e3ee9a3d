"""NamedMask distilled over and over on the built-in world, each time with something else changed.

All runs lie below one folder and take from each other what they have in common, so that a stage is made once however
many of them need it. Every run can be killed and gone on with.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wordmask.benchmarks.tables.errors import MISSING, NotRunError
from wordmask.console.progress import Progress
from wordmask.distillation.config import make_run, setting
from wordmask.distillation.experts import EXPERT_FILE, ExpertSettings
from wordmask.distillation.student import STUDENT_FILE
from wordmask.errors import WordmaskError
from wordmask.names.vocabulary import BACKGROUND, Vocabulary
from wordmask.runs.stages import Console, Silent
from wordmask_world.benchmark import PICTURES, World
from wordmask_world.drawing.names import NAMES, THINGS
from wordmask_world.files.writing import write_folder
from wordmask_world.tables.ablation_settings import AblationSettings
from wordmask_world.tables.branches import Branch

COLLECTION_SEED = 11
EXPERTS_SHARE = 10
"""Steps of a student for one of an expert's, where only the former are told."""


class SomeOfTheWorld(World):
    """The world's benchmark with some of its names; whatever else is on a picture is background."""

    def __init__(self, names: tuple[str, ...], split: str, pictures: int):
        super().__init__(split, pictures=pictures)
        self.vocabulary = Vocabulary.of([BACKGROUND, *names])
        self._own = np.zeros(len(NAMES), dtype=np.uint8)
        for label, name in enumerate(names, start=1):
            self._own[THINGS.index(name)] = label

    def _labels(self, labels: np.ndarray) -> np.ndarray:
        own: np.ndarray = self._own[labels]
        return own


class Ablations:
    """Runs by their names, made when a table asks for them. Why one cannot be made is said as a `NotRunError`."""

    def __init__(self, chosen: AblationSettings, *, device: str = "auto", console: Console | None = None):
        self.chosen, self.device = chosen, device
        self.console: Console = console or Silent()
        self.figures: dict[str, Mapping[str, float]] = {}
        """Of rows whose figures come all at once."""
        self._students: dict[str, Path] = {}
        self._networks: Branch | NotRunError | None = None
        self._branch("none", {})  # settings that cannot be fail here, and not in every cell

    def described(self) -> dict[str, Any]:
        """For the record of a table's figures."""
        return {"distilled": self.chosen.described()}

    def benchmark(self, split: str, pictures: int | None) -> SomeOfTheWorld:
        return SomeOfTheWorld(self.chosen.names, split, PICTURES if pictures is None else pictures)

    def networks(self) -> Branch:
        """A run that makes nothing, for its CLIP, its saliency, and how it refines masks."""
        if self._networks is None:
            branch = self._branch("none", {})
            try:
                with self._reasons("the networks"):
                    _ = branch.clip, branch.saliency
            except MISSING as error:
                self._networks = NotRunError(str(error))
            else:
                self._networks = branch
        if isinstance(self._networks, NotRunError):
            raise self._networks
        return self._networks

    def student(self, name: str, changed: Mapping[str, Any]) -> Path:
        """The student of a run."""
        if name not in self._students:
            branch = self._begun(name, changed)
            with self._reasons(name):
                branch.run_all()
            self._students[name] = branch.out / "student" / STUDENT_FILE
        return self._students[name]

    def experts(self, name: str, changed: Mapping[str, Any]) -> list[tuple[list[str], Path]]:
        """The experts of a run, each with its names; what comes after them is left undone."""
        branch = self._begun(name, changed)
        with self._reasons(name):
            branch.run_to("experts")
            return [
                (group, branch.out / "experts" / f"{number:03d}" / EXPERT_FILE)
                for number, group in enumerate(branch.groups)
            ]

    @property
    def expert_settings(self) -> ExpertSettings:
        """Of all runs whose rows say nothing else."""
        experts = self._branch("none", {}).config.experts
        if experts is None:
            raise NotRunError("there are no experts, as experts=null: leave that setting out")
        return experts

    def _begun(self, name: str, changed: Mapping[str, Any]) -> Branch:
        """A run; its networks are looked for before anything is drawn or embedded for it."""
        self.networks()
        with self.console.progress("drawing pictures") as report:
            write_folder(self._collection, self.chosen.collection, seed=COLLECTION_SEED, progress=report)
        with self._reasons(name):
            return self._branch(name, changed)

    @property
    def _collection(self) -> Path:
        return self.chosen.runs / f"collection-{self.chosen.collection}"

    def _branch(self, name: str, changed: Mapping[str, Any]) -> Branch:
        runs, steps = self.chosen.runs, self.chosen.steps
        given = {
            "preset": "world",
            "names": list(self.chosen.names),
            "images": self._collection / "images",
            "out": runs / name,
            "device": self.device,
        }
        fewer = {} if steps is None else {"student": {"steps": steps}, "experts": {"steps": -(-steps // EXPERTS_SHARE)}}
        run = make_run(given, fewer, *map(setting, self.chosen.settings), changed)
        lenders = sorted(path.parent for path in runs.glob("*/stages"))
        return Branch(run, Named(self.console, name), lenders=lenders)

    @contextmanager
    def _reasons(self, name: str) -> Iterator[None]:
        """Errors of one run leave its figures out, and the others in."""
        try:
            yield
        except MISSING:
            raise
        except WordmaskError as error:
            raise NotRunError(f"{name}: {error}") from error


class Named:
    """Says of which run it tells."""

    def __init__(self, console: Console, name: str):
        self._console, self._name = console, name

    def say(self, text: str) -> None:
        self._console.say(f"{self._name}: {text}")

    def progress(self, description: str) -> AbstractContextManager[Progress]:
        return self._console.progress(f"{self._name}: {description}")
