"""`wordmask methods`: what there is to segment with, to find what stands out, and to refine masks."""

import json
from itertools import groupby
from typing import Annotated, Any

import typer

from wordmask.console import show


def methods(
    kind: Annotated[str | None, typer.Option(help="Only one kind: segmenter, saliency, refinement.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the methods: what each does, and whose paper it is.

    Example: `wordmask methods --kind segmenter`
    """
    rows = _rows()
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    if kind is not None and kind not in kinds:
        raise typer.BadParameter(f"--kind is {', '.join(kinds)}, not {kind!r}")
    rows = [row for row in rows if kind in (None, row["kind"])]
    if as_json:
        show(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    width = max(len(row["name"]) for row in rows)
    for of, group in groupby(rows, key=lambda row: row["kind"]):
        show(of)
        for row in group:
            show(f"  {row['name']:{width}}  {'; '.join(filter(None, (row['about'], row['paper'])))}")


def _rows() -> list[dict[str, Any]]:
    from wordmask import saliency, segmenters

    tables = {"segmenter": segmenters.METHODS, "saliency": saliency.METHODS}
    return [
        {"kind": kind, "name": name, "paper": method.paper, "about": method.about}
        for kind, table in tables.items()
        for name, method in table.items()
    ]
