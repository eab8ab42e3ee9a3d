"""`wordmask methods`: what there is to segment with, to find what stands out, and to refine masks."""

import json
from itertools import groupby
from typing import Annotated, Any, get_args

import typer

from wordmask.console import show
from wordmask.methods import NO_WEIGHTS, Kind, Method, methods_of


def methods(
    kind: Annotated[str | None, typer.Option(help="Only one kind: segmenter, saliency, refinement, regions.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the methods: what each does, whose paper it is, what it needs, and the licence of its weights.

    Example: `wordmask methods --kind segmenter`
    """
    kinds = get_args(Kind)
    if kind is not None and kind not in kinds:
        raise typer.BadParameter(f"--kind is {', '.join(kinds)}, not {kind!r}")
    found = [method for of in kinds if kind in (None, of) for method in methods_of(of).values()]
    if as_json:
        show(json.dumps([_row(method) for method in found], indent=1, ensure_ascii=False))
        return
    width = max(len(method.name) for method in found)
    for of, group in groupby(found, key=lambda method: method.kind):
        show(of)
        for method in group:
            show(f"  {method.name:{width}}  {'; '.join(filter(None, (method.about, method.paper)))}")
            weights = method.licence if method.licence == NO_WEIGHTS else f"weights: {method.licence}"
            show(f"  {'':{width}}  needs {method.needs}; {weights}")


def _row(method: Method) -> dict[str, Any]:
    told = ("kind", "name", "paper", "about", "needs", "licence")
    return {key: getattr(method, key) for key in told}
