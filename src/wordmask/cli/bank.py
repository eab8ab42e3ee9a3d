"""`wordmask bank`: regions of your own unlabelled pictures, by which CorrCLIP names those of others."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordmask.cli import crews, options
from wordmask.console import say, show
from wordmask.console.progress import progress_bar
from wordmask.text_files import counted

if TYPE_CHECKING:
    from wordmask.segmenters.bank_building import BankReaders

bank = typer.Typer(
    name="bank",
    help="Collect regions of your own unlabelled pictures, by which CorrCLIP names those of others.\n\n"
    "Example: `wordmask bank build pictures --out bank`",
    no_args_is_help=True,
)


@bank.command()
def build(
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures, a list of such (.txt), or webdataset tars.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the bank: new, or one to add pictures to.")],
    preset: options.Preset = "paper",
    settings: options.Settings = None,
    index: Annotated[
        bool, typer.Option("--index", help="Also write FAISS's approximate index, for many millions of regions.")
    ] = False,
    device: options.Device = "auto",
    precision: options.StatedPrecision = "fp32",
    workers: crews.Workers = None,
    cluster: crews.Cluster = None,
    time_limit: crews.TimeLimit = None,
    as_json: options.Json = False,
) -> None:
    """Build a bank from pictures, or add pictures to one. Started again after a stop, it goes on where it was.

    Example: `wordmask bank build pictures --out bank`, then `wordmask segment photo.jpg --names "dog, cat" --method
    corrclip --set bank=bank`
    """
    from wordmask.collection.piles import open_pile
    from wordmask.extras import need
    from wordmask.regions.bank import MANIFEST, RegionBank
    from wordmask.segmenters.bank_building import build_bank

    if index:
        need("faiss")
    pile = open_pile(pictures)
    changes = options.changes(settings, device=None, precision=None)
    crew = crews.crew(workers, cluster, time_limit, device)
    load = partial(_load, preset, device, precision, changes)
    with progress_bar("regions", None) as progress:
        built = build_bank(pile, load(), out, progress=progress, say=say, crew=crew, load=load)
    if index:
        RegionBank(out).build_index()
    if as_json:
        show(
            json.dumps({"out": str(out), "pictures": built.pictures, "regions": built.regions, "bad": built.unreadable})
        )
        return
    if built.unreadable:
        say(f"{counted(built.unreadable, 'picture')} cannot be read; {out / MANIFEST} says why")
    show(f"{out}: {counted(built.regions, 'region')} of {counted(built.pictures, 'picture')}")
    say(f"use it with `--method corrclip --preset {preset} --set bank={out}`")


def _load(preset: str, device: str, precision: str, changes: dict[str, Any]) -> "BankReaders":
    """Load the networks, also in a process of its own."""
    from wordmask.compute import Compute
    from wordmask.segmenters.bank_building import load_readers

    return load_readers(preset, Compute(device, precision), **changes)
