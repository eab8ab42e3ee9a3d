"""`wordmask segment`: masks of pictures, now."""

from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options


def segment(
    images: Annotated[list[str], typer.Argument(help="Pictures, or folders of pictures.")],
    names: Annotated[
        str | None, typer.Option(help='Names, parted by commas: "dog, traffic light, background".')
    ] = None,
    names_file: Annotated[Path | None, typer.Option(help="A file of names: one a line, or YAML with synonyms.")] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A folder, or a .png or .json file if there is one picture.")
    ] = Path("masks"),
    format: Annotated[
        str | None, typer.Option(help="png: palette labels; json: COCO run lengths. By default as --out, or png.")
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Also write the masks drawn over the picture.")] = True,
    method: options.Method = "maskclip",
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    batch_size: options.BatchSize = 8,
    skip_done: Annotated[
        bool, typer.Option("--skip-done", help="Leave out pictures whose masks are there: go on after a stop.")
    ] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Largest picture that is decoded.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a picture.")] = False,
) -> None:
    """Segment pictures by names.

    Example: `wordmask segment photo.jpg --names "dog, grass, background" --out masks`
    """
    from wordmask.commands.segment import run

    run(
        images=options.paths(images),
        vocabulary=options.vocabulary(names, names_file),
        out=out,
        format=format,
        overlay=overlay,
        skip_done=skip_done,
        load=options.segmenter(method, preset, weights, device, precision, settings),
        batch_size=batch_size,
        max_pixels=max_pixels,
        json_lines=json,
    )
