"""The REST interface: POST /v1/segment, GET /v1/models, /healthz, /metrics."""

import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute

from wordmask._version import __version__
from wordmask.errors import WordmaskError
from wordmask.masks.segmentation import Segmentation
from wordmask.methods import methods_of
from wordmask.names.vocabulary import ROOM, Vocabulary
from wordmask.pictures.reduced import size_of
from wordmask.segmenters.base import Seen, Segmenter, contrasted
from wordmask.serving.description import MODELS, RESPONSES, request_body
from wordmask.serving.metrics import CONTENT_TYPE
from wordmask.serving.reading import Ask, kind_of, parse
from wordmask.serving.service import Service, vocabulary_of
from wordmask.serving.settings import RequestError

SEGMENT = "/v1/segment"
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

_logger = logging.getLogger(__name__)


def routes(service: Service) -> APIRouter:
    class Explained(APIRoute):
        """Every failure is JSON with a reason."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def explained(request: Request) -> Response:
                try:
                    return await handler(request)
                except Exception as error:
                    return error_answer(error)

            return explained

    router = APIRouter(route_class=Explained)

    @router.post(SEGMENT, summary="Masks of a picture by names", openapi_extra=request_body(), responses=RESPONSES)
    async def segment(request: Request) -> Response:
        service.check_key(request)
        return await answered(service, request)

    @router.get("/v1/models", summary="The methods of this service", responses=MODELS)
    async def models(request: Request) -> list[dict[str, Any]]:
        service.check_key(request)
        return [_described(name, segmenter) for name, segmenter in service.segmenters.items()]

    @router.get("/healthz", summary="Whether the service is up", response_description="It is")
    @router.head("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @router.get(
        "/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse, response_description="As text"
    )
    async def metrics(request: Request) -> Response:
        service.check_key(request)
        return PlainTextResponse(service.metrics.text(), media_type=CONTENT_TYPE)

    @router.api_route("/v1/{rest:path}", methods=list(VERBS), include_in_schema=False)
    async def misaddressed(request: Request) -> Response:
        """Before the page, to which every address is one of its own."""
        known = any(getattr(route, "path", None) == request.url.path for route in router.routes)
        raise RequestError(*((405, "http", "method not allowed") if known else (404, "http", "not found")))

    return router


async def answered(service: Service, request: Request) -> Response:
    """Answer a request with masks of the picture that it brings."""
    kind = kind_of(request)
    body = await service.receive(request)
    ask = await service.in_thread(parse, request.headers, kind, body, service.settings)
    del body
    deadline = time.monotonic() + service.settings.answer_seconds
    method = service.method(ask.method)
    segmenter = service.segmenters[method]
    vocabulary, note = _asked_of(segmenter, ask)
    # Before the picture is decoded: new names may take long, and a file holds less than its pixels do.
    await service.waiting_in_thread(service.read_names, method, vocabulary, deadline)
    read = partial(service.picture, ask.picture, deadline, segmenter=segmenter)
    write = _as_png if ask.format == "png" else partial(_as_json, method, note)
    answer = partial(_written, vocabulary, ask.min_score, ask.drop_absent, write)
    del ask
    picture = await service.waiting_in_thread(read)
    del read  # the file's bytes
    service.current.body.close()
    seen = await service.seen(method, picture, deadline)
    return await service.answered(size_of(picture), len(vocabulary), partial(answer, seen))


def _asked_of(segmenter: Segmenter, ask: Ask) -> tuple[Vocabulary, str | None]:
    """Return the names that a segmenter is asked for, and a note where background was added to them."""
    vocabulary = ask.vocabulary or vocabulary_of(segmenter)
    if vocabulary is None:
        raise RequestError(400, "names", "names: field required; only students have names of their own")
    if not ask.fill and ask.vocabulary is not None:
        vocabulary = vocabulary.with_room()
    note = f"{ROOM}; fill=true gives every pixel one of the names" if vocabulary.has_made_room else None
    return contrasted(vocabulary, ask.contrast, segmenter), note


def _described(name: str, segmenter: Segmenter) -> dict[str, Any]:
    vocabulary = vocabulary_of(segmenter)
    registered = methods_of("segmenter").get(segmenter.method)
    return {
        "method": name,
        "segmenter": segmenter.method,
        "paper": None if registered is None else registered.paper,
        "preset": segmenter.preset,
        "precision": segmenter.precision,
        "published": None if registered is None else registered.card.mean,
        "cost": None if registered is None else registered.card.cost,
        "needs": None if registered is None else registered.needs,
        "licence": None if registered is None else registered.licence,
        "names": None if vocabulary is None else list(vocabulary.names),
    }


def _written(
    vocabulary: Vocabulary,
    min_score: float,
    drop_absent: float,
    write: Callable[[Segmentation], Response],
    seen: Seen,
) -> Response:
    """Without the picture: whoever sent it has it."""
    result = seen.segment(vocabulary, fill=True, min_score=min_score, drop_absent=drop_absent)
    return write(replace(result, image=None))


def _as_png(result: Segmentation) -> Response:
    return Response(result.to_png(), media_type="image/png")


def _as_json(method: str, note: str | None, result: Segmentation) -> Response:
    scores = {name: round(mean, 4) for name, mean in result.mean_scores.items()}
    masks = [
        {"name": name, "area": result.pixels[name], "score": scores.get(name), "rle": code}
        for name, code in result.rles().items()
    ]
    told: dict[str, Any] = {"method": method, "size": list(result.size), "names": result.names, "masks": masks}
    return JSONResponse(told if note is None else {**told, "note": note})


def error_answer(error: Exception) -> JSONResponse:
    """Every failure as {"error": {"code", "reason"}}."""
    if not isinstance(error, RequestError):
        if isinstance(error, WordmaskError):  # such as a name that a student does not know
            error = RequestError(400, "request", str(error))
        else:
            _logger.error("a request failed", exc_info=error)
            error = RequestError(500, "internal", f"an unexpected {type(error).__name__}; the service's log says more")
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(
        {"error": {"code": error.code, "reason": error.reason}}, status_code=error.status, headers=headers
    )
