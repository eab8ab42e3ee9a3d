"""`wordmask evaluate`: a segmenter, or a saliency method, against a benchmark."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from wordmask import benchmarks, saliency, segmenters
from wordmask.benchmarks import default_benchmark, list_benchmarks, named_settings
from wordmask.cli import crews, options
from wordmask.console import complain, say, show
from wordmask.console.progress import progress_bar
from wordmask.methods import methods_of
from wordmask.segmenters import DEFAULT_METHOD
from wordmask.text_files import counted


def evaluate(
    benchmark: Annotated[str | None, typer.Option(help=f"One of {', '.join(list_benchmarks())}.")] = (
        default_benchmark()
    ),
    split: Annotated[
        str | None,
        typer.Option(help="Of the benchmark, by default the one that papers report."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="The folder of the data sets; benchmarks that are drawn need none.")
    ] = None,
    pictures: Annotated[int | None, typer.Option(min=1, help="Only so many, evenly spread.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only see whether the data are there and as they should be.")
    ] = (False),
    method: Annotated[
        str, typer.Option(help="The segmenter, by its paper; or a saliency method: found, selfmask, ...")
    ] = DEFAULT_METHOD,
    preset: options.Preset = "paper",
    protocol: Annotated[
        str,
        typer.Option(help=f"How pictures are looked at, by whose paper: {', '.join(named_settings('protocols'))}."),
    ] = "own",
    vocabulary: Annotated[
        str,
        typer.Option(help=f"By which words names are asked for: {', '.join(named_settings('vocabularies'))}."),
    ] = "plain",
    weights: options.Weights = None,
    settings: options.Settings = None,
    boundary: Annotated[bool, typer.Option("--boundary", help="Measure borders too: boundary IoU.")] = False,
    single: Annotated[
        bool,
        typer.Option("--single", help="Ask for every name alone too: IoU-single, with and without concepts to race."),
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, ...; several parted by commas share the work, with --out.")
    ] = "auto",
    precision: options.StatedPrecision = "fp32",
    batch_size: options.BatchSize = 8,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A folder for every picture's scores, the result and a page; goes on there."),
    ] = None,
    workers: crews.Workers = None,
    cluster: crews.Cluster = None,
    time_limit: crews.TimeLimit = None,
    as_json: options.Json = False,
) -> None:
    """Measure a segmenter on a benchmark: mIoU, pixel accuracy, every name's IoU.

    Example: `wordmask evaluate --benchmark voc --root data --method clip-dinoiser --out runs/voc`

    Papers looked at pictures, and asked for names, in ways that differ: `--protocol sclip --vocabulary sclip`.
    """
    opening: dict[str, Any] = {
        "name": benchmark,
        "split": split,
        "root": root,
        "pictures": pictures,
        "vocabulary": vocabulary,
    }
    if check:
        _check_data(opening, as_json=as_json)
        return
    devices = [name.strip() for name in device.split(",")]
    if len(devices) > 1 and out is None:
        raise typer.BadParameter(f"--device {device} shares the work through a folder: give --out")
    if (workers or cluster or time_limit) and (out is None or len(devices) > 1):
        raise typer.BadParameter(
            "--workers and --cluster share the work through a folder, on one kind of device: give --out"
        )
    load = options.segmenter(method, preset, weights, devices[0], precision, settings)
    from wordmask.benchmarks import evaluation, spreading
    from wordmask.benchmarks.datasets import BenchmarkError
    from wordmask.benchmarks.protocols import settings_under
    from wordmask.benchmarks.results import check_out
    from wordmask.benchmarks.wordings import find_wording

    if out is not None:
        check_out(out)  # before networks are loaded, which may take long
    opened = benchmarks.open_benchmark(**opening)
    kind = "saliency" if method in methods_of("saliency") else "segmenter"
    if kind == "segmenter":
        load["method"] = method = options.method(method, preset, weights)
    load = settings_under(protocol, method, opened.name, preset=preset, kind=kind) | load
    if unsure := find_wording(vocabulary).unsure_on(opened.name):
        complain(f"note: of the words of {vocabulary} for {opened.name} it is not known {unsure}")
    asked = {"weights": weights}
    with progress_bar("evaluating", len(opened)) as progress:
        report: Any
        if kind == "saliency":
            if len(devices) > 1 or boundary or single or workers or cluster or time_limit:
                raise BenchmarkError(
                    "saliency is evaluated on one device, and without --boundary, --single or --workers"
                )
            from wordmask.benchmarks.saliency import evaluate_saliency

            report = evaluate_saliency(
                saliency.load(**load), opened, batch_size=batch_size, out=out, asked=asked, on_progress=progress
            )
        else:
            crew = None if len(devices) > 1 else crews.crew(workers, cluster, time_limit, device)
            how: dict[str, Any] = {
                "out": out,
                "batch_size": batch_size,
                "boundary": boundary,
                "single": single,
                "asked": asked,
                "protocol": protocol,
                "on_progress": progress,
            }
            if len(devices) > 1:
                report = spreading.evaluate_on_devices(load, opening, devices, say=say, **how)
            elif crew is not None:
                report = spreading.evaluate_by_crew(load, opening, crew, say=say, **how)
            else:
                report = evaluation.evaluate(segmenters.load(**load), opened, **how)
    show(json.dumps(report.as_json(), ensure_ascii=False) if as_json else report.table())
    if out is not None:
        complain(f"written: {out}")


def _check_data(opening: dict[str, Any], *, as_json: bool) -> None:
    """Open the benchmark, and read its first and its last picture; what is wrong is an error that says so."""
    benchmark = benchmarks.open_benchmark(**opening)
    for index in (0, len(benchmark) - 1):
        benchmark[index]
    found = {
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "images": len(benchmark),
        "names": list(benchmark.vocabulary.names),
    }
    if as_json:
        show(json.dumps(found, ensure_ascii=False))
    else:
        pictures, known = counted(len(benchmark), "picture"), counted(len(benchmark.vocabulary), "name")
        show(f"{benchmark.name}, {benchmark.split}: {pictures}, {known}")
