"""The web page: a picture, names, and what is where. Built on gradio, with a viewer of its own."""

import base64
import hmac
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from PIL import Image

from wordmask.app.batching import Job
from wordmask.app.reading import decode, typed_names
from wordmask.app.rest import Service, vocabulary_of
from wordmask.app.sessions import Looked, Sessions
from wordmask.app.settings import RequestError
from wordmask.app.uploads import Uploads, among_uploads
from wordmask.errors import WordmaskError
from wordmask.segmentation import Segmentation
from wordmask.segmenters.base import Seen, Segmenter
from wordmask.vocabulary import ROOM, Vocabulary
from wordmask.world import NAMES, draw_scene

PAGE_SIDE = 1024
"""Pixels of the longer side. Larger pictures are looked at smaller here, so that answers come at once."""
EXAMPLES = ((7, "multi"), (21, "pairs"), (33, "single"), (50, "clutter"))
"""Seeds and kinds of the world's pictures."""
EXAMPLE_SIDE = 384
FIRST_NAMES = ["person", "dog", "tree", "grass", "sky"]
ONE_METHOD = "none"
FORGOTTEN = "This picture has been forgotten; choose it again."
STATIC = Path(__file__).parent / "static"
ABOUT = (
    "Type names, see where they are. What none of them names is *background*, unless every pixel is to get one of the "
    "names (*Fill*)."
)
SHOW = "(answer) => { window.wordmask.show(answer); }"


class PageWork:
    """What happens when somebody does something on the page."""

    def __init__(self, service: Service):
        self.service = service
        self.sessions = Sessions(service.settings.cache_bytes)
        self.uploads: Uploads | None = None
        service.metrics.gauges["wordmask_page_cache_bytes"] = lambda: self.sessions.nbytes

    def new_picture(
        self,
        file: str | None,
        token: str,
        names: list[str],
        method: str,
        second: str,
        fill: bool = False,
        min_score: float = 0.0,
    ) -> tuple[str, dict[str, Any]]:
        """A picture was chosen or taken away: (token, what to show)."""
        self.sessions.drop(token)
        if file is None:
            return "", {"message": ""}
        try:
            settings, deadline = self.service.settings, time.monotonic() + self.service.settings.answer_seconds
            image = decode(Path(file).read_bytes(), settings, self.service.pool, deadline, side=PAGE_SIDE)
            token = self.sessions.add(Looked(image, Path(file).name))
            return token, self._show(token, names, method, second, fill, min_score) | {"picture": _jpeg(image)}
        except FileNotFoundError:
            return "", {"message": FORGOTTEN}
        except WordmaskError as error:
            return "", {"message": str(error)}
        finally:  # and not before: the browser, too, fetches it, to show it small
            if self.uploads is not None:
                self.uploads.remove(file)

    def new_question(
        self, token: str, names: list[str], method: str, second: str, fill: bool = False, min_score: float = 0.0
    ) -> dict[str, Any]:
        """Other names, or another method, for the picture that is there."""
        try:
            if not token:
                return {"message": "Choose a picture first."}
            return self._show(token, names, method, second, fill, min_score)
        except WordmaskError as error:
            return {"message": str(error)}

    def _show(
        self, token: str, names: list[str], method: str, second: str, fill: bool, min_score: float
    ) -> dict[str, Any]:
        looked = self.sessions.get(token)
        if looked is None:
            return {"message": FORGOTTEN}
        if not names:
            return {"message": "Type a name and press Enter."}
        if len(names) > self.service.settings.max_names:
            return {"message": f"{len(names)} names; {self.service.settings.max_names} are allowed."}
        vocabulary = typed_names(", ".join(names), self.service.settings)  # an entry may hold several
        if not fill:
            vocabulary = vocabulary.with_room()
        methods = list(dict.fromkeys(m for m in (method, second) if m in self.service.segmenters))
        start = time.perf_counter()
        deadline = time.monotonic() + self.service.settings.answer_seconds
        for own in methods:
            words = self.service.segmenters[own].background_words
            self.service.read_names(own, vocabulary.worded(words), deadline)
        with looked.lock:
            looked.shown = [
                self._seen(looked, own).segment(vocabulary, fill=True, min_score=min_score) for own in methods
            ]
            panels = [_panel(own, result) for own, result in zip(methods, looked.shown, strict=True)]
        self.sessions.update(token)
        milliseconds = round(1000 * (time.perf_counter() - start))
        note = f" · {ROOM}" if vocabulary.has_made_room else ""
        return {"token": token, "message": f"{milliseconds} ms{note}", "panels": panels}

    def _seen(self, looked: Looked, method: str) -> Seen:
        if method not in looked.seen:
            seconds = self.service.settings.answer_seconds
            job = Job(method, looked.image, None, time.monotonic() + seconds)
            try:
                seen = self.service.batcher.submit(job).result(seconds)
            except TimeoutError as error:
                raise RequestError(503, "late", f"No answer within {seconds:g} seconds; try again.") from error
            assert isinstance(seen, Seen)  # the job has no names
            looked.seen[method] = seen
        return looked.seen[method]


def mount_page(app: FastAPI, service: Service) -> None:
    """The page at /, and what it fetches below /page."""
    work = PageWork(service)
    app.state.page = work

    @app.get("/page/{token}/coco.json", include_in_schema=False)
    def coco(token: str, panel: int = 0) -> Response:
        looked = work.sessions.get(token)
        if looked is None or not 0 <= panel < len(looked.shown):
            raise RequestError(404, "gone", "this picture has been forgotten")
        headers = {"Content-Disposition": 'attachment; filename="wordmask.json"'}
        told = looked.shown[panel].to_coco()
        told["images"][0]["file_name"] = looked.name
        return JSONResponse(told, headers=headers)

    key = service.settings.api_key
    blocks = build_blocks(work)
    work.uploads = Uploads(blocks, service.settings.upload_bytes)
    service.make_room = work.uploads.make_room
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        head=f"<script>{(STATIC / 'viewer.js').read_text()}</script>",
        css=(STATIC / "page.css").read_text(),
        theme=gr.themes.Base(
            primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
        ),
        footer_links=[],
        max_file_size=service.settings.max_bytes,
        show_error=False,
        auth=None if key is None else (lambda _, given: _same(given, key)),
        auth_message=None if key is None else "Any user name, and this service's key as the password.",
    )


def build_blocks(work: PageWork) -> gr.Blocks:
    methods = list(work.service.segmenters)
    with gr.Blocks(title="wordmask", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        gr.Markdown(f"# wordmask\n{ABOUT}")
        token, answer = gr.State(""), gr.JSON(visible=False)
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
                # gradio's own opens the file, and what is no picture would end there without a word.
                picture.preprocess = _path_of
                names = gr.Dropdown(
                    label="Names",
                    info="Type one and press Enter",
                    choices=suggestions(list(work.service.segmenters.values())),
                    value=first_names(list(work.service.segmenters.values())),
                    multiselect=True,
                    allow_custom_value=True,
                    elem_id="wm-names",
                )
                with gr.Row():
                    method = gr.Dropdown(methods, value=methods[0], label="Method", min_width=120)
                    second = gr.Dropdown(
                        [ONE_METHOD, *methods], value=ONE_METHOD, label="Beside it", min_width=120, elem_id="wm-second"
                    )
                with gr.Row():
                    fill = gr.Checkbox(
                        False, label="Fill", info="Every pixel gets one of the names", min_width=120, elem_id="wm-fill"
                    )
                    least = gr.Slider(
                        0, 1, 0, label="Least score", info="Below it is background", min_width=120, elem_id="wm-least"
                    )
            with gr.Column(scale=5, min_width=300):
                gr.HTML('<div id="wm-viewer" role="region" aria-label="Result"></div>', padding=False)
        gr.Examples(
            draw_examples(),
            [picture, names],
            label="Examples: pictures of the built-in world",
            preload=False,
            elem_id="wm-examples",
        )
        question = [token, names, method, second, fill, least]
        picture.change(
            work.new_picture,
            [picture, *question],
            [token, answer],
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        ).then(None, [answer], None, js=SHOW)
        gr.on(
            [names.change, method.change, second.change, fill.change, least.release],
            work.new_question,
            question,
            [answer],
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        ).then(None, [answer], None, js=SHOW)
    return blocks


def _path_of(upload: Any) -> str | None:
    """Where gradio has put what came: among the uploads, or a client made it up."""
    return None if upload is None else str(among_uploads(upload.path or ""))


def suggestions(segmenters: Sequence[Segmenter]) -> list[str]:
    """What to offer: a student's names, for it knows no others; else the world's, which are everyday things."""
    own = [name for vocabulary in _vocabularies(segmenters) for name in vocabulary.names]
    return list(dict.fromkeys(own or [*NAMES, "background"]))


def first_names(segmenters: Sequence[Segmenter]) -> list[str]:
    known = [set(vocabulary.names) for vocabulary in _vocabularies(segmenters)]
    return [name for name in FIRST_NAMES if all(name in own for own in known)]


def _vocabularies(segmenters: Sequence[Segmenter]) -> list[Vocabulary]:
    """Of the students among them."""
    found = (vocabulary_of(segmenter) for segmenter in segmenters)
    return [vocabulary for vocabulary in found if vocabulary is not None]


def draw_examples() -> list[list[Any]]:
    """Pictures and names, each picture of a kind of its own."""
    examples = []
    for seed, kind in EXAMPLES:
        scene = draw_scene(seed, EXAMPLE_SIDE, kind=kind)  # type: ignore[arg-type]
        examples.append([scene.image, [*scene.things, *scene.stuff]])
    return examples


def _panel(method: str, result: Segmentation) -> dict[str, Any]:
    total = result.labels.size
    return {
        "method": method,
        "png": "data:image/png;base64," + base64.b64encode(result.to_png()).decode("ascii"),
        "names": [
            {"name": name, "colour": list(colour), "share": result.pixels[name] / total}
            for name, colour in zip(result.names, result.colours, strict=True)
        ],
    }


def _jpeg(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _same(given: str, key: str) -> bool:
    return hmac.compare_digest(given.encode(), key.encode())
