"""`wordmask distill`: the pipeline, told on stderr as it goes; where the student and the report are, on stdout."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import typer

from wordmask.console import say, show
from wordmask.console.progress import Report, progress_bar
from wordmask.distillation.config import make_run, read_config, setting
from wordmask.distillation.pipeline import CONFIG, REPORT, Pipeline
from wordmask.distillation.student import STUDENT_FILE


class Teller:
    """Sentences and progress on stderr: a bar where somebody watches, a line now and then where not."""

    def say(self, text: str) -> None:
        say(text)

    def progress(self, description: str) -> AbstractContextManager[Report]:
        return progress_bar(description, None, counts=False, announce=False)  # `say` has told what begins


def run(
    *,
    names: Path | None,
    images: Path | None,
    out: Path | None,
    config: Path | None,
    preset: str | None,
    seed: int | None,
    device: str | None,
    pairs: list[str],
    as_json: bool,
    prune: bool = False,
) -> None:
    given = {"names": names, "images": images, "out": out, "preset": preset, "seed": seed, "device": device}
    told: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if config is None and out is not None and names is None and images is None and (out / CONFIG).is_file():
        config = out / CONFIG  # what the run was told when it was begun
    layers = [read_config(config)] if config is not None else []
    if not layers:
        for key in ("names", "images", "out"):
            if key not in told:
                raise typer.BadParameter(f"--{key} is missing (or give --config FILE)")
    chosen = make_run(*layers, told, *(setting(pair) for pair in pairs))
    Pipeline(chosen, Teller(), prune=prune).run_all()
    student, report = chosen.out / "student" / STUDENT_FILE, chosen.out / "report" / REPORT
    if as_json:
        show(json.dumps({"student": str(student), "report": str(report), "names": list(chosen.names.names)}))
    else:
        show(f"student: {student}\nreport:  {report}")
