"""The web page: a picture, names, and what is where. gradio draws it, with a viewer of our own."""

import asyncio
import hmac
import json
from collections.abc import Iterable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.datastructures import Headers, UploadFile

from wordmask.labelling.settings import MIN_AREA
from wordmask.methods import methods_of, table_to_choose_by
from wordmask.names.contrast import KNOWN, NO_CONTRAST
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.base import Segmenter
from wordmask.serving.examples import find_examples
from wordmask.serving.page_guard import ASK, PageGuard
from wordmask.serving.page_work import PageWork, Question, forgotten, jpeg_bytes, name_of_upload
from wordmask.serving.proxies import client_of
from wordmask.serving.reading import FORM, kind_of, read_form
from wordmask.serving.service import Service, all_it_knows, vocabulary_of
from wordmask.serving.settings import RequestError
from wordmask.serving.uploads import Upload

FIRST_NAMES = ["person", "dog", "tree", "grass", "sky"]
MOST_FIRST = 8
ONE_METHOD = "none"
CONTRASTS = [("Nothing: no concepts", NO_CONTRAST), ("All that is known beside the names", KNOWN)]
STATIC = Path(__file__).parent / "static"
ABOUT = (
    "Type names, see where they are. What none of them names is *background*, unless every pixel is to get one of the "
    "names (*Fill*)."
)
QUESTION = """(picture, names, method, beside, fill, least, against) => {
  const second = beside === "none" ? null : beside;
  window.wordmask.ask(picture, { names: names ?? [], method, beside: second, fill, least, against: against ?? [] });
}"""
VIEWER = (
    '<div id="wm-viewer" role="region" aria-label="Result" data-examples="{examples}" data-closed="{closed}"></div>'
)
IDLE = "idle"
"""The class of a field that says nothing to the methods that are chosen."""
EXAMPLE = "(number) => window.wordmask.example(number)"
SHOWN_KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}
"""How files begin that a browser may be sent back, as what they are."""
KEPT_BY_BROWSERS = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
UPLOADED = 'data: {"msg": "done"}\n\n'


def mount_page(app: FastAPI, service: Service) -> None:
    """Mount the page at /, and what it asks for below /page and at gradio's addresses for uploads."""
    work = PageWork(service)
    app.state.page = work
    key = service.settings.api_key
    visitors = _Visitors(service)
    app.include_router(routes(work, visitors))
    app.add_middleware(PageGuard, own=list(app.routes))
    gr.mount_gradio_app(
        app,
        build_blocks(work),
        path="/",
        head=f"<script>{_script('viewer.js')}{_script('asking.js')}</script>",
        css=(STATIC / "page.css").read_text(),
        theme=gr.themes.Base(
            primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
        ),
        footer_links=[],
        max_file_size=service.settings.max_bytes,
        run_history=False,
        show_error=False,
        auth=None if key is None else (lambda _, given: _same(given, key)),
        auth_message=None if key is None else "Any user name, and this service's key as the password.",
    )
    visitors.gradio = app.routes[-1].app  # type: ignore[attr-defined]


class _Visitors:
    """Who may use the page of a service that has a key: gradio's form sets a cookie for those who know it."""

    gradio: Any

    def __init__(self, service: Service):
        self._service = service

    def check(self, request: Request) -> None:
        cookies = (f"access-token-{self.gradio.cookie_id}", f"access-token-unsecure-{self.gradio.cookie_id}")
        if not any(request.cookies.get(cookie) in self.gradio.tokens for cookie in cookies):
            self._service.check_key(request)


def routes(work: PageWork, visitors: _Visitors) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    settings = work.service.settings

    @router.post(ASK)
    async def ask(question: Question, request: Request) -> dict[str, Any]:
        visitors.check(request)
        return await work.answer(question)

    @router.post("/page/{token}/forget")
    async def forget(token: str) -> None:
        work.forget(token)

    @router.get("/page/{token}/coco.json")
    async def coco(token: str, panel: int = 0) -> Response:
        looked = work.sessions.get(token)
        if looked is None or not 0 <= panel < len(looked.shown):
            raise forgotten()
        told = await work.service.in_thread(partial(looked.shown[panel].to_coco, min_area=MIN_AREA))
        told["images"][0]["file_name"] = looked.name
        return JSONResponse(told, headers={"Content-Disposition": 'attachment; filename="wordmask.json"'})

    @router.get("/page/examples/{number}.jpg")
    async def example(number: int) -> Response:
        if not 0 <= number < len(work.examples.pictures):
            raise RequestError(404, "http", "not found")
        return Response(
            jpeg_bytes(work.examples.pictures[number][0]), media_type="image/jpeg", headers=KEPT_BY_BROWSERS
        )

    # Where gradio's picture box sends what is chosen, and where it looks for it.
    @router.post("/gradio_api/upload")
    async def upload(request: Request) -> list[str]:
        visitors.check(request)
        if kind_of(request) != FORM:
            raise RequestError(415, "content_type", f"send {FORM}")
        content, name = await work.service.in_thread(_uploaded, request.headers, await request.body())
        token = work.uploads.add(Upload(content, name, client_of(request.scope, settings)))
        asyncio.get_running_loop().call_later(settings.upload_seconds, work.uploads.take, token)
        return [f"{token}/{name}"]

    @router.get("/gradio_api/upload_progress")
    async def progress() -> Response:
        return PlainTextResponse(UPLOADED, media_type="text/event-stream")

    @router.get("/gradio_api/file={token}/{name}")
    async def file(token: str) -> Response:
        upload, looked = work.uploads.get(token), work.sessions.get(token)
        if upload is not None:
            kind = next((kind for start, kind in SHOWN_KINDS.items() if upload.content.startswith(start)), None)
            if kind is not None:
                return Response(upload.content, media_type=kind, headers=KEPT_BY_BROWSERS)
        elif looked is not None:
            content = await work.service.in_thread(jpeg_bytes, looked.image)
            return Response(content, media_type="image/jpeg", headers=KEPT_BY_BROWSERS)
        raise forgotten()

    return router


def _uploaded(headers: Headers, body: bytes) -> tuple[bytes, str]:
    """One file of a form, and its name."""
    file = read_form(headers, body, max_files=1, max_fields=0).get("files")
    if not isinstance(file, UploadFile):
        raise RequestError(400, "form", "there is no picture: send it as a file in the field files")
    return file.file.read(), name_of_upload(file.filename)


def build_blocks(work: PageWork) -> gr.Blocks:
    """Return what is on the page. What happens there is up to viewer.js, which asks our own addresses: gradio is sent
    nothing.
    """
    segmenters = work.service.segmenters
    methods = list(segmenters)
    closed = [own for own, segmenter in segmenters.items() if all_it_knows(segmenter) is not None]
    with gr.Blocks(title="wordmask", analytics_enabled=False) as blocks:
        gr.Markdown(f"# wordmask\n{ABOUT}")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                picture = gr.Image(
                    label="Picture: drop, paste, or choose",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard", "webcam"],
                    height=220,
                    buttons=[],
                    elem_id="wm-picture",
                )
                names = gr.Dropdown(
                    label="Names",
                    info="Type one and press Enter",
                    choices=suggestions(list(segmenters.values())),
                    value=first_names(list(segmenters.values())),
                    multiselect=True,
                    allow_custom_value=True,
                    elem_id="wm-names",
                )
                against = gr.Dropdown(
                    label="Not these",
                    info="What looks like these is background; empty, what is known to be taken for your names",
                    choices=CONTRASTS,
                    multiselect=True,
                    allow_custom_value=True,
                    elem_id="wm-against",
                    elem_classes=[IDLE] if methods[0] in closed else None,
                )
                with gr.Row():
                    method = gr.Dropdown(methods, value=methods[0], label="Method", min_width=160, elem_id="wm-method")
                    beside = gr.Dropdown(
                        [ONE_METHOD, *methods], value=ONE_METHOD, label="Beside it", min_width=160, elem_id="wm-second"
                    )
                with gr.Accordion("Which method?", open=False):
                    gr.Markdown(choosing_table(segmenters.values()))
                with gr.Row():
                    fill = gr.Checkbox(
                        False, label="Fill", info="Every pixel gets one of the names", min_width=120, elem_id="wm-fill"
                    )
                    least = gr.Slider(
                        0, 1, 0, label="Least score", info="Below it is background", min_width=120, elem_id="wm-least"
                    )
            with gr.Column(scale=5, min_width=300):
                gr.HTML(
                    VIEWER.format(examples=len(work.examples.pictures), closed=escape(json.dumps(closed))),
                    padding=False,
                )
        if work.examples.pictures:
            examples = gr.Dataset(
                components=["html"],
                samples=[[_example(number, names)] for number, (_, names) in enumerate(work.examples.pictures)],
                type="index",
                label=f"Examples: {work.examples.about}",
                elem_id="wm-examples",
            )
            examples.click(None, [examples], [picture, names], js=EXAMPLE)
        changes = [
            picture.change,
            names.change,
            method.change,
            beside.change,
            fill.change,
            least.release,
            against.change,
        ]
        gr.on(changes, None, [picture, names, method, beside, fill, least, against], None, js=QUESTION)
    return blocks


def choosing_table(segmenters: Iterable[Segmenter]) -> str:
    """Return what the methods that are served can be chosen by, in Markdown."""
    known = methods_of("segmenter")
    served = dict.fromkeys(segmenter.method for segmenter in segmenters)
    return table_to_choose_by(known[name] for name in served if name in known)


def _example(number: int, names: Sequence[str]) -> str:
    """viewer.js reads the names from here."""
    told = escape(", ".join(names))
    return f'<img src="page/examples/{number}.jpg" alt="" width="96" height="96"><span class="names">{told}</span>'


def suggestions(segmenters: Sequence[Segmenter]) -> list[str]:
    """Return what to offer: students' names, and those of the examples, where a method takes any."""
    names = [name for vocabulary in _vocabularies(segmenters) for name in vocabulary.names]
    if any(all_it_knows(segmenter) is None for segmenter in segmenters):
        names += [*find_examples().offered, "background"]
    return list(dict.fromkeys(names))


def first_names(segmenters: Sequence[Segmenter]) -> list[str]:
    """Return what the page asks for before anybody has typed a name: of students alone, what the first one knows."""
    students = _vocabularies(segmenters)
    found = [name for name in FIRST_NAMES if all(name in own.names for own in students)]
    if found or len(students) < len(segmenters) or not students:
        return found
    return list(students[0].without_background().names[:MOST_FIRST])


def _vocabularies(segmenters: Sequence[Segmenter]) -> list[Vocabulary]:
    """Of the students among them."""
    found = (vocabulary_of(segmenter) for segmenter in segmenters)
    return [vocabulary for vocabulary in found if vocabulary is not None]


def _same(given: str, key: str) -> bool:
    return hmac.compare_digest(given.encode(), key.encode())


def _script(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
