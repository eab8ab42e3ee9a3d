"""The REST interface: POST /v1/segment, GET /v1/models, /healthz, /metrics."""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute

from wordmask._version import __version__
from wordmask.app.batching import Batcher, Job
from wordmask.app.metrics import CONTENT_TYPE, Metrics
from wordmask.app.reading import FORM, JSON, Ask, Asked, AskedAsJson, decode, kind_of, parse, read_body
from wordmask.app.settings import RequestError, ServeSettings
from wordmask.decoding import DecodingPool
from wordmask.errors import WordmaskError
from wordmask.segmentation import Segmentation
from wordmask.segmenters.base import Segmenter
from wordmask.text_embeddings import TextEmbedder
from wordmask.vocabulary import ROOM, Vocabulary

SEGMENT = "/v1/segment"
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
DECODERS = 2
"""Threads that decode and encode: each may hold a picture of `max_pixels` more than once."""

_logger = logging.getLogger(__name__)


@dataclass
class _Limiters:
    decoders: CapacityLimiter
    readers: CapacityLimiter
    """Of names: as many as there are requests, as they take turns."""


class Service:
    """What the routes share."""

    def __init__(self, segmenters: Mapping[str, Segmenter], settings: ServeSettings):
        self.segmenters, self.settings = segmenters, settings
        self.metrics = Metrics()
        self.batcher = Batcher(segmenters, settings, self.metrics.batch)
        self.pool = decoding_pool(settings)
        self.in_flight = 0
        self.make_room: Callable[[int], None] = lambda more: None  # for so many bytes of an upload
        self.metrics.gauges |= {
            "wordmask_waiting": lambda: self.batcher.length,
            "wordmask_in_flight": lambda: self.in_flight,
            "wordmask_decoded_bytes": lambda: self.pool.held_bytes if self.pool else 0,
        }

    def close(self) -> None:
        """Answer what is being worked on, refuse what waits, and stop."""
        self.batcher.close()
        if self.pool is not None:
            self.pool.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """One request from its first byte to its answer. However many come, `in_flight` of them are held at once."""
        if self.in_flight >= self.settings.in_flight:
            raise RequestError(
                503, "busy", "too many requests are being answered", retry_after=self.batcher.retry_after()
            )
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def segment(self, request: Request) -> Response:
        with self.held():
            kind = kind_of(request)
            body = await read_body(request, self.settings)
            ask = await self._in_thread(parse, request.headers, kind, body, self.settings)
            deadline = time.monotonic() + self.settings.answer_seconds
            method = self._method(ask)
            vocabulary = ask.vocabulary or vocabulary_of(self.segmenters[method])
            if vocabulary is None:
                raise RequestError(400, "names", "names: field required; only students have names of their own")
            if not ask.fill and ask.vocabulary is not None:
                vocabulary = vocabulary.with_room()
            note = f"{ROOM}; fill=true gives every pixel one of the names" if vocabulary.has_made_room else None
            vocabulary = vocabulary.worded(self.segmenters[method].background_words)
            # Before the picture is decoded: new names may take long, and a file holds less than its pixels do.
            await anyio.to_thread.run_sync(
                self.read_names, method, vocabulary, deadline, limiter=self._limiters.readers
            )
            image = await self._in_thread(decode, ask.picture, self.settings, self.pool, deadline)
            write = _as_png if ask.format == "png" else partial(_as_json, method, note)
            job = Job(method, image, vocabulary, deadline, ask.min_score, ask.drop_absent)
            del image  # the job lets go of it when it is answered
            try:
                return await self._in_thread(write, await self._answer(job))
            finally:
                self.batcher.release(job)

    async def _answer(self, job: Job) -> Segmentation:
        try:
            async with asyncio.timeout(max(0.0, job.deadline - time.monotonic())):
                answer = await asyncio.wrap_future(self.batcher.submit(job))
        except TimeoutError as error:
            raise self._late() from error
        assert isinstance(answer, Segmentation)  # the job has names
        return answer

    def read_names(self, method: str, vocabulary: Vocabulary, deadline: float) -> None:
        """So that the batches' thread finds them in memory, and nobody's picture waits for another's names."""
        embedder = getattr(self.segmenters[method], "embed", None)
        if not isinstance(embedder, TextEmbedder):
            return
        if embedder.read(vocabulary, lambda: time.monotonic() < deadline and not self.batcher.is_closed) is None:
            raise self._late()

    def _late(self) -> RequestError:
        reason = f"no answer within {self.settings.answer_seconds:g} seconds"
        return RequestError(503, "late", reason, retry_after=self.batcher.retry_after())

    def _method(self, ask: Ask) -> str:
        method = next(iter(self.segmenters)) if ask.method is None else ask.method
        if method not in self.segmenters:
            raise RequestError(404, "method", f"no method {method!r} here; there is {', '.join(self.segmenters)}")
        return method

    async def _in_thread(self, work: Any, *arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._limiters.decoders)

    @cached_property
    def _limiters(self) -> "_Limiters":
        """Made where there is an event loop, which they belong to."""
        return _Limiters(CapacityLimiter(DECODERS), CapacityLimiter(self.settings.in_flight))

    def check_key(self, request: Request) -> None:
        if self.settings.api_key is None:
            return
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        # Headers are bytes that Starlette reads as Latin-1.
        if not hmac.compare_digest(given.encode("latin-1"), self.settings.api_key.encode()):
            raise RequestError(401, "key", "give this service's key as `Authorization: Bearer KEY`")


def routes(service: Service) -> APIRouter:
    class Counted(APIRoute):
        """Every answer is counted, and every failure is JSON with a reason."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def counted(request: Request) -> Response:
                start = time.perf_counter()
                try:
                    response = await handler(request)
                except Exception as error:
                    response = error_answer(error)
                service.metrics.answered(response.status_code, time.perf_counter() - start)
                return response

            return counted

    router = APIRouter(route_class=Counted)

    @router.post(SEGMENT, summary="Masks of a picture by names", openapi_extra=_body(), responses=_RESPONSES)
    async def segment(request: Request) -> Response:
        service.check_key(request)
        return await service.segment(request)

    @router.get("/v1/models", summary="The methods of this service")
    async def models(request: Request) -> list[dict[str, Any]]:
        service.check_key(request)
        return [_described(name, segmenter) for name, segmenter in service.segmenters.items()]

    @router.get("/healthz", summary="Whether the service is up")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @router.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        service.check_key(request)
        return PlainTextResponse(service.metrics.text(), media_type=CONTENT_TYPE)

    @router.api_route("/v1/{rest:path}", methods=list(VERBS), include_in_schema=False)
    async def misaddressed(request: Request) -> Response:
        """Before the page, to which every address is one of its own."""
        known = any(getattr(route, "path", None) == request.url.path for route in router.routes)
        raise RequestError(*((405, "http", "method not allowed") if known else (404, "http", "not found")))

    return router


def decoding_pool(settings: ServeSettings) -> DecodingPool | None:
    """The processes that decode; none where the settings say so."""
    if not settings.decoders:
        return None
    return DecodingPool(
        settings.decoders,
        seconds=settings.decode_seconds,
        memory_bytes=settings.decode_bytes,
        decoded_bytes=settings.decoded_bytes,
        waiting=settings.waiting_decodes,
    )


def vocabulary_of(segmenter: Segmenter) -> Vocabulary | None:
    """A student's names; None of a segmenter that takes any."""
    found = getattr(segmenter, "vocabulary", None)
    return found if isinstance(found, Vocabulary) else None


def _described(name: str, segmenter: Segmenter) -> dict[str, Any]:
    """`names` are those of a student, which knows no others; null where any name will do."""
    vocabulary = vocabulary_of(segmenter)
    names = None if vocabulary is None else list(vocabulary.names)
    return {"method": name, "paper": segmenter.method, "preset": segmenter.preset, "names": names}


def _as_png(result: Segmentation) -> Response:
    return Response(result.to_png(), media_type="image/png")


def _as_json(method: str, note: str | None, result: Segmentation) -> Response:
    masks = []
    for name, area in result.pixels.items():
        if area:
            score = None if result.scores is None else round(float(result.scores[result.mask(name)].mean()), 4)
            masks.append({"name": name, "area": area, "score": score, "rle": result.rle(name)})
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


_ERROR = {
    "type": "object",
    "properties": {
        "error": {"type": "object", "properties": {"code": {"type": "string"}, "reason": {"type": "string"}}}
    },
}
_REASONS = {
    400: "The picture, the names or a field cannot be used",
    401: "The key is missing or wrong",
    404: "No such method",
    408: "The request came too slowly",
    413: "Too many bytes, pixels or names",
    415: "Not a kind of request or picture that is taken",
    503: "Too busy: come back after Retry-After seconds",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "With format=rle (the default) COCO run lengths, a mask a name; with format=png a palette PNG",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "method": {"type": "string"},
                        "size": {"type": "array", "items": {"type": "integer"}},
                        "names": {"type": "array", "items": {"type": "string"}},
                        "masks": {"type": "array", "items": {"type": "object"}},
                        "note": {"type": "string"},
                    },
                }
            },
            "image/png": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    **{
        status: {"description": reason, "content": {"application/json": {"schema": _ERROR}}}
        for status, reason in _REASONS.items()
    },
}


def _body() -> dict[str, Any]:
    form = Asked.model_json_schema()
    form["properties"]["image"] = {"type": "string", "format": "binary", "description": "The picture's file."}
    form["required"] = ["image"]
    content = {FORM: {"schema": form}, JSON: {"schema": AskedAsJson.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
