"""`wordmask label`: a folder of pictures becomes a data set."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordmask import segmenters
from wordmask.cli import crews, inputs, options
from wordmask.console import LeftOut, complain, show
from wordmask.console.progress import progress_bar
from wordmask.segmenters import DEFAULT_METHOD
from wordmask.text_files import counted

if TYPE_CHECKING:
    from wordmask.labelling import Labels, LabelSettings
    from wordmask.names.vocabulary import Vocabulary

KINDS = "coco, yolo, voc, png or label-studio; several as coco,yolo, each in a folder of its own."


def label(
    folder: Annotated[
        str | None,
        typer.Argument(
            help="A folder of pictures; folders below it count. Or a pattern: 'photos/**/*.jpg'; or a film."
        ),
    ] = None,
    from_list: inputs.FromList = None,
    null: inputs.Null = False,
    names: options.Names = None,
    names_file: options.NamesFile = None,
    fill: options.Fill = False,
    contrast: options.Contrast = "auto",
    min_score: options.MinScore = 0.0,
    drop_absent: options.DropAbsent = 0.0,
    format: Annotated[
        str,
        typer.Option(help=KINDS),
    ] = "coco",
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write: new, or one of `label`.")] = Path(
        "labels"
    ),
    min_area: Annotated[int, typer.Option(min=1, help="Parts with fewer pixels are left out.")] = 32,
    tolerance: Annotated[
        float, typer.Option(min=0, max=100, help="How many pixels a polygon may leave a mask's edge.")
    ] = 1.0,
    coco_masks: Annotated[str, typer.Option(help="In COCO: rle, which is exact, or polygons.")] = "rle",
    url_prefix: Annotated[
        str, typer.Option(help="Where Label Studio finds the pictures; their path in the folder is added.")
    ] = "/data/local-files/?d=",
    val: Annotated[
        float | None,
        typer.Option(help="For yolo, the share of pictures kept for validation, chosen by content; 0 for none. [0.1]"),
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option(help="For yolo and voc, how pictures come beside their labels: copy, link or hardlink. [copy]"),
    ] = None,
    review: Annotated[int, typer.Option(min=0, help="Pictures in review.html, the most unsure ones.")] = 5000,
    corrections: Annotated[
        Path | None,
        typer.Option(
            help="What a person corrected: of the review, COCO, Label Studio, PNGs. Kept in OUT/corrections.json."
        ),
    ] = None,
    workers: crews.Workers = None,
    cluster: crews.Cluster = None,
    shards: crews.Shards = None,
    merge: crews.Merge = False,
    time_limit: crews.TimeLimit = None,
    per_shard: Annotated[int, typer.Option(min=1, help="Pictures that make a shard of --shards and --cluster.")] = 1000,
    method: options.Method = DEFAULT_METHOD,
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = 8,
    max_pixels: options.MaxPixels = None,
    every: options.Every = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Drop the labels of pictures that are no longer there, which are kept else.")
    ] = False,
    keep_features: Annotated[
        bool,
        typer.Option(
            "--keep-features", help="Keep what the network saw: `label convert` asks for other names without it."
        ),
    ] = False,
    keep_halves: Annotated[
        bool,
        typer.Option(
            "--keep-halves", help="Likewise, in half the room, where a picture's labels are the same by half precision."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Label a folder of pictures. Started again after a stop, it goes on where it was.

    A student of `wordmask distill` brings its own names. `wordmask label convert` makes labels in other formats, and
    with other names, of those that are there.

    Example: `wordmask label photos --names "dog, cat" --format yolo --out labels`

    A film (extra `films`), by frames that come into labels-frames:
    `wordmask label film.mp4 --every 1s --names "dog" --out labels`

    Example: `wordmask label photos --names "dog, cat" --format coco,yolo --keep-features --out labels`
    """
    from wordmask.cli import films

    crews.check(workers, cluster, shards, time_limit, merge=merge)
    share = crews.share(shards)
    if share is not None and prune:
        raise typer.BadParameter("--prune is for whoever joins the shares: leave it out, and give it with --merge")
    place, only = inputs.one_folder(folder, from_list, null=null)
    film = films.only_film([place], every)
    chosen = settings_of(
        format=format,
        min_area=min_area,
        tolerance=tolerance,
        coco_masks=coco_masks,
        url_prefix=url_prefix,
        val=val,
        pictures=pictures,
        review=review,
        min_score=min_score,
        drop_absent=drop_absent,
    )
    refuse_idle(chosen.format, val=val, pictures=pictures)
    crew = crews.crew(workers, cluster, time_limit, device) if cluster or time_limit or share else None
    if method == DEFAULT_METHOD:
        from wordmask.labelling.claim import recorded_method

        method = recorded_method(out) or method
    against = options.contrast(contrast)
    vocabulary = options.vocabulary(names, names_file, method=method, fill=fill)
    if vocabulary is not None and not len(vocabulary.without_background()):
        raise typer.BadParameter("nothing but background: name at least one thing to find", param_hint="--names")
    load = options.segmenter(method, preset, weights, device, precision, settings)
    from wordmask.cli.batch_job import tell_of_room
    from wordmask.compute import AUTO, Compute
    from wordmask.labelling import Job, check_out, label_folder
    from wordmask.labelling.share import label_share
    from wordmask.pictures.left_out import LEFT_OUT

    compute = Compute(device, precision)
    here = device if cluster else compute.device  # machines of a cluster look for their own
    load = load | {"device": here, "method": options.method(method, preset, weights)}
    if film is not None:
        check_out(out)  # before frames are taken
        place = films.frames_of_film(film, out, every=every, max_pixels=max_pixels)
    segmenter = None
    if vocabulary is None:
        vocabulary, fill = _names_of_student(**load), True
    if vocabulary is None:  # as those of a published checkpoint
        segmenter = segmenters.load(**load)
        vocabulary = segmenter.vocabulary  # type: ignore[attr-defined]
    job = Job(
        folder=place,
        out=out,
        only=only,
        vocabulary=vocabulary,
        settings=chosen,
        load=load,
        max_pixels=max_pixels,
        fill=fill,
        contrast=against,
        keep="halves" if keep_halves else "features" if keep_features else "nothing",
        threads=crews.threads_each(workers),
    )
    left_out = LeftOut(f"{out / LEFT_OUT} lists them")
    has_begun = False

    def on_progress(done: int, total: int | None) -> None:
        nonlocal has_begun
        if not has_begun:  # what is refused needs no notes
            tell_of_room(vocabulary)
        has_begun = True
        progress(done, total)

    told: dict[str, Any] = {
        "segmenter": segmenter if (workers or 1) == 1 and crew is None else None,
        "batch_size": batch_size,
        "on_bad": left_out,
        "on_progress": on_progress,
        "on_note": lambda note: complain(f"note: {note}"),
        "crew": crew,
        "per_shard": per_shard,
    }
    with progress_bar("labelling" if precision == AUTO else f"labelling in {precision}", None) as progress:
        if share is not None and (missing := label_share(job, share, **told)):
            left_out.finish()
            crews.tell_of_share(out, share, missing, as_json=as_json)
            return
        if share is not None:
            told |= {"segmenter": None, "crew": None}
        labels = label_folder(
            job,
            workers=workers or 1,
            prune=prune,
            corrections=corrections,
            merge=merge or share is not None,
            **told,
        )
    left_out.finish()
    tell(out, chosen.format, labels, as_json=as_json)


def _names_of_student(
    *, method: str, preset: str, weights: str | None, device: str, precision: str, correct: Any = None, **settings: Any
) -> "Vocabulary | None":
    """Return a student's own names before its network is loaded, so that what is refused is refused at once."""
    from wordmask.methods import settings_of
    from wordmask.segmenters.namedmask import names_of_student

    return names_of_student(settings_of("segmenter", method, preset, **settings), weights)


def tell(out: Path, format: str, labels: "Labels", *, as_json: bool) -> None:
    """Print what a run came to."""
    from wordmask.pictures.left_out import LEFT_OUT

    if as_json:
        show(json.dumps({"out": str(out), "format": format, **asdict(labels)}))
        return
    told = f"{out}: {counted(labels.pictures, 'picture')}, {counted(labels.instances, 'mask')}"
    told += f", {counted(labels.corrected, 'picture')} corrected" if labels.corrected else ""
    told += f", {labels.rejected} rejected" if labels.rejected else ""
    missing = [f"{labels.left_out} left out"] if labels.left_out else []
    missing += [f"{sum(labels.passed_over.values())} passed over"] if labels.passed_over else []
    told += f", {' and '.join(missing)} ({LEFT_OUT})" if missing else ""
    show(f"{told}; look at {out / 'review.html'}")


def settings_of(**given: Any) -> "LabelSettings":
    """Return the settings that options give; None is one that was not given."""
    from pydantic import ValidationError

    from wordmask.labelling.settings import LabelSettings, why_refused

    try:
        return LabelSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise typer.BadParameter(why_refused(error)) from error


def refuse_idle(format: str, **given: Any) -> None:
    """Refuse options that no file of these formats hangs on."""
    from wordmask.labelling.claim import ONLY_FOR

    for name, formats in ONLY_FOR.items():
        if given.get(name) is not None and not {*format.split(",")} & {*formats}:
            raise typer.BadParameter(f"--{name} is for --format {' and '.join(formats)}, not {format}")
