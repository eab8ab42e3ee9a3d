"""`wordmask demo`: what the package does, on this machine, with nothing to fetch."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write: new, or one of `demo`.")] = Path(
        "demo"
    ),
    pictures: Annotated[int, typer.Option(min=1, help="Unlabelled pictures to find things in.")] = 2000,
    archive: Annotated[int, typer.Option(min=1, help="Pictures for each name.")] = 24,
    steps: Annotated[int, typer.Option(min=1, help="Of the student.")] = 450,
    measured: Annotated[int, typer.Option(min=1, help="Held-out pictures of each split.")] = 30,
) -> None:
    """Distil a segmenter from names and drawn pictures without labels, and measure it beside other methods: minutes on
    two cores, no download, no accelerator. A killed run goes on when started again.

    Example: `wordmask demo --out demo`, and then look at demo/report.html
    """
    from wordmask.console import say, show
    from wordmask.console.progress import OnStderr
    from wordmask.runs.claim import claimed
    from wordmask_world.demo import Demo

    with claimed(out, "demo"):
        show(Demo(out, pictures, archive, steps, measured, OnStderr()).run())
        say(f"Look at {out / 'report.html'}, and at {out / 'run' / 'report' / 'report.html'}.")
