"""`wordmask label convert`: labels of `wordmask label`, otherwise, without its network."""

from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options
from wordmask.cli.label import KINDS, refuse_idle, settings_of, tell
from wordmask.console import LeftOut, complain
from wordmask.console.progress import progress_bar


def convert(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The folder that `wordmask label` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write: new, or one of this conversion.")],
    format: Annotated[str | None, typer.Option(help=KINDS, show_default=False)] = None,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="Call the masks of a name otherwise; may be repeated.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Its masks become background; may be repeated.")
    ] = None,
    min_area: Annotated[
        int | None, typer.Option(min=1, help="Parts with fewer pixels are left out; for less than before: features.")
    ] = None,
    tolerance: Annotated[float | None, typer.Option(min=0, max=100, help="As for `label`, of polygons.")] = None,
    coco_masks: Annotated[str | None, typer.Option(help="In COCO: rle or polygons.")] = None,
    url_prefix: Annotated[str | None, typer.Option(help="Where Label Studio finds the pictures.")] = None,
    val: Annotated[float | None, typer.Option(help="For yolo, the share of pictures for validation.")] = None,
    pictures: Annotated[str | None, typer.Option(help="For yolo and voc: copy, link or hardlink.")] = None,
    review: Annotated[int | None, typer.Option(min=0, help="Pictures in review.html.")] = None,
    names: Annotated[
        str | None, typer.Option("--names", help="Ask for other names, or with other synonyms; needs features.")
    ] = None,
    fill: Annotated[bool, typer.Option("--fill", help="Every pixel gets one of the names; needs features.")] = False,
    contrast: Annotated[
        str | None,
        typer.Option(metavar="auto|none|WORDS|FILE", help="What a few names race against; needs features."),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="What scores less is background; needs features.")
    ] = None,
    drop_absent: Annotated[
        float | None, typer.Option(min=0, max=1, help="Names on less than this share are absent; needs features.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the pictures are now, if not where they were.", callback=options.local)
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Write the labels of a run of `wordmask label` in other formats, or with other names, without its network.

    What needs features is answered by the text tower alone, from what `wordmask label --keep-features` has kept. The
    files are those of a run from nothing with these options; what is not given stays as it was. Started again after a
    stop, it goes on where it was.

    Example: `wordmask label convert labels --format yolo --rename "traffic light=signal" --out for-yolo`

    Example: `wordmask label convert labels --names "dog, cat, sofa" --min-score 0.4 --out with-sofas`
    """
    given = {
        "format": format,
        "min_area": min_area,
        "tolerance": tolerance,
        "coco_masks": coco_masks,
        "url_prefix": url_prefix,
        "val": val,
        "pictures": pictures,
        "review": review,
        "min_score": min_score,
        "drop_absent": drop_absent,
    }
    chosen = settings_of(**given)
    vocabulary = None if names is None else options.names(names)
    against = None if contrast is None else options.contrast(contrast)
    from wordmask.labelling.changes import Before, Changes
    from wordmask.labelling.convert import convert_labels
    from wordmask.pictures.left_out import LEFT_OUT

    changed = {name: getattr(chosen, name) for name, value in given.items() if value is not None}
    format = changed.get("format", Before(old).settings.format)
    refuse_idle(format, val=val, pictures=pictures)
    changes = Changes(
        settings=changed,
        names=vocabulary,
        fill=fill,
        contrast=against,
        rename=dict(_pair(each) for each in rename or ()),
        drop=drop or (),
        folder=folder,
    )
    left_out = LeftOut(f"{out / LEFT_OUT} lists them")
    with progress_bar("converting", None) as progress:
        labels = convert_labels(
            old,
            out,
            changes,
            device=device,
            on_bad=left_out,
            on_progress=progress,
            on_note=lambda note: complain(f"note: {note}"),
        )
    left_out.finish()
    tell(out, format, labels, as_json=as_json)


def _pair(given: str) -> tuple[str, str]:
    old, equals, new = (part.strip() for part in given.partition("="))
    if not equals or not old or not new:
        raise typer.BadParameter(f"--rename takes OLD=NEW, not {given!r}")
    return old, new
