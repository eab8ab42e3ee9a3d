"""The REST interface described: for programs in OpenAPI's words, for people as a page that can be tried out."""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from wordmask.html_page import Page
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.base import Segmenter
from wordmask.serving.examples import find_examples
from wordmask.serving.reading import FORM, JSON, Asked, AskedAsJson, ManyAskedAsJson

STATIC = Path(__file__).parent / "static"
EXAMPLE = "/docs/example.webp"
ASKED = ("dog", "grass", "background")
"""What to ask for where there is no example picture."""


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(of: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "array", "items": of, "description": description}


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
RLE = _object(size=_list(WHOLE, "Height and width."), counts=TEXT | {"description": "COCO's compressed run lengths."})
MASK = _object(
    name=TEXT | {"description": "Whose mask it is."},
    area=WHOLE | {"description": "How many pixels bear the name, specks among them."},
    score={
        "type": ["number", "null"],
        "description": "How sure the method is of them on average, on a scale of its own; null where it does not say.",
    },
    rle=RLE | {"description": "Which pixels those are, as pycocotools reads it."},
)
PART = _object(
    box=_list(WHOLE, "x, y, width and height, in pixels."),
    area=WHOLE | {"description": "How many pixels it has."},
    score={"type": ["number", "null"], "description": "As the mask's, of this part alone."},
) | {
    "description": "A connected part.",
}
PART["properties"]["polygon"] = _list(
    WHOLE, "With format=polygons its outline, x and y by turns; holes are joined to it by cuts of no width."
)
MASK["properties"]["parts"] = _list(
    PART, "In place of rle with format=polygons or boxes, those of min_area pixels or more; background has none."
)
MASK["required"].remove("rle")
ANSWER = _object(
    method=TEXT | {"description": "Who answered."},
    size=_list(WHOLE, "Height and width of the picture, and of every mask."),
    names=_list(TEXT, "What was asked for; and background, which is added where it was not named."),
    masks=_list(
        MASK,
        "One for each name that is there, with format=polygons or boxes for each that has a part; they do not overlap.",
    ),
)
ANSWER["properties"]["note"] = TEXT | {"description": "Says that background was added to the names."}
ANSWER |= {
    "example": {
        "method": "clip-dinoiser",
        "size": [480, 640],
        "names": ["dog", "grass", "background"],
        "masks": [
            {"name": "dog", "area": 20481, "score": 0.93, "rle": {"size": [480, 640], "counts": "Pn73]>1O1N3N..."}},
            {"name": "grass", "area": 286719, "score": 0.71, "rle": {"size": [480, 640], "counts": "0T:e0VO..."}},
        ],
    }
}
ERROR = _object(
    error=_object(
        code=TEXT | {"description": "For programs; such as names, image, too_large, busy."},
        reason=TEXT | {"description": "For people: what is wrong, and the way out."},
    )
) | {"example": {"error": {"code": "image", "reason": "the picture is corrupt or cut short"}}}
MODEL = _object(
    method=TEXT | {"description": "What a request's field method says to ask this one."},
    segmenter=TEXT | {"description": "The method it is an instance of; a student is called as its file instead."},
    paper={"type": ["string", "null"], "description": "Who published it, and where."},
    preset=TEXT | {"description": "Whose backbones and settings it has."},
    precision=TEXT | {"description": "What its networks compute with."},
    published={
        "type": ["number", "null"],
        "description": "Published mIoU with the preset paper, the mean of eight benchmarks, in percent.",
    },
    cost={"type": ["number", "null"], "description": "Of the preset paper, as multiples of MaskCLIP's; an estimate."},
    needs={"type": ["string", "null"], "description": "The networks of the preset paper."},
    licence={"type": ["string", "null"], "description": "Of the weights of the preset paper."},
    names={
        "type": ["array", "null"],
        "items": TEXT,
        "description": "All that a student knows; null: any name will do, as of open students.",
    },
)
REASONS = {
    400: "The picture, the names or a field cannot be used",
    401: "The key is missing or wrong",
    404: "No such method",
    408: "The request came too slowly",
    413: "Too many bytes, pixels or names",
    415: "Not a kind of request or picture that is taken",
    503: "Too busy: come back after Retry-After seconds",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "With format=rle (the default) COCO run lengths, a mask a name; with polygons or boxes each "
        "connected part; with png a palette PNG, whose pixels are places in the list of names that stands inside it; "
        "with overlay a PNG of the masks over the picture",
        "content": {JSON: {"schema": ANSWER}, "image/png": {"schema": {"type": "string", "format": "binary"}}},
    },
    **{status: {"description": reason, "content": {JSON: {"schema": ERROR}}} for status, reason in REASONS.items()},
}
MANY = _object(
    answers=_list(
        {"type": "object", "description": "As of one picture, or its error."},
        "One for each picture, in their order: what POST /v1/segment answers, or {error: {code, reason}}.",
    )
)
MANY_RESPONSES: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    200: {
        "description": "An answer for each picture; one that fails does not cost the others theirs",
        "content": {JSON: {"schema": MANY}},
    },
}
READY: dict[int | str, dict[str, Any]] = {
    200: {"description": "Networks are loaded and measured, decoders are up, and it is not being stopped"},
    503: {"description": "It is not, and says why", "content": {JSON: {"schema": ERROR}}},
}
MODELS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A list, the default first",
        "content": {JSON: {"schema": _list(MODEL, "What can be asked.")}},
    }
}


def request_body() -> dict[str, Any]:
    form = Asked.model_json_schema()
    form["properties"]["image"] = {"type": "string", "format": "binary", "description": "The picture's file."}
    form["required"] = ["image"]
    content = {FORM: {"schema": form}, JSON: {"schema": AskedAsJson.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def many_body() -> dict[str, Any]:
    form = Asked.model_json_schema()
    form["properties"]["image"] = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "The pictures' files, a field each.",
    }
    form["required"] = ["image"]
    content = {FORM: {"schema": form}, JSON: {"schema": ManyAskedAsJson.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def example_picture() -> bytes | None:
    """Return the first example as a WebP file; None where no plug-in brings one."""
    pictures = find_examples().pictures
    if not pictures:
        return None
    Image.fromarray(pictures[0][0]).save(buffer := io.BytesIO(), "WEBP", quality=90)
    return buffer.getvalue()


def describe(openapi: dict[str, Any], address: str, segmenters: Mapping[str, Segmenter], *, has_key: bool) -> str:
    """Return the interface for people; /openapi.json says the same to programs. address: where the service is
    reached.
    """
    names = _names_of(next(iter(segmenters.values())))
    page = Page(f"{openapi['info']['title']} {openapi['info']['version']}: REST interface")
    page.text(
        "A picture and names go in, a mask for each name comes out. For programs, with every field: /openapi.json"
    )
    page.heading("Try it")
    page.code(_commands(address, names, has_key=has_key))
    if has_key:
        page.text("This service asks for its key: put it into WORDMASK_API_KEY first, or into the form.")
    page.markup((STATIC / "try.html").read_text(encoding="utf-8"))
    picture = EXAMPLE[1:] if find_examples().pictures else None
    tried = {"picture": picture, "names": ", ".join(names), "methods": list(segmenters), "hasKey": has_key}
    script = (STATIC / "try.js").read_text(encoding="utf-8")
    page.script(f"const tried = {json.dumps(tried)};\n{script}".replace("</", "<\\/"))
    page.text("In Python, a mask is then:")
    page.code(
        "from pycocotools import mask\n\nmask.decode(answer['masks'][0]['rle'])  # (height, width), 1 where the name is"
    )
    for path, verbs in openapi["paths"].items():
        for verb, told in verbs.items():
            page.heading(f"{verb.upper()} {path}")
            page.text(told["summary"])
            for kind, body in told.get("requestBody", {}).get("content", {}).items():
                page.text(f"Sent as {kind}:")
                page.words(["field", "type", "meaning"], _fields(body["schema"]))
            _describe_answers(page, told["responses"])
    return page.html()


def _describe_answers(page: Page, responses: Mapping[str, Any]) -> None:
    page.text("Answered with:")
    page.words(["status", "meaning"], [[status, response["description"]] for status, response in responses.items()])
    for status, name in (("200", "An answer"), ("400", "Whatever is not answered")):
        schema = responses.get(status, {}).get("content", {}).get(JSON, {}).get("schema", {})
        fields = _fields(schema)
        if not fields:
            continue
        page.text(f"{name} in JSON:")
        if "example" in schema:
            page.code(_laid_out(schema["example"]))
        page.words(["field", "type", "meaning"], fields)


def _commands(address: str, names: list[str], *, has_key: bool) -> str:
    key = ' -H "Authorization: Bearer $WORDMASK_API_KEY"' if has_key else ""
    asked = f'-F "names={", ".join(names)}"'
    has_picture = bool(find_examples().pictures)
    photo = "photo.webp" if has_picture else "photo.jpg"
    return "\n".join(
        [
            *([f"curl -o {photo} {address}{EXAMPLE}"] if has_picture else []),
            f"curl{key} -F image=@{photo} {asked} {address}/v1/segment",
            f"curl{key} -F image=@{photo} {asked} -F format=png -o masks.png {address}/v1/segment",
            f"curl{key} -F image=@{photo} {asked} -F format=overlay -o overlay.png {address}/v1/segment",
            f"curl{key} -F image=@{photo} -F image=@{photo} {asked} {address}/v1/segment_many",
            f"curl{key} {address}/v1/models",
        ]
    )


def _names_of(segmenter: Segmenter) -> list[str]:
    """To try the default method with."""
    known = getattr(segmenter, "vocabulary", None)
    asked = find_examples().asked or ASKED
    if not isinstance(known, Vocabulary):
        return list(asked)
    return [name for name in asked if name in known.names] or list(known.names[:3])


def _fields(schema: Mapping[str, Any], within: str = "") -> list[list[str]]:
    """[field, type, meaning] of all that a schema holds, those of parts as masks[].name."""
    if schema.get("type") == "array" and not within:
        return _fields(schema["items"], "[].")
    rows = []
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        needed = [] if name in required else ["optional"]
        rows.append([f"{within}{name}", _type(field), "; ".join([*needed, field.get("description", "")])])
        rows += _fields(field.get("items", {}), f"{within}{name}[].") + _fields(
            field if field.get("type") == "object" else {}, f"{within}{name}."
        )
    return rows


def _laid_out(example: dict[str, Any]) -> str:
    """JSON in lines, with what is short in one."""
    return re.sub(r"[\[{][^\[\]{}]{,60}[\]}]", lambda found: " ".join(found[0].split()), json.dumps(example, indent=2))


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(map(str, field["enum"]))
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if field.get("format") == "binary":
        return "file"
    kind = field.get("type", "")
    if kind == "array":
        return f"list of {_type(field.get('items', {}))}s"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
