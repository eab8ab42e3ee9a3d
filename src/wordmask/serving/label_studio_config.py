"""Label Studio's labelling interface, an XML text: which picture is asked about, and with what it is labelled."""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from wordmask.serving.settings import RequestError

TOOLS = {"BrushLabels": "brushlabels", "PolygonLabels": "polygonlabels", "RectangleLabels": "rectanglelabels"}
"""Tags that we can fill, the first of them first -> what their results are called."""
MOST_CHARACTERS = 256 * 1024
NEEDED = f"the labelling interface needs an <Image> and one of {', '.join(f'<{tag}>' for tag in TOOLS)} for it"


@dataclass(frozen=True)
class Interface:
    """key: of a task's data, where the picture's address stands. kind: of results, a value of `TOOLS`."""

    key: str
    from_name: str
    to_name: str
    kind: str
    labels: tuple[str, ...]


def read_interface(text: object) -> Interface:
    """Return what a labelling interface asks for; it is anybody's text."""
    if not isinstance(text, str) or not text.strip():
        raise RequestError(400, "label_config", NEEDED)
    if len(text) > MOST_CHARACTERS:
        raise RequestError(413, "label_config", f"the labelling interface has more than {MOST_CHARACTERS} characters")
    if "<!" in text.replace("<!--", ""):  # entities can stand for billions of characters
        raise RequestError(400, "label_config", "the labelling interface holds a DOCTYPE or an ENTITY: leave it out")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise RequestError(400, "label_config", f"the labelling interface is no XML: {str(error)[:100]}") from error
    images = {own.get("name"): own.get("value", "") for own in root.iter("Image")}
    for tag, kind in TOOLS.items():
        for tool in root.iter(tag):
            to_name = next((name for name in tool.get("toName", "").split(",") if name in images), None)
            labels = tuple(_labels(tool))
            if to_name is not None and labels and images[to_name].startswith("$"):
                return Interface(images[to_name][1:], tool.get("name", ""), to_name, kind, labels)
    raise RequestError(400, "label_config", NEEDED)


def _labels(tool: ElementTree.Element) -> Iterator[str]:
    for label in tool.iter("Label"):
        value = label.get("value", "").strip()
        if value:
            yield value
