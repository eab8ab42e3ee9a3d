"""`wordmask label`: a folder of pictures becomes a data set."""

from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options
from wordmask.segmenters import DEFAULT_METHOD


def label(
    folder: Annotated[
        Path, typer.Argument(help="A folder of pictures; folders below it count.", callback=options.local)
    ],
    names: options.Names = None,
    names_file: options.NamesFile = None,
    fill: options.Fill = False,
    min_score: options.MinScore = 0.0,
    drop_absent: options.DropAbsent = 0.0,
    format: Annotated[str, typer.Option(help="coco, yolo, voc, png or label-studio.")] = "coco",
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
    review: Annotated[int, typer.Option(min=0, help="Pictures in review.html, the most unsure first.")] = 200,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each loads the segmenter.")] = 1,
    method: options.Method = DEFAULT_METHOD,
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = 8,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Largest picture that is decoded.")] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Drop the labels of pictures that are no longer there, which are kept else.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Label a folder of pictures. Started again after a stop, it goes on where it was.

    Example: `wordmask label photos --names "dog, cat" --format yolo --out labels`
    """
    from wordmask.commands.label import run

    run(
        folder=folder,
        vocabulary=options.vocabulary(names, names_file, method=method, fill=fill),
        fill=fill,
        out=out,
        settings={
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
        },
        workers=workers,
        load=options.segmenter(method, preset, weights, device, precision, settings),
        batch_size=batch_size,
        max_pixels=max_pixels,
        as_json=json,
        prune=prune,
    )
