"""The service as one application: REST, its description, and the web page."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from torch import Tensor

from wordmask._version import __version__
from wordmask.names.text_embeddings import PhraseCache, TextEmbedder
from wordmask.segmenters.base import Segmenter
from wordmask.segmenters.open_student import OpenStudent
from wordmask.serving.access_log import AccessLog
from wordmask.serving.budget import Budget
from wordmask.serving.description import EXAMPLE, describe, example_picture
from wordmask.serving.guard import Guard
from wordmask.serving.label_studio import routes as label_studio_routes
from wordmask.serving.label_studio_pictures import LabelStudio
from wordmask.serving.rest import error_answer, routes
from wordmask.serving.review import mount_review
from wordmask.serving.review_folder import ReviewFolder
from wordmask.serving.service import Service
from wordmask.serving.settings import RequestError, ServeSettings
from wordmask.serving.visits import CURRENT


def build_app(
    segmenters: Mapping[str, Segmenter],
    settings: ServeSettings | None = None,
    *,
    page: bool = True,
    access_log: AccessLog | None = None,
    label_studio: LabelStudio | None = None,
    review: ReviewFolder | None = None,
) -> FastAPI:
    """segmenters: what clients may choose from, the first by default. page: mount the web page at /.

    access_log: where each answer is noted; whoever made it closes it. label_studio: what a backend of Label Studio may
    open, where there is to be one. review: labels that are reviewed at /review/; whoever opened them closes them.
    """
    settings = settings or ServeSettings()
    for segmenter in segmenters.values():
        share_words(segmenter)
    service = Service(segmenters, settings)
    service.access_log = access_log
    if access_log is not None:
        service.metrics.counts["wordmask_access_log_lost_total"] = access_log.lost

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start_decoders)
        yield
        service.close()

    # FastAPI's own pages of documentation fetch their scripts from elsewhere; ours needs nothing.
    app = FastAPI(
        title="wordmask",
        version=__version__,
        description="Names in, masks out.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_middleware(Guard, service=service)
    app.include_router(routes(service))
    if label_studio is not None:
        app.include_router(label_studio_routes(service, label_studio))
    if review is not None:
        mount_review(app, service, review)

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: Exception) -> Response:
        return error_answer(error)

    @app.exception_handler(HTTPException)
    @app.exception_handler(RequestValidationError)
    async def misaddressed(_: Request, error: Exception) -> Response:
        status, reason = getattr(error, "status_code", 400), str(getattr(error, "detail", "not understood"))
        return error_answer(RequestError(status, "http", reason.lower()))

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        if not segmenters:
            raise service.no_methods()
        address = str(request.base_url).rstrip("/")
        return HTMLResponse(describe(app.openapi(), address, segmenters, has_key=settings.api_key is not None))

    @app.get(EXAMPLE, include_in_schema=False)
    async def example() -> Response:
        picture = await asyncio.to_thread(example_picture)
        if picture is None:
            raise RequestError(404, "http", "not found")
        return Response(picture, media_type="image/webp")

    if page:
        from wordmask.serving.page import mount_page

        mount_page(app, service)
    return app


PROMPTS_A_TURN = 320
"""Four names in 80 templates: about a second of a slow processor."""


class _ReadOnly(PhraseCache):
    """Phrases that are on disk are read; those of clients are not written there."""

    def put(self, space: str, vectors: dict[str, Any]) -> None:
        pass


class _Shared(TextEmbedder):
    """One for all threads. Clients with new names take turns: who brings many is overtaken by who brings few."""

    def __init__(self, embedder: TextEmbedder):
        super().__init__(embedder.encoder, embedder.templates, cache=embedder.cache.path)
        self.cache = _ReadOnly(embedder.cache.path)
        self.phrases_at_once = max(1, PROMPTS_A_TURN // len(embedder.templates.sentences))
        self._turn = Budget(1, 1)

    def _learn(self, phrases: Sequence[str]) -> dict[str, Tensor]:
        visit = CURRENT.get(None)
        with self._turn.claim("" if visit is None else visit.client) as turn:
            turn.wait_for(1).result()
            found = self._in_memory(phrases)  # another may have brought the same names meanwhile
            missing = [p for p in phrases if p not in found]
            return found | super()._learn(missing) if missing else found


def share_words(segmenter: Segmenter) -> None:
    """Let several threads read names, and keep the names off the disk."""
    embedder = getattr(segmenter, "embed", None)
    if isinstance(embedder, TextEmbedder):
        segmenter.embed = _Shared(embedder)  # type: ignore[attr-defined]
    if isinstance(segmenter, OpenStudent):  # reads names once somebody asks for others than its own
        segmenter.reads = lambda encoder, templates: _Shared(TextEmbedder(encoder, templates))
