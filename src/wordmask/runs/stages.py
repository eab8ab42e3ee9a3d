"""Stages that know what they were made from, skip what is done, make anew what is stale, and say why.

A stage owns one folder of the run. Its record, `RUN/stages/NAME.json`, is written when it begins and when it is done:
the inputs it was made from, and the contents of its outputs by their hashes.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter

from wordmask.console.progress import Progress
from wordmask.errors import WordmaskError
from wordmask.files import NO_ROOM, atomic_write
from wordmask.fingerprints import digest_of, file_digest
from wordmask.runs.claim import is_claimed
from wordmask.runs.parts import vouch_for, warn
from wordmask.runs.records import differences

RECORDS = "stages"
"""The folder of a run that holds its stages' records."""
EARLIER, MADE_FROM = "earlier", "made_from.json"
"""The folder of a run that holds what stale stages have made, and the file in each that tells of what."""
REASONS_TOLD, MOST_SHOWN = 3, 40
LOOKS_EVERY = 0.2
"""Seconds between two looks of a process that waits for the first one."""
CALLS_EVERY, PATIENCE = 2.0, 120.0
"""Seconds between two looks whether the first one is still at work, and those after which it has ended."""
SETTLES = 30.0
"""Seconds in which the first one says what has become of outputs that are not as its record has them."""


class StageError(WordmaskError):
    """A stage cannot go on: says which, why, and the way out."""


class Console(Protocol):
    """Who is told how a run goes."""

    def say(self, text: str) -> None: ...

    def progress(self, description: str) -> AbstractContextManager[Progress]: ...


class Silent:
    def say(self, text: str) -> None:
        pass

    @contextmanager
    def progress(self, description: str) -> Iterator[Progress]:
        yield lambda done, total: None


@dataclass(frozen=True)
class Stage:
    """inputs: everything that its outputs follow from, by a name that a reader knows. outputs: patterns in its folder.

    by_content: whether outputs are told apart by their content, or, being huge, by size and time of change.
    keeps_parts: whether the stage itself knows which of its parts are stale, so that none is swept away.
    together: whether all processes of a launcher work at it, or the first one alone while the others wait.
    spares: whether what was made from other inputs may hold parts of use, though it was not finished. Such a folder and
    a finished one are set aside until the stage is done, where `earlier` finds them. prepare: what the first process
    does with them before all begin to make.
    """

    name: str
    folder: Path
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    make: Callable[[Progress], None]
    by_content: bool = True
    keeps_parts: bool = False
    together: bool = False
    spares: Callable[[Mapping[str, str]], bool] = lambda inputs: False
    prepare: Callable[[], None] = lambda: None


class _First:
    """A launcher's first process, which holds the run's folder while it is at work. Where it was never seen to, locks
    may not be told between these machines, and nothing is made of it.
    """

    def __init__(self, run: Path):
        self.run = run
        self._seen: float | None = None
        self._called = -math.inf

    def call(self, stage: str) -> None:
        """Raise, if it has been gone for long."""
        now = time.monotonic()
        if now - self._called < CALLS_EVERY:
            return
        self._called = now
        if is_claimed(self.run):
            self._seen = now
        elif self._seen is not None and now - self._seen > PATIENCE:
            raise StageError(
                f"{stage}: the first process (RANK 0) has not worked in {self.run} for {PATIENCE:.0f} seconds; what it "
                "said last tells why. Start the same command again, which goes on where it stopped"
            )


Output = tuple[int, int, str]
"""A file's size, time of change and hash."""


@dataclass
class Record:
    inputs: dict[str, str]
    done: bool = False
    digest: str = ""
    outputs: dict[str, Output] = field(default_factory=dict)
    seconds: float = 0.0


class Stages:
    """The records of a run's folder."""

    def __init__(self, run: Path, console: Console, *, leads: bool = True):
        self.run, self.console, self.leads = run, console, leads

    def run_stage(self, stage: Stage) -> str:
        """See that a stage is done; the digest of its outputs."""
        return self._lead(stage) if self.leads else self._follow(stage)

    def _follow(self, stage: Stage) -> str:
        """Do what another process than the first does: keep no records, and join in where all work together."""
        joined, first, changed = False, _First(self.run), None
        while True:
            record = read_record(self.run, stage.name)
            if record is not None and record.inputs == dict(stage.inputs):
                if record.done and all((stage.folder / name).exists() for name in record.outputs):
                    changed = changed or time.monotonic()
                    if _are_as_recorded(stage, record) or time.monotonic() - changed > SETTLES:
                        return record.digest
                elif not record.done and stage.together and not joined:
                    stage.make(lambda done, total: None)
                    joined, first = True, _First(self.run)
            first.call(stage.name)
            time.sleep(LOOKS_EVERY)

    def _lead(self, stage: Stage) -> str:
        record, why = self._standing(stage)
        if record is not None and record.done:
            self.console.say(f"{stage.name}: done before{f', {why}' if why else ''}")
            self._forget(stage)
            return record.digest
        self.console.say(f"{stage.name}: {why}")
        if record is None:
            self._clear(stage)
            record = Record(dict(stage.inputs))
        record.done = False
        start = time.monotonic()
        try:
            stage.prepare()
            self._write(stage, record)  # for which other processes wait
            with self.console.progress(stage.name) as report:
                stage.make(report)
            record.seconds += time.monotonic() - start
            record.outputs = _contents(stage, {})
            record.digest, record.done = _digest(record.outputs), True
            self._write(stage, record)
            self._forget(stage)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise StageError(
                    f"{stage.name}: no room is left on the disk of {self.run} ({error.strerror}). What is finished is "
                    "kept: make room, and start the same command again"
                ) from error
            raise
        return record.digest

    def seconds(self) -> dict[str, float]:
        """Return how long each stage took that is done."""
        names = [path.stem for path in sorted((self.run / RECORDS).glob("*.json"))]
        records = {name: read_record(self.run, name) for name in names}
        return {name: record.seconds for name, record in records.items() if record is not None and record.done}

    def _standing(self, stage: Stage) -> tuple[Record | None, str]:
        """Return the record to go on from, None where there is none to go on from; and a word about it."""
        record = read_record(self.run, stage.name)
        if record is None:
            return None, "begun"
        if record.inputs != dict(stage.inputs):
            told = [_changed(*each) for each in differences(record.inputs, stage.inputs)]
            more = f" and {len(told) - REASONS_TOLD} more" if len(told) > REASONS_TOLD else ""
            return None, f"made anew, as {', '.join(told[:REASONS_TOLD])}{more}"
        if not record.done:
            return record, "goes on where it stopped"
        if gone := [name for name in record.outputs if not (stage.folder / name).exists()]:
            record.done = False
            return record, f"made anew in part, as {stage.folder / gone[0]} is gone"
        outputs = _contents(stage, record.outputs)
        if (digest := _digest(outputs)) == record.digest:
            if outputs != record.outputs:  # touched, or copied with its run
                record.outputs = outputs
                self._write(stage, record)
            return record, ""
        others = [n for n in outputs if outputs[n][2] != record.outputs.get(n, (0, 0, ""))[2]]
        for name in others:
            vouch_for(stage.folder / name)
        changed = next(iter(others), "a file")
        record.outputs, record.digest = outputs, digest
        self._write(stage, record)
        return record, f"and {changed} has been changed since, which is kept; delete it to have it made anew"

    def _write(self, stage: Stage, record: Record) -> None:
        write_record(self.run, stage.name, record)

    def _clear(self, stage: Stage) -> None:
        """Nothing of a stale stage may be taken for a part of the new one."""
        if stage.keeps_parts or not stage.folder.exists():
            return
        record = read_record(self.run, stage.name)
        if record is None or not (record.done or stage.spares(record.inputs)):
            shutil.rmtree(stage.folder)
            return
        with atomic_write(stage.folder / MADE_FROM) as file:
            file.write(json.dumps(record.inputs).encode())
        numbers = [int(folder.suffix[1:]) for folder, _ in earlier(self.run, stage.name)]
        place = self.run / EARLIER / f"{stage.name}.{max(numbers, default=0) + 1}"
        place.parent.mkdir(exist_ok=True)
        stage.folder.rename(place)

    def _forget(self, stage: Stage) -> None:
        for folder, _ in earlier(self.run, stage.name):
            shutil.rmtree(folder)


def earlier(run: Path, stage: str) -> list[tuple[Path, dict[str, str]]]:
    """Folders of a stage that were set aside, the latest first, and what each was made from."""
    folders = sorted((run / EARLIER).glob(f"{stage}.*"), key=lambda folder: -int(folder.suffix[1:]))
    return [(folder, _made_from(folder / MADE_FROM)) for folder in folders]


def _made_from(path: Path) -> dict[str, str]:
    """Nothing where a kill while the folder was deleted has left it without."""
    if not path.exists():
        return {}
    try:
        return TypeAdapter(dict[str, str]).validate_python(json.loads(path.read_bytes()))
    except (ValueError, RecursionError):
        warn(f"{path} is damaged: what lies beside it is not used")
        return {}


def _changed(key: str, old: str | None, new: str | None) -> str:
    short = max(len(str(old)), len(str(new))) <= MOST_SHOWN
    return f"{key} changed from {old} to {new}" if short else f"{key} changed"


def _contents(stage: Stage, known: Mapping[str, Output]) -> dict[str, Output]:
    """Every output's size, time of change and hash; `known` saves hashing what has not changed."""
    found = {}
    for path in sorted(path for pattern in stage.outputs for path in stage.folder.glob(pattern)):
        name = str(path.relative_to(stage.folder))
        status = path.stat()
        size, changed = status.st_size, status.st_mtime_ns
        if name in known and known[name][:2] == (size, changed):
            found[name] = known[name]
        else:
            found[name] = (size, changed, file_digest(path) if stage.by_content else f"{size} {changed}")
    return found


def _are_as_recorded(stage: Stage, record: Record) -> bool:
    """Whether its outputs have not been changed since: else the first process is about to say so."""
    try:
        found = _contents(replace(stage, by_content=False), {})
    except OSError:  # one went while it was looked at
        return False
    return {name: own[:2] for name, own in found.items()} == {name: own[:2] for name, own in record.outputs.items()}


def _digest(outputs: Mapping[str, Output]) -> str:
    return digest_of(json.dumps([[name, outputs[name][2]] for name in sorted(outputs)]))


def record_path(run: Path, stage: str) -> Path:
    return run / RECORDS / f"{stage}.json"


def read_record(run: Path, stage: str) -> Record | None:
    path = record_path(run, stage)
    try:
        return TypeAdapter(Record).validate_python(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:  # what it holds is no JSON, or no record
        why = str(error).splitlines()[0]
        raise StageError(f"{path} cannot be read ({why}): delete it to have its stage made anew") from error


def write_record(run: Path, stage: str, record: Record) -> None:
    with atomic_write(record_path(run, stage)) as file:
        file.write(json.dumps(vars(record), indent=1).encode())
