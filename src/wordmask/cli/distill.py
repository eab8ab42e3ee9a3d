"""`wordmask distill`: a segmenter of one's own, from names and unlabelled pictures."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from wordmask.cli import crews, options
from wordmask.console import show


def distill(
    names: options.Names = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Unlabelled pictures: a folder, a list file, webdataset tars, or an embedding folder.",
            callback=options.local,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder of the run.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with any of this, and every other setting.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Whose networks and settings: paper, imagenet-s, or those of a plug-in.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="A segmenter that labels all pictures for the student, in place of archives and saliency."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything that is drawn by lot.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, such as archive.size=50; may be repeated.", callback=options.once),
    ] = None,
    corrections: Annotated[
        Path | None,
        typer.Option(
            help="What a person corrected: of the review, COCO, Label Studio, PNGs. Its masks are truths then, and "
            "count corrections.weight times (4)."
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Go on without pictures that are no longer there; a run stops at them else.")
    ] = False,
    workers: crews.Workers = None,
    cluster: crews.Cluster = None,
    learners: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --cluster: workers that train the student together, each on its share of a batch. [1]"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Train a fast segmenter from nothing but names and unlabelled pictures (NamedMask).

    Started again, it goes on where it was; with other settings, it makes anew what follows from them.

    Example: `wordmask distill --names names.txt --images pictures --out run`

    On a Ray cluster: `wordmask distill --names names.txt --images /shared/pictures --out /shared/run --cluster auto`

    A fast segmenter from a slow one: `wordmask distill --teacher clip-dinoiser --names names.txt --images pictures
    --out run`
    """
    from wordmask.console.progress import OnStderr
    from wordmask.distillation.config import make_run, read_config, setting
    from wordmask.distillation.pipeline import CONFIG, REPORT, Pipeline
    from wordmask.distillation.student import STUDENT_FILE

    given = {"names": names, "images": images, "out": out, "preset": preset, "seed": seed, "device": device}
    told: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if config is None and out is not None and names is None and images is None and (out / CONFIG).is_file():
        config = out / CONFIG  # what the run was told when it was begun
    layers = [read_config(config)] if config is not None else []
    if not layers:
        for key in ("names", "images", "out"):
            if key not in told:
                raise typer.BadParameter(f"--{key} is missing (or give --config FILE)")
    if names is not None:
        told["names"] = options.names(names)
    if teacher is not None:
        told["masks"] = {"teacher": teacher, "pictures": "all"}
    if corrections is not None:
        told["corrections"] = {"file": str(corrections)}
    if learners and not cluster:
        raise typer.BadParameter("--learners are of a cluster: give --cluster, or start wordmask with torchrun")
    run = make_run(*layers, told, *map(setting, settings or []))
    crew = crews.crew(workers, cluster, None, run.config.device, learners)
    pipeline = Pipeline(run, OnStderr(), prune=prune, crew=crew)
    pipeline.run_all()
    student, report = run.out / "student" / STUDENT_FILE, run.out / "report" / REPORT
    if as_json:
        show(
            json.dumps(
                {"student": str(student), "report": str(report), "names": list(run.names.names), "note": pipeline.note}
            )
        )
    else:
        show(f"student: {student}\nreport:  {report}" + (f"\n{pipeline.note}" if pipeline.note else ""))
