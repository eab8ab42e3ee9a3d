"""The REST interface: POST /v1/segment and /v1/segment_many, GET /v1/models, /healthz, /readyz, /metrics."""

import json
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute

from wordmask._version import __version__
from wordmask.errors import WordmaskError
from wordmask.methods import methods_of
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.base import Segmenter
from wordmask.serving.answers import PICTURES, as_json, as_response
from wordmask.serving.asking import asked_of, segmented
from wordmask.serving.description import MANY_RESPONSES, MODELS, READY, RESPONSES, many_body, request_body
from wordmask.serving.many import each_of
from wordmask.serving.metrics import CONTENT_TYPE
from wordmask.serving.reading import JSON, Ask, is_quick, kind_of, parse
from wordmask.serving.service import Service, all_it_knows
from wordmask.serving.settings import RETRY_SOON, RequestError

SEGMENT, SEGMENT_MANY = "/v1/segment", "/v1/segment_many"
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

_logger = logging.getLogger(__name__)


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


def routes(service: Service) -> APIRouter:
    router = APIRouter(route_class=Explained)

    @router.post(SEGMENT, summary="Masks of a picture by names", openapi_extra=request_body(), responses=RESPONSES)
    async def segment(request: Request) -> Response:
        service.check_key(request)
        return await answered(service, request)

    @router.post(
        SEGMENT_MANY,
        summary="Masks of several pictures by names",
        openapi_extra=many_body(),
        responses=MANY_RESPONSES,
    )
    async def segment_many(request: Request) -> Response:
        service.check_key(request)
        return await answered_many(service, request)

    @router.get("/v1/models", summary="The methods of this service", responses=MODELS)
    async def models(request: Request) -> list[dict[str, Any]]:
        service.check_key(request)
        return [_described(name, segmenter) for name, segmenter in service.segmenters.items()]

    @router.get("/healthz", summary="Whether the service is alive", response_description="It is")
    @router.head("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @router.get("/readyz", summary="Whether the service can answer", responses=READY)
    @router.head("/readyz", include_in_schema=False)
    async def readyz() -> dict[str, str]:
        if reasons := service.not_ready():
            raise RequestError(503, "not_ready", "; ".join(reasons), retry_after=RETRY_SOON)
        return {"status": "ready", "version": __version__}

    @router.get(
        "/metrics",
        summary="Counters, gauges and histograms for Prometheus",
        response_class=PlainTextResponse,
        response_description="As text",
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
    ask, method, vocabulary, note, deadline = await _asked(service, request, most=1)
    write = as_response(method, note, ask.format, ask.min_area, ask.tolerance)
    answer: Response = await segmented(
        service,
        method,
        ask.pictures,
        vocabulary,
        deadline,
        write,
        whole=ask.format == "overlay",
        min_score=ask.min_score,
        drop_absent=ask.drop_absent,
    )
    return answer


async def answered_many(service: Service, request: Request) -> Response:
    """Answer a request with masks of each picture that it brings, or with why there are none of it."""
    ask, method, vocabulary, note, deadline = await _asked(service, request, most=service.settings.max_pictures)
    if ask.format in PICTURES:
        raise RequestError(400, "fields", f"format: {ask.format} is for one picture; several come as JSON")
    form = as_json(method, note, ask.format, ask.min_area, ask.tolerance)
    write = lambda result: json.dumps(form(result)).encode()  # noqa: E731
    own = partial(segmented, min_score=ask.min_score, drop_absent=ask.drop_absent)
    pictures = [[picture] for picture in ask.pictures]
    ask.pictures.clear()
    answers = await each_of(
        service, pictures, deadline, lambda part: own(service, method, part, vocabulary, deadline, write)
    )
    told = [answer if isinstance(answer, bytes) else error_answer(answer).body for answer in answers]
    return Response(b'{"answers": [' + b", ".join(map(bytes, told)) + b"]}", media_type=JSON)


async def _asked(service: Service, request: Request, *, most: int) -> tuple[Ask, str, Vocabulary, str | None, float]:
    """Return what is asked, of which method, for which names, a note on those, and until when an answer is wanted."""
    kind = kind_of(request)
    body = await service.receive(request)
    read = partial(parse, request.headers, kind, body, service.settings, most)
    ask = read() if is_quick(kind, body) else await service.in_thread(read)
    del body, read
    deadline = time.monotonic() + service.settings.answer_seconds
    method = service.method(ask.method)
    vocabulary, note = asked_of(service.segmenters[method], ask)
    # Before the picture is decoded: new names may take long, and a file holds less than its pixels do.
    await service.read_names(method, vocabulary, deadline)
    return ask, method, vocabulary, note, deadline


def _described(name: str, segmenter: Segmenter) -> dict[str, Any]:
    vocabulary = all_it_knows(segmenter)
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
