"""An evaluation's folder: what is measured, a line for every picture that is done, and in the end the result."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.benchmarks.protocols import OWN
from wordmask.benchmarks.wordings import PLAIN
from wordmask.files import atomic_write, naming_a_full_disk
from wordmask.methods import methods_of, presets_by_name, settings_of
from wordmask.runs.claim import check_claim, claimed
from wordmask.runs.parts import warn
from wordmask.runs.records import check_kept, explained, keep_settings, plain

VERB = "evaluate"
PLAN, RESULT, PAGE = "evaluation.json", "result.json", "result.html"
ONCE_UNSAID = {"protocol": OWN, "vocabulary": PLAIN}
"""What evaluations were made under, before it was recorded."""
ONCE_THE_PRESETS = ("found_preset", "saliency_preset", "dino_threshold")
"""Settings of segmenters that were the preset's own before they could be chosen, and were not recorded."""


def _explained(setting: str, old: Any, new: Any) -> str:
    if setting == "precision":
        return f"made with precision {old!r}, not {new!r}: load with precision={old!r} to go on so"
    return explained(setting, old, new)


class ResultFolder:
    """Claimed by a configuration: the same one goes on in it, another one is refused.

    Every process writes lines to a file of its own, so that several may share the work.
    """

    def __init__(self, path: Path, configuration: Mapping[str, Any]):
        self.path, self.configuration = path, plain(configuration)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for one evaluation at a time, what a killed one left mended."""
        rules: dict[str, Any] = {
            "holds": f"{self.path} holds an evaluation",
            "error": BenchmarkError,
            "explain": _explained,
            "before": _before(self.configuration),
        }
        check_out(self.path)
        check_kept(self.path / PLAN, self.configuration, **rules)  # one that is refused is left as it is
        with claimed(self.path, VERB, was_ours=is_evaluation, error=BenchmarkError):
            keep_settings(self.path / PLAN, self.configuration, **rules)
            self._mend()
            yield

    def _mend(self) -> None:
        """Remove the line that a killed process did not finish, and lines that are damaged, whose pictures are measured
        again.
        """
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


def check_out(folder: Path) -> None:
    """Raise, if the folder is no evaluation's, and not to be had for one."""
    check_claim(folder, VERB, was_ours=is_evaluation, error=BenchmarkError)


def is_evaluation(folder: Path) -> bool:
    """Return whether something was measured here before there were markers."""
    return (folder / PLAN).exists()


def _before(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return what settings were before they were recorded, for the preset that is asked for: another one is refused."""
    own = [key for key in ONCE_THE_PRESETS if key in (configuration.get("settings") or {})]
    method, preset = configuration.get("method"), str(configuration.get("preset"))
    unsaid = {key: value for key, value in ONCE_UNSAID.items() if key in configuration}
    if not own or method not in methods_of("segmenter") or preset not in presets_by_name("segmenter", method):
        return unsaid
    usual = settings_of("segmenter", method, preset)
    return {**unsaid, "settings": {key: getattr(usual, key) for key in own}}


def _row(line: bytes) -> dict[str, Any] | None:
    """Return a picture's scores; None where the line holds none."""
    try:
        row = json.loads(line)
        return row if isinstance(row, dict) and int(row["index"]) >= 0 else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
