"""`wordmask label corrections`: masks that a person mended in another tool, as corrections."""

import json
from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options
from wordmask.console import complain, show


def corrections(
    source: Annotated[
        Path, typer.Argument(metavar="FROM", help="COCO's or Label Studio's JSON, or a folder of label maps (PNG).")
    ],
    images: Annotated[
        Path, typer.Option(help="The folder of the pictures, as `label` was given it.", callback=options.local)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("corrections.json"),
    format: Annotated[
        str | None, typer.Option(help="coco, label-studio or png; told by the content, if not given.")
    ] = None,
    names_file: Annotated[
        Path | None,
        typer.Option(help="For PNGs that do not hold them: a name a line, from number 0, or `number name`."),
    ] = None,
    add_to: Annotated[
        Path | None, typer.Option(help="Corrections that are kept beside these, which go before them.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Make corrections of masks that a person mended in another tool. Every picture with masks counts as accepted.

    `wordmask label --corrections` and `wordmask distill --corrections` take the file, and such files as they are.

    Example: `wordmask label corrections export.json --images photos --out labels/corrections.json`
    """
    from wordmask.corrections import Corrections, CorrectionsError, read_corrections, write_corrections
    from wordmask.corrections.reading import corrections_from

    if not images.is_dir():
        raise CorrectionsError(f"--images {images} is no folder")
    if out.exists() and (add_to is None or out.resolve() != add_to.resolve()):
        read_corrections(out)  # which refuses what is none
        raise CorrectionsError(f"--out {out} holds corrections already: choose another, or say --add-to {out}")
    found = corrections_from(source, images, format=format, names_file=names_file)
    kept = () if add_to is None else read_corrections(add_to).pictures
    together = Corrections((*kept, *found.pictures))
    write_corrections(out, together)
    for note in found.notes:
        complain(f"note: {note}")
    if as_json:
        masks = sum(len(each.masks) for each in found)
        show(json.dumps({"out": str(out), "pictures": len(found), "masks": masks, "in_all": len(together)}))
    else:
        show(f"{out}: {together.summary}")
