"""`wordmask world ...`: pictures of the world, reports of its models, and their training."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from wordmask.console import show as print_result
from wordmask.console.progress import progress_bar
from wordmask.files import atomic_write
from wordmask_world.cli.train import train_clip, train_dino, train_kinds

if TYPE_CHECKING:
    from wordmask_world.drawing.scenes import Kind

world = typer.Typer(
    name="world", help="The built-in picture world: make pictures of it, look at it.", no_args_is_help=True
)


@world.command()
def make(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write: new, or one of `world make`.")],
    count: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture; each has the next.")] = 0,
    size: Annotated[str, typer.Option(help="Pixels: 128 for squares, or HEIGHTxWIDTH.")] = "128",
    kinds: Annotated[
        str | None, typer.Option(help="Only these kinds: single, multi, clutter, pairs, empty; parted by commas.")
    ] = None,
    shards: Annotated[bool, typer.Option("--shards", help="Write webdataset tars in place of folders.")] = False,
    labels: Annotated[bool, typer.Option("--labels", help="Put label maps into the tars too.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 2,
) -> None:
    """Draw pictures with captions and exact masks. Started again after a stop, it goes on where it was.

    Example: `wordmask world make --count 1000 --out pictures`
    """
    from wordmask_world.files.writing import write_folder, write_shards

    if labels and not shards:
        raise typer.BadParameter("--labels goes with --shards; folders always have their label maps")
    height_width, chosen = _size(size), _kinds(kinds)
    workers = min(workers, os.cpu_count() or 1)
    with progress_bar("drawing", count) as progress:
        if shards:
            write_shards(
                out,
                count,
                seed=seed,
                size=height_width,
                kinds=chosen,
                labels=labels,
                workers=workers,
                progress=progress,
            )
        else:
            write_folder(out, count, seed=seed, size=height_width, kinds=chosen, workers=workers, progress=progress)
    print_result(out)


@world.command()
def show(
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture file to write.")] = Path("world.png"),
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many pictures.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture.")] = 0,
    kind: Annotated[str | None, typer.Option(help="Only one kind: single, multi, clutter, pairs, empty.")] = None,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Pixels on a side of each picture.")] = 128,
    labels: Annotated[bool, typer.Option("--labels", help="Put each picture's label map beside it.")] = False,
) -> None:
    """Write a contact sheet: many pictures on one page, each with a caption.

    Example: `wordmask world show --count 24 --labels --out world.png`
    """
    from wordmask.runs.claim import note_results
    from wordmask.runs.marks import check_output, jpeg_comment, png_text
    from wordmask_world.files.contact_sheet import contact_sheet
    from wordmask_world.files.marks import SHEET

    if out.suffix.lower() not in (".png", ".jpg"):
        raise typer.BadParameter(f"--out is a .png or a .jpg file, not {out}")
    chosen = _kinds(kind)
    check_output(out, SHEET)
    page = contact_sheet(range(seed, seed + count), kind=chosen[0] if chosen else None, size=size, labels=labels)
    is_png = out.suffix.lower() == ".png"
    if not is_png:
        note_results(out.parent, "world show")
    with atomic_write(out) as file:
        if is_png:
            page.save(file, "PNG", pnginfo=png_text(SHEET))
        else:
            page.save(file, "JPEG", comment=jpeg_comment(SHEET))
    print_result(out)


@world.command()
def report(
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")] = Path("world-report.html"),
    pictures: Annotated[int, typer.Option(min=1, help="Held-out pictures of each split.")] = 200,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Measure the world's small models on held-out pictures, in figures and in pictures.

    Example: `wordmask world report --out world-report.html`
    """
    from wordmask.compute import pick_device
    from wordmask_world.report import run

    run(out, pictures=pictures, device=pick_device(device))


world.command("train-clip")(train_clip)
world.command("train-dino")(train_dino)
world.command("train-kinds")(train_kinds)


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(part.isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[-1])
    raise typer.BadParameter(f"--size is one number or HEIGHTxWIDTH, not {text!r}")


def _kinds(text: str | None) -> "list[Kind] | None":
    from wordmask_world.drawing.scenes import KINDS

    if text is None:
        return None
    chosen = [part.strip() for part in text.split(",")]
    for kind in chosen:
        if kind not in KINDS:
            raise typer.BadParameter(f"the world has no pictures of the kind {kind!r}; choose from {', '.join(KINDS)}")
    return cast("list[Kind]", chosen)
