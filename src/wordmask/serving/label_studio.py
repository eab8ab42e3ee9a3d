"""The protocol of Label Studio's ML backends: it sends tasks and its labelling interface, and gets pre-annotations."""

import json
import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from wordmask._version import __version__
from wordmask.labelling.brush_rle import encode_brush
from wordmask.labelling.coco import coco_polygon
from wordmask.labelling.settings import MIN_AREA, TOLERANCE
from wordmask.labelling.worker import unsureness
from wordmask.masks.instances import SCORE_DIGITS
from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import BACKGROUND, Vocabulary, VocabularyError
from wordmask.segmenters.base import Segmenter, contrasted
from wordmask.serving.answers import check_edges
from wordmask.serving.asking import segmented
from wordmask.serving.label_studio_config import Interface, read_interface
from wordmask.serving.label_studio_pictures import LabelStudio, picture_at
from wordmask.serving.many import each_of
from wordmask.serving.reading import JSON, signs_of
from wordmask.serving.rest import Explained, error_answer
from wordmask.serving.service import Service, all_it_knows
from wordmask.serving.settings import RequestError, ServeError

PREDICT = "/predict"
MOST_TASKS = 1000
MOST_SIGNS = 1_000_000
"""Of JSON that holds something: tasks bring annotations of others, and those are lists of numbers."""
PERCENT = 100.0


def routes(service: Service, allowed: LabelStudio) -> APIRouter:
    if not service.segmenters:
        raise ServeError("--label-studio needs a method that answers: name one with --method or --student")
    router = APIRouter(route_class=Explained, tags=["Label Studio"])
    method = service.method(allowed.method)
    version = f"wordmask-{__version__}-{method}"

    @router.get("/health", summary="Whether the backend is up, for Label Studio")
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "wordmask"}

    @router.post("/setup", summary="Label Studio says that it begins, and how its labelling interface looks")
    async def setup(request: Request) -> dict[str, str]:
        service.check_key(request)
        told = await service.in_thread(_read, await request.body())
        schema = told.get("schema")
        if isinstance(schema, str) and "<Label " in schema:  # a new project has no labels yet
            read_interface(schema)
        return {"model_version": version}

    @router.post("/webhook", summary="Label Studio says what happened; nothing is learnt from it")
    async def webhook(request: Request) -> Response:
        service.check_key(request)
        return JSONResponse({"status": "ignored"}, status_code=201)

    @router.post(PREDICT, summary="Pre-annotations of Label Studio's tasks")
    async def predict(request: Request) -> Response:
        service.check_key(request)
        return await _predicted(service, request, allowed, method, version)

    return router


async def _predicted(service: Service, request: Request, allowed: LabelStudio, method: str, version: str) -> Response:
    told = await service.in_thread(_read, await service.receive(request))
    deadline = time.monotonic() + service.settings.answer_seconds
    tasks, interface = told.get("tasks"), read_interface(told.get("label_config"))
    del told
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise RequestError(400, "tasks", "tasks is no list of tasks")
    if len(tasks) > MOST_TASKS:
        raise RequestError(413, "tasks", f"{len(tasks)} tasks; at most {MOST_TASKS}")
    vocabulary = _vocabulary(service.segmenters[method], interface.labels, service.settings.max_names)
    await service.read_names(method, vocabulary, deadline)

    async def answer(task: dict[str, Any]) -> bytes:
        data = task.get("data")
        address = data.get(interface.key) if isinstance(data, dict) else None
        content = await service.waiting_in_thread(_fetched, service, address, allowed, deadline)
        write = lambda result: json.dumps(prediction_of(result, interface, version)).encode()  # noqa: E731
        found: bytes = await segmented(service, method, [content], vocabulary, deadline, write)
        return found

    answers = await each_of(service, tasks, deadline, answer)
    failures = [own for own in answers if isinstance(own, Exception)]
    if failures and len(failures) == len(answers):
        raise failures[0]  # Label Studio shows what a whole answer says, and no more of a part than that it failed
    parts = [own if isinstance(own, bytes) else bytes(error_answer(own).body) for own in answers]
    version_told = json.dumps(version).encode()
    return Response(
        b'{"results": [' + b", ".join(parts) + b'], "model_version": ' + version_told + b"}", media_type=JSON
    )


def _fetched(service: Service, address: object, allowed: LabelStudio, deadline: float) -> bytes:
    """Return a picture's bytes, counted among those that wait to be read."""
    content = picture_at(address, allowed, service.settings.max_bytes, deadline)
    if not service.current.body.take(len(content)):
        raise RequestError(503, "busy", "too much is being received", retry_after=1)
    return content


def _read(body: bytes | bytearray) -> dict[str, Any]:
    if signs_of(body) > MOST_SIGNS:
        raise RequestError(413, "json", "the JSON holds more than tasks: send fewer at once")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "json", "the body is not JSON") from error
    if not isinstance(told, dict):
        raise RequestError(400, "json", "the body is no JSON object")
    return told


def _vocabulary(segmenter: Segmenter, labels: Sequence[str], most: int) -> Vocabulary:
    """Return the labels as names, with room for the rest; of a student those that it knows."""
    if len(labels) > most:
        raise RequestError(413, "names", f"{len(labels)} labels; at most {most}")
    own = all_it_knows(segmenter)
    known = None if own is None else {name.casefold() for name in own.names}
    asked = [label for label in labels if known is None or label.casefold() in known]
    if own is not None and known is not None and not asked:
        raise RequestError(400, "names", f"this student knows none of the labels; it knows {', '.join(own.names[:12])}")
    try:
        return contrasted(Vocabulary.of(asked).with_room(), "auto", segmenter)
    except VocabularyError as error:
        raise RequestError(400, "names", str(error)) from error


def prediction_of(result: Segmentation, interface: Interface, version: str) -> dict[str, Any]:
    """Return a task's prediction: a brush a label, or a polygon or a rectangle for each connected part."""
    height, width = result.size
    head = {
        "from_name": interface.from_name,
        "to_name": interface.to_name,
        "type": interface.kind,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
    }
    values = _brushes(result) if interface.kind == "brushlabels" else _shapes(result, interface.kind)
    results = []
    for number, (name, score, value) in enumerate(values):
        region = {"id": f"part{number}", **head, "value": {**value, interface.kind: [name]}}
        results.append(region if score is None else {**region, "score": round(score, SCORE_DIGITS)})
    return {"model_version": version, "score": round(1 - unsureness(result), SCORE_DIGITS), "result": results}


def _brushes(result: Segmentation) -> list[tuple[str, float | None, dict[str, Any]]]:
    return [
        (name, result.mean_scores.get(name), {"format": "rle", "rle": encode_brush(result.mask(name))})
        for name, area in result.pixels.items()
        if area >= MIN_AREA and name.casefold() != BACKGROUND
    ]


def _shapes(result: Segmentation, kind: str) -> list[tuple[str, float | None, dict[str, Any]]]:
    """Places in percent of the picture, as Label Studio has them."""
    check_edges(result.labels)
    height, width = result.size
    shapes = []
    for instance in result.instances(min_area=MIN_AREA):
        if kind == "polygonlabels":
            flat = coco_polygon(instance, TOLERANCE)
            pairs = zip(flat[::2], flat[1::2], strict=True)
            value: dict[str, Any] = {
                "points": [[PERCENT * x / width, PERCENT * y / height] for x, y in pairs],
                "closed": True,
            }
        else:
            x, y, w, h = instance.box
            value = {"x": PERCENT * x / width, "y": PERCENT * y / height, "rotation": 0}
            value |= {"width": PERCENT * w / width, "height": PERCENT * h / height}
        shapes.append((result.names[instance.label], instance.score, value))
    return shapes
