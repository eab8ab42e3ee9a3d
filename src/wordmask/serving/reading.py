"""A request, read within its limits and in memory alone.

A client gives a picture's bytes and names, in a form or as JSON; nothing in a request is taken for a path, a URL or
anything to unpickle.
"""

import base64
import json
from collections.abc import AsyncGenerator, Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from wordmask.labelling.settings import MIN_AREA
from wordmask.names.contrast import WORDS_FOR_CONTRAST
from wordmask.names.lists import parse_names
from wordmask.names.vocabulary import MAX_NAME_LENGTH, Vocabulary, VocabularyError
from wordmask.pictures.decoding import DecodersBusyError, DecodingLateError, DecodingPool
from wordmask.pictures.image_files import ImageReadError, first_line, format_by_magic, image_size
from wordmask.pictures.images import read_image, shrunk
from wordmask.pictures.reduced import Picture
from wordmask.serving.answers import Format
from wordmask.serving.settings import RequestError, ServeSettings
from wordmask.text_files import counted

FORMATS = ("JPEG", "PNG", "WEBP")
"""What cameras and browsers make. Fewer decoders are fewer to be attacked."""
FORM = "multipart/form-data"
JSON = "application/json"
QUICK_BYTES, QUICK_PARTS = 2**19, {FORM: 16, JSON: 400}
"""A body of so few bytes, and of so few parts or signs of JSON's, is read in milliseconds, however hard it was made."""
MOST_FIELDS = 20
"""Of JSON, before they are looked at one by one."""
NAME = "picture"


Words = Annotated[list[str], Field(fail_fast=True)]
"""Of thousands of wrong ones the first is enough to be told."""


class Asked(BaseModel):
    """The fields of a request, but for the picture of a form."""

    model_config = ConfigDict(extra="forbid", strict=True)

    names: Words | dict[str, Words] | None = Field(
        None,
        min_length=1,
        description="In a form a field each, or all in one as on the command line, where person: [man, woman] gives "
        "synonyms; in JSON a list, or an object of each name's synonyms. A student brings its own.",
    )
    method: str | None = Field(None, max_length=100, description="One of GET /v1/models; else the first of them.")
    format: Format = Field(
        "rle",
        description="What the masks are answered as; rle where not said. polygons and boxes tell of each connected "
        "part; png and overlay are pictures, and for one picture only.",
    )
    fill: bool = Field(False, strict=False, description="Every pixel gets one of the names: no background is added.")
    contrast: str | Words = Field(
        "auto",
        description="What a few names race against where background is added: auto, concepts (those known for them, "
        "also where auto has none), none, or words whose pixels become background (a list, or in a form as names on "
        "the command line).",
    )
    min_score: float = Field(0.0, ge=0, le=1, strict=False, description="What scores less becomes background.")
    drop_absent: float = Field(
        0.0, ge=0, le=1, strict=False, description="Names on less than this share of the picture are taken for absent."
    )
    min_area: int = Field(
        MIN_AREA,
        ge=1,
        le=2**31,
        strict=False,
        description=f"For polygons and boxes: parts with fewer pixels are left out; {MIN_AREA} where not said, as in "
        "`wordmask label`, and 1 for every speck.",
    )
    tolerance: float = Field(
        1.0, ge=0, le=100, strict=False, description="How many pixels a polygon may leave a mask's edge."
    )


class AskedAsJson(Asked):
    image: Annotated[str, Field(description="The file's bytes in base64.")]


class ManyAskedAsJson(Asked):
    images: Annotated[list[str], Field(fail_fast=True, min_length=1, description="The bytes of each file in base64.")]


@dataclass(frozen=True)
class Ask:
    """pictures: the bytes of their files, which whoever decodes one takes out."""

    pictures: list[bytes]
    vocabulary: Vocabulary | None
    method: str | None
    format: Format
    fill: bool
    contrast: str | tuple[str, ...]
    min_score: float
    drop_absent: float
    min_area: int
    tolerance: float


def kind_of(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (FORM, JSON):
        raise RequestError(415, "content_type", f"send {FORM} or {JSON}, not {kind[:60]!r}")
    return kind


def is_quick(kind: str, body: bytes | bytearray) -> bool:
    """Return whether `parse` takes less of this body than a thread would of being woken."""
    if len(body) > QUICK_BYTES:
        return False
    return (body.count(b"\r\n--") if kind == FORM else signs_of(body)) <= QUICK_PARTS[kind]


def parse(headers: Headers, kind: str, body: bytes | bytearray, settings: ServeSettings, most: int = 1) -> Ask:
    """Not for the thread that serves, unless `is_quick`: 20 MB made to be hard to read take most of a second.

    most: pictures that the request may bring; where that is more than one, JSON has a list of them.
    """
    asked: Asked
    try:
        if kind == FORM:
            pictures, fields = _from_form(headers, body, settings, most)
            asked = Asked.model_validate(fields)
        elif most > 1:
            many = asked = ManyAskedAsJson.model_validate(_from_json(body, settings))
            if len(many.images) > most:
                raise RequestError(413, "pictures", f"{len(many.images)} pictures; at most {most}")
            pictures = [base64.b64decode(image, validate=True) for image in many.images]
        else:
            one = asked = AskedAsJson.model_validate(_from_json(body, settings))
            pictures = [base64.b64decode(one.image, validate=True)]
    except ValidationError as error:
        raise _invalid(error) from error
    except ValueError as error:
        raise RequestError(400, "image", f"image is not base64: {first_line(error)}") from error
    vocabulary = None if asked.names is None else _vocabulary(asked.names, settings, typed=kind == FORM)
    against = read_contrast(asked.contrast, settings)
    rest = (asked.min_score, asked.drop_absent, asked.min_area, asked.tolerance)
    return Ask(pictures, vocabulary, asked.method, asked.format, asked.fill, against, *rest)


def decode(
    picture: bytes,
    settings: ServeSettings,
    pool: DecodingPool | None,
    deadline: float,
    *,
    take_room: Callable[[int, int], None],
    wait: Callable[["Future[Picture]"], Picture],
    side: int | None = None,
    reduce: Callable[[np.ndarray], Picture] | None = None,
    client: Hashable = None,
) -> Picture:
    """(H, W, 3) uint8, by the pool, or here where there is none, or what `reduce` makes of it. `side`, `reduce` and
    `client` are as `DecodingPool.submit`'s.

    take_room: called with height and width before anything is decoded; what it raises ends it. wait: for the pool.
    """

    def admit(height: int, width: int) -> None:
        if width * height > settings.max_pixels:
            raise RequestError(
                413, "pixels", f"the picture has {width} x {height} pixels; {settings.max_pixels} are allowed"
            )
        take_room(height, width)

    try:
        if (kind := format_by_magic(picture, NAME)) not in FORMATS:
            raise RequestError(415, "image", f"a {kind} picture; send one of {', '.join(FORMATS)}")
        if pool is not None:
            return wait(pool.submit(picture, deadline=deadline, admit=admit, side=side, reduce=reduce, client=client))
        admit(*image_size(picture))
        image = read_image(picture, max_pixels=settings.max_pixels)
        if side is not None:
            image = shrunk(image, side)
        return image if reduce is None else reduce(image)
    except DecodingLateError as error:
        reason = f"no answer within {counted(settings.answer_seconds, 'second', style='g')}"
        raise RequestError(503, "late", reason, retry_after=1) from error
    except DecodersBusyError as error:
        raise RequestError(503, "busy", str(error), retry_after=1) from error
    except ImageReadError as error:
        raise RequestError(400, "image", f"the picture {error.reason}") from error


class FormInMemory(MultiPartParser):
    """Starlette writes files of more than a megabyte to disk; the body is in memory here, and short enough."""

    spool_max_size = 2**62


def read_form(
    headers: Headers, body: bytes | bytearray, *, max_files: int, max_fields: int, longest_field: int = 2**20
) -> FormData:
    """Return the fields and files of a form. Not for the thread that serves.

    As all of it is in memory nothing waits, and no event loop is needed.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body  # type: ignore[misc]

    boundary = parse_options_header(headers["content-type"])[1].get(b"boundary", b"")
    # Also of what only begins like one, and is found out slowly.
    if boundary and body.count(b"\r\n--" + boundary) > max_files + max_fields + 1:
        raise RequestError(400, "form", "the form cannot be read: it has too many parts")
    parser = FormInMemory(headers, stream(), max_files=max_files, max_fields=max_fields, max_part_size=longest_field)
    parsing = parser.parse()
    try:
        parsing.send(None)
    except StopIteration as done:
        form: FormData = done.value
        return form
    except (MultiPartException, KeyError, ValueError) as error:
        raise RequestError(400, "form", f"the form cannot be read: {first_line(error)}") from error
    raise AssertionError("a form in memory waited for something")


def _from_form(
    headers: Headers, body: bytes | bytearray, settings: ServeSettings, most: int
) -> tuple[list[bytes], dict[str, Any]]:
    form = read_form(
        headers, body, max_files=most, max_fields=settings.max_names + 10, longest_field=_longest_names(settings)
    )
    pictures: list[bytes] = []
    given: dict[str, Any] = {}
    names: list[str] = []
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            if key != "image":
                raise RequestError(400, "form", f"the picture's field is called image, not {key[:60]!r}")
            pictures.append(value.file.read())
        elif key == "names":
            names.append(value)
        else:
            given[key[:60]] = value
    if not pictures:
        raise RequestError(400, "form", "there is no picture: send it as a file in the field image")
    if names:
        given["names"] = names
    return pictures, given


def _longest_names(settings: ServeSettings) -> int:
    """Bytes that all names together may take in one field, in UTF-8."""
    return 4 * settings.max_names * (MAX_NAME_LENGTH + 2)


def _vocabulary(names: list[str] | dict[str, list[str]], settings: ServeSettings, *, typed: bool) -> Vocabulary:
    """typed: a single text may hold several names, as on the command line."""
    if typed and isinstance(names, list) and len(names) == 1:
        return typed_names(names[0], settings)
    _check_count(len(names) + (sum(map(len, names.values())) if isinstance(names, dict) else 0), settings)
    try:
        return Vocabulary.of(names if isinstance(names, list) else {name: own or None for name, own in names.items()})
    except VocabularyError as error:
        raise RequestError(400, "names", str(error)) from error


def read_contrast(asked: str | list[str], settings: ServeSettings) -> str | tuple[str, ...]:
    """Return "auto", "concepts", "none", or words; never a file of the service's."""
    if asked in WORDS_FOR_CONTRAST:
        return str(asked)
    words = typed_names(asked, settings) if isinstance(asked, str) else _vocabulary(asked, settings, typed=False)
    return words.names


def typed_names(text: str, settings: ServeSettings) -> Vocabulary:
    """Names as on the command line. Synonyms cost as much as names, and are counted before they are parsed."""
    _check_count(text.strip(", ").count(",") + 1, settings)
    try:
        return parse_names(text)
    except VocabularyError as error:
        raise RequestError(400, "names", str(error)) from error


def _check_count(count: int, settings: ServeSettings) -> None:
    if count > settings.max_names:
        raise RequestError(413, "names", f"{count} names and synonyms; at most {settings.max_names}")


def signs_of(body: bytes | bytearray) -> int:
    """Return how many signs of JSON's own there are, which bounds how many objects come of it."""
    return sum(body.count(sign) for sign in (b",", b"[", b"{", b":"))


def _from_json(body: bytes | bytearray, settings: ServeSettings) -> Any:
    """Short JSON may become large lists; base64 has none of the signs that make them, and names have few."""
    if signs_of(body) > _longest_names(settings):
        raise RequestError(413, "names", "the JSON holds more than a picture and its names")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "json", f"the body is not JSON: {first_line(error)}") from error
    if isinstance(told, dict):
        if len(told) > MOST_FIELDS:
            raise RequestError(400, "fields", f"the JSON has {len(told)} fields, and none so many are known")
        if isinstance(names := told.get("names"), list | dict):
            own = names.values() if isinstance(names, dict) else ()
            _check_count(len(names) + sum(len(each) for each in own if isinstance(each, list)), settings)
    return told


def _invalid(error: ValidationError) -> RequestError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:60] for part in first["loc"][:3]) or "the request"
    return RequestError(400, "fields", f"{where}: {first['msg'].lower()[:200]}")
