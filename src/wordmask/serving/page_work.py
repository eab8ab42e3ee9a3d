"""What is asked on the web page, answered: each method looks at a picture once, and is asked for names often."""

import base64
import io
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from wordmask.errors import WordmaskError
from wordmask.masks.segmentation import Segmentation
from wordmask.names.contrast import AUTO, WORDS_FOR_CONTRAST
from wordmask.names.vocabulary import ROOM, Vocabulary
from wordmask.segmenters.base import Seen, contrasted
from wordmask.serving.examples import find_examples
from wordmask.serving.reading import read_contrast, typed_names
from wordmask.serving.service import Service, all_it_knows
from wordmask.serving.sessions import Looked, Sessions
from wordmask.serving.settings import RequestError
from wordmask.serving.uploads import Uploads

PAGE_SIDE = 1024
"""Pixels of the longer side. Larger pictures are looked at smaller here, so that answers come at once."""
EXAMPLE = re.compile(r"example-(\d{1,3})-[\w-]{16,}")
"""A token that the browser makes, so that visitors who look at one example do not share what they asked of it."""
MOST_TOKEN = 64
BUSY = 503


def forgotten() -> RequestError:
    return RequestError(404, "gone", "This picture has been forgotten; choose it again.")


class Question(BaseModel):
    """What is chosen on the page. `is_new`: the page has not got the picture yet as the service sees it. `least`: the
    score below which a pixel is background. against: words that the names race against; by default what is known for
    them.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    picture: Annotated[str, Field(max_length=MOST_TOKEN)]
    names: list[str]
    method: str
    beside: str | None = None
    fill: bool = False
    against: list[str] = []
    least: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.0
    is_new: bool = True


class PageWork:
    """What the page's addresses share."""

    def __init__(self, service: Service):
        self.service = service
        self.sessions = Sessions(service.settings.cache_bytes)
        self.uploads = Uploads(service.settings)
        self.examples = find_examples()
        service.metrics.gauges["wordmask_page_cache_bytes"] = lambda: self.sessions.nbytes
        service.metrics.gauges["wordmask_page_upload_bytes"] = lambda: self.uploads.nbytes

    async def answer(self, question: Question) -> dict[str, Any]:
        """panels, or in their place a hint or an error; and the picture where it is new."""
        looked = await self._looked(question.picture)
        answer = {"picture": await self.service.in_thread(_jpeg, looked.image)} if question.is_new else {}
        try:
            if not question.names:
                return answer | {"hint": "Type a name and press Enter."}
            return answer | await self._segmented(looked, question)
        except WordmaskError as error:
            return answer | {"error": str(error)}

    def forget(self, token: str) -> None:
        """Its visitor has taken the picture away, or left."""
        self.uploads.take(token)
        self.sessions.drop(token)

    async def _looked(self, token: str) -> Looked:
        looked = self.sessions.get(token)
        if looked is None:
            looked = await self._new(token)
            self.sessions.add(token, looked)
        return looked

    async def _new(self, token: str) -> Looked:
        example = EXAMPLE.fullmatch(token)
        if example and int(example[1]) < len(self.examples.pictures):
            return Looked(self.examples.pictures[int(example[1])][0], f"example-{example[1]}.png")
        upload = self.uploads.get(token)
        if upload is None:
            raise forgotten()
        deadline = time.monotonic() + self.service.settings.answer_seconds
        read = partial(self.service.picture, upload.content, deadline, side=PAGE_SIDE)
        try:
            image = await self.service.waiting_in_thread(read)
        except RequestError as error:
            if error.status != BUSY:  # then it may be asked for again
                self.uploads.take(token)
            raise
        self.uploads.take(token)
        return Looked(image, upload.name)

    async def _segmented(self, looked: Looked, question: Question) -> dict[str, Any]:
        names = typed_names(", ".join(question.names), self.service.settings)  # an entry may hold several
        if question.fill and question.least and names.background is None:
            raise RequestError(
                400, "fields", "With Fill nothing is background: set Least score to 0, or name background."
            )
        start = time.perf_counter()
        deadline = time.monotonic() + self.service.settings.answer_seconds
        methods = list(dict.fromkeys(own for own in (question.method, question.beside) if own is not None))
        if len(question.against) > 1 and (alone := {*question.against} & {*WORDS_FOR_CONTRAST}):
            raise RequestError(400, "contrast", f'"{min(alone)}" among "Not these" stands alone: take out the others')
        against = read_contrast(", ".join(question.against) or AUTO, self.service.settings)
        asked = {own: self._known_to(own, names, against, fill=question.fill) for own in methods}
        for own in methods:
            await self.service.read_names(own, asked[own][0], deadline)
        async with looked.lock:
            shown: list[Segmentation] = []
            for own in methods:
                seen = await self._seen(looked, own, deadline)
                ask = partial(seen.segment, asked[own][0], fill=True, min_score=question.least)
                shown.append(await self.service.in_thread(ask))
            looked.shown = shown
        panels = [
            await self.service.in_thread(_panel, own, result, asked[own][1])
            for own, result in zip(methods, shown, strict=True)
        ]
        self.sessions.update(question.picture)
        answer = {"panels": panels, "milliseconds": round(1000 * (time.perf_counter() - start))}
        has_made_room = not question.fill and names.background is None
        return answer | {"note": f"{ROOM}."} if has_made_room else answer

    def _known_to(
        self, method: str, names: Vocabulary, against: str | tuple[str, ...], *, fill: bool
    ) -> tuple[Vocabulary, str | None]:
        """Return what to ask a method for, and a note of what it is not asked for: names that a student does not know,
        as long as it knows one.
        """
        if method not in self.service.segmenters:
            raise RequestError(404, "method", f"no method {method[:60]!r} here")
        segmenter, note = self.service.segmenters[method], None
        if (own := all_it_knows(segmenter)) is not None:
            known = {phrase.casefold() for phrases in (own.names, *own.phrases) for phrase in phrases}
            kept = [label for label, name in enumerate(names.names) if name.casefold() in known]
            if 0 < len(kept) < len(names):  # else the student says what it does know
                left_out = [name for label, name in enumerate(names.names) if label not in kept]
                names, note = names.only(kept), f"{method} does not know {_listed(left_out)}: left out."
        if not fill:
            names = names.with_room()
        if own is not None:  # a student races against no word but its own
            against = AUTO
        return contrasted(names, against, segmenter), note

    async def _seen(self, looked: Looked, method: str, deadline: float) -> Seen:
        if method not in looked.seen:
            looked.seen[method] = await self.service.seen(method, looked.image, deadline)
        return looked.seen[method]


def name_of_upload(name: str | None) -> str:
    """As a browser may say it, without folders and kept short."""
    last = (name or "").replace("\\", "/").rpartition("/")[2][:100]
    return "picture" if last.strip(".") == "" else last


def jpeg_bytes(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _panel(method: str, result: Segmentation, note: str | None) -> dict[str, Any]:
    total = result.labels.size
    return {
        "method": method,
        "note": note,
        "png": "data:image/png;base64," + base64.b64encode(result.to_png()).decode("ascii"),
        "names": [
            {"name": name, "colour": list(colour), "share": result.pixels[name] / total}
            for name, colour in zip(result.names, result.colours, strict=True)
        ],
    }


def _jpeg(image: np.ndarray) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg_bytes(image)).decode("ascii")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
