"""An evaluation's folder: what is measured, a line for every picture that is done, and in the end the result."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.files import atomic_write, naming_a_full_disk, remove_leftovers
from wordmask.runs.parts import warn

PLAN, RESULT, PAGE = "evaluation.json", "result.json", "result.html"


class ResultFolder:
    """Claimed by a configuration: the same one goes on in it, another one is refused.

    Every process writes lines to a file of its own, so that several may share the work.
    """

    def __init__(self, path: Path, configuration: Mapping[str, Any]):
        self.path = path
        self.configuration = json.loads(json.dumps(configuration, default=str))
        plan = path / PLAN
        if plan.exists():
            self._check(plan)
            return
        if path.exists() and (not path.is_dir() or any(not file.name.startswith(".") for file in path.iterdir())):
            raise BenchmarkError(f"{path} is there already and holds no evaluation: choose another --out")
        with atomic_write(plan) as file:
            file.write(json.dumps(self.configuration, indent=1, ensure_ascii=False).encode())

    def _check(self, plan: Path) -> None:
        try:
            there = json.loads(plan.read_text(encoding="utf-8"))
            if not isinstance(there, dict):
                raise ValueError(f"it holds a {type(there).__name__}")
        except (ValueError, OSError) as error:
            raise BenchmarkError(f"{plan} cannot be read ({error}): choose another --out") from error
        for key in sorted({*there, *self.configuration}):
            old, new = there.get(key), self.configuration.get(key)
            if old != new:
                held = (
                    f"with {key} = {old!r}, not {new!r}" if key in there else f"that does not say its {key} ({new!r})"
                )
                raise BenchmarkError(f"{self.path} holds an evaluation {held}: choose another --out, or delete it")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """For one evaluation at a time."""
        lock = FileLock(self.path / ".lock")
        try:
            with lock.acquire(timeout=0):
                yield
        except Timeout as error:
            raise BenchmarkError(f"another evaluation is at work in {self.path}") from error

    def mend(self) -> None:
        """Remove files that a killed process began, the line that it did not finish, and lines that are damaged, whose
        pictures are measured again."""
        remove_leftovers(self.path)
        for file in self._files():
            lines = file.read_bytes().split(b"\n")
            kept = [line for line in lines[:-1] if _row(line) is not None]
            for number, line in enumerate(lines[:-1], start=1):
                if _row(line) is None:
                    warn(f"{file}, line {number} is damaged: its picture is measured again")
            if len(kept) < len(lines) - 1 or lines[-1]:
                with atomic_write(file) as anew:
                    anew.write(b"".join(line + b"\n" for line in kept))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every picture's line, once."""
        seen: set[int] = set()
        for file in self._files():
            with file.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if not line.endswith(b"\n"):
                        break
                    row = _row(line)
                    if row is None:
                        raise BenchmarkError(f"{file}, line {number}: no picture's scores; delete this file")
                    index = int(row["index"])
                    if index not in seen:
                        seen.add(index)
                        yield row

    def done(self) -> set[int]:
        return {int(row["index"]) for row in self.rows()}

    def append(self, share: int, lines: Iterable[str]) -> None:
        """Written and synced: what is here survives whatever comes next."""
        path = self.path / f"images-{share}.jsonl"
        with naming_a_full_disk(path), path.open("ab") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())

    def finish(self, result: Mapping[str, Any]) -> None:
        with atomic_write(self.path / RESULT) as file:
            file.write((json.dumps(result, indent=1, ensure_ascii=False, default=str) + "\n").encode())

    def _files(self) -> list[Path]:
        return sorted(self.path.glob("images-*.jsonl"))


def _row(line: bytes) -> dict[str, Any] | None:
    """A picture's scores; None where the line holds none."""
    try:
        row = json.loads(line)
        return row if isinstance(row, dict) and int(row["index"]) >= 0 else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
