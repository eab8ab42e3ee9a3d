"""`wordmask models`: which weights there are."""

from typing import Annotated

import typer


def models(
    kind: Annotated[str | None, typer.Option(help="Only one kind: clip, dino, saliency, segmenter, ...")] = None,
    fetch: Annotated[list[str] | None, typer.Option(help="Download the weights of this name.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the published weights: where they come from, their licence and size, and which are on this machine.

    Example: `wordmask models --kind clip` or `wordmask models --fetch clip-dinoiser`
    """
    from wordmask.commands.models import run

    run(kind=kind, fetch=fetch or [], as_json=json)
