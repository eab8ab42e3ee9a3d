"""`wordmask methods`: what there is to segment with, to find what stands out, and to refine masks."""

import json
from itertools import groupby
from typing import Annotated, Any, get_args

import typer

from wordmask.console import show
from wordmask.methods import NO_WEIGHTS, Kind, Method, MethodError, methods_of
from wordmask.segmenters.choosing import is_here


def methods(
    kind: Annotated[str | None, typer.Option(help="Only one kind: segmenter, saliency, refinement, regions.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Only segmenters that cost at most so many times what MaskCLIP does.")
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="Only segmenters whose weights are on this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the methods: what each does, whose paper it is, what it needs, and the licence of its weights.

    Segmenters are in the order of their published figures, the best first.

    Example: `wordmask methods --kind segmenter --max-cost 2`
    """
    kinds = get_args(Kind)
    if kind is not None and kind not in kinds:
        raise typer.BadParameter(f"--kind is {', '.join(kinds)}, not {kind!r}")
    found = [method for of in kinds if kind in (None, of) for method in methods_of(of).values()]
    if max_cost is not None or here:
        found = [method for method in found if method.kind == "segmenter" and _serves(method, max_cost, here=here)]
    if not found:
        wishes = [f"costs at most {max_cost:g} times MaskCLIP"] if max_cost is not None else []
        wishes += ["has all its weights on this machine"] if here else []
        raise MethodError(
            f"no segmenter {' and '.join(wishes)}: `wordmask methods` lists all, `wordmask models --fetch NAME` gets "
            "weights"
        )
    found.sort(key=lambda method: (kinds.index(method.kind), -(method.card.mean or 0.0)))
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
            if method.card.told:
                show(f"  {'':{width}}  {method.card.told}")


def _row(method: Method) -> dict[str, Any]:
    told = ("kind", "name", "paper", "about", "needs", "licence")
    row = {key: getattr(method, key) for key in told}
    if method.kind == "segmenter":
        card = method.card
        row |= {"mean": None if card.mean is None else round(card.mean, 2), "figures": dict(card.figures)}
        row |= {key: getattr(card, key) for key in ("protocol", "source", "backbones", "cost", "wants", "beyond")}
        row |= {"weights": list(card.weights), "here": is_here(card)}
    return row


def _serves(method: Method, max_cost: float | None, *, here: bool) -> bool:
    cost = method.card.cost
    return (max_cost is None or (cost is not None and cost <= max_cost)) and (not here or is_here(method.card))
