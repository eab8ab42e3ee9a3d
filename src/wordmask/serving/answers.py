"""What a segmentation is answered as: run lengths, polygons, boxes, labels as PNG, an overlay."""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from fastapi import Response
from fastapi.responses import JSONResponse

from wordmask.labelling.coco import coco_polygon
from wordmask.masks.instances import SCORE_DIGITS
from wordmask.masks.segmentation import Segmentation
from wordmask.serving.settings import RequestError

Format = Literal["rle", "polygons", "boxes", "png", "overlay"]
PICTURES = ("png", "overlay")
"""Formats that are no JSON."""
MOST_EDGES = 500_000
"""Sides of pixels between two labels. Parts and corners are walked one by one, and noise has millions of them."""
QUICK = 1
"""Of zlib's levels: an overlay is a photograph, which takes far longer at the usual one and is hardly smaller."""

Writer = Callable[[Segmentation], Any]


def as_json(method: str, note: str | None, format: Format, min_area: int, tolerance: float) -> Writer:
    """Return what makes the JSON object of a segmentation, for one of the formats that are such."""
    if format == "rle":
        masks: Writer = _run_lengths
    else:
        masks = partial(_parts, format=format, min_area=min_area, tolerance=tolerance)

    def written(result: Segmentation) -> dict[str, Any]:
        told = {"method": method, "size": list(result.size), "names": result.names, "masks": masks(result)}
        return told if note is None else {**told, "note": note}

    return written


def as_response(method: str, note: str | None, format: Format, min_area: int, tolerance: float) -> Writer:
    """Return what makes the answer of one picture."""
    if format == "png":
        return lambda result: Response(result.to_png(), media_type="image/png")
    if format == "overlay":
        return _overlay
    write = as_json(method, note, format, min_area, tolerance)
    return lambda result: JSONResponse(write(result))


def _run_lengths(result: Segmentation) -> list[dict[str, Any]]:
    return [{**_about(result, name), "rle": code} for name, code in result.rles().items()]


def _parts(result: Segmentation, format: Format, min_area: int, tolerance: float) -> list[dict[str, Any]]:
    check_edges(result.labels)
    parts: dict[str, list[dict[str, Any]]] = {}
    for instance in result.instances(min_area=min_area):
        score = None if instance.score is None else round(instance.score, SCORE_DIGITS)
        part: dict[str, Any] = {"box": list(instance.box), "area": instance.area, "score": score}
        if format == "polygons":
            part["polygon"] = coco_polygon(instance, tolerance)
        parts.setdefault(result.names[instance.label], []).append(part)
    return [{**_about(result, name), "parts": found} for name, found in parts.items()]


def _about(result: Segmentation, name: str) -> dict[str, Any]:
    score = result.mean_scores.get(name)
    return {"name": name, "area": result.pixels[name], "score": None if score is None else round(score, SCORE_DIGITS)}


def check_edges(labels: np.ndarray) -> None:
    """Refuse labels (H, W) that are too ragged to be walked part by part."""
    edges = int(np.count_nonzero(labels[1:] != labels[:-1]) + np.count_nonzero(labels[:, 1:] != labels[:, :-1]))
    if edges > MOST_EDGES:
        raise RequestError(
            413,
            "ragged",
            f"the masks have {edges} edges of pixels, and {MOST_EDGES} are allowed for polygons and boxes: ask for "
            "format=rle or a smaller picture",
        )


def _overlay(result: Segmentation) -> Response:
    result.overlay().save(buffer := io.BytesIO(), "PNG", compress_level=QUICK)
    return Response(buffer.getvalue(), media_type="image/png")


def without_picture(result: Segmentation) -> Segmentation:
    """Whoever sent it has it."""
    return replace(result, image=None)
