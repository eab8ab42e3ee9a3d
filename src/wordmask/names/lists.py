"""Lists of names as people have them: typed, in a file of their own, or in the file of another tool.

What such a file means is told by its suffix and its shape. Whatever could mean two things is refused.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from wordmask.names.vocabulary import Vocabulary, VocabularyError, first_repeated
from wordmask.text_files import TextFileError, counted, parse_yaml, read_json, read_text, shown

MOST_JSON_BYTES = 64 * 2**20
"""COCO's annotations hold its categories; those of val2017 have 20 MB."""
YOLO_KEYS = frozenset({"path", "train", "val", "test", "nc", "names", "download"})
"""What Ultralytics' `data.yaml` holds. Only `names` is needed there."""
NUMBERED = re.compile(r"(\d+)(?:\s*:\s*|\s+)(\S.*)")
WRAPPERS = ("classes", "labels", "class_names", "label_names", "thing_classes")
"""Under which other programs keep their names. Here each might be a name, too."""
VOID = (255, "void")
"""The last line of VOC's `labels.txt`, as `label` writes it: no name, but what nobody claims anything of."""
IN_YAML = re.compile(r"[\[\]{}]|:\s")
"""Signs of synonyms in names as typed: "person: [man, woman], dog"."""


def parse_names(text: str) -> Vocabulary:
    """Return names as typed: "dog, traffic light, background", or with synonyms "person: [man, woman], dog"."""
    if IN_YAML.search(text):
        return Vocabulary.of(_from_yaml(f"[{text}]"))
    parts = text.split(",")
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    for part in parts:
        for sign, what in ((";", "semicolon"), ("\n", "line break")):
            if sign in part.strip():
                raise VocabularyError(
                    f'{shown(part)} holds a {what}: part names by commas, as in "dog, cat, background"'
                )
    return Vocabulary.of(parts)


def read_names(path: str | Path) -> Vocabulary:
    """Return the names in a file.

    Text: one name a line (# starts a comment), or every line numbered ("0: dog", "0 dog"). YAML: a list of names, or a
    mapping as `Vocabulary.of` takes it; an item of the list may be such a mapping. JSON: the same. In both also what
    other tools write: YOLO's `data.yaml`, COCO's categories, numbers and their names. XML: a configuration of Label
    Studio.
    """
    path = Path(path)
    try:
        return Vocabulary.of(_READERS.get(path.suffix.lower(), _from_lines_of)(path))
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from error
    except TextFileError as error:
        way_out = "" if path.is_file() else '; give a file of names, one a line, or the names themselves: "dog, cat"'
        raise VocabularyError(f"{error}{way_out}") from error


def _from_lines_of(path: Path) -> list[str]:
    names = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        name = line.split("#", 1)[0].strip()
        for sign, what in ((",", "comma"), (";", "semicolon")):
            if sign in name:
                raise VocabularyError(
                    f"line {number} holds a {what} ({shown(name)}): write one name a line, or use YAML for synonyms"
                )
        if name:
            names.append(name)
    return _without_numbers(names)


def _without_numbers(lines: list[str]) -> list[str]:
    """Lines "0: dog" or "0 dog" without their numbers, if they count from 0 or 1. "3 pigs" alone is a name."""
    found = [(int(match[1][:9]), match[2]) for line in lines if (match := NUMBERED.fullmatch(line)) is not None]
    are_numbered = len(lines) > 1 and len(found) == len(lines)
    if are_numbered and found[-1] == VOID:
        found.pop()
    numbers = [number for number, _ in found]
    if are_numbered and numbers in (_counted(0, numbers), _counted(1, numbers)):
        return [name for _, name in found]
    for line in lines:
        if are_numbered or re.match(r"\d+\s*:", line):
            raise VocabularyError(
                f"{shown(line)}: a number and a name, but not all lines count from 0 or 1; number them all, or none"
            )
    return lines


def _counted(first: int, numbers: Sequence[int]) -> list[int]:
    return list(range(first, first + len(numbers)))


def _from_yaml_of(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path)
    except TextFileError as error:
        raise VocabularyError(str(error).removeprefix(f"{path}: ")) from error
    names = _from_yaml(text)
    if len(names) == 1 and len(lines := _plain_lines(text)) > 1 and next(iter(names)) == " ".join(lines):
        raise VocabularyError(
            f"holds {len(lines)} lines that YAML reads as one name ({shown(next(iter(names)))}): begin each with `- `, "
            "or call the file .txt"
        )
    return names


def _plain_lines(text: str) -> list[str]:
    """Lines without comments, as a list of names has them that is no YAML."""
    return [name for line in text.splitlines() if (name := line.split("#", 1)[0].strip())]


def _from_yaml(text: str) -> dict[str, Any]:
    try:
        return _from_data(parse_yaml(text, _StringLoader))
    except TextFileError as error:
        raise VocabularyError(str(error)) from error


def _from_json_of(path: Path) -> dict[str, Any]:
    return _from_data(read_json(path, most_bytes=MOST_JSON_BYTES, way_out="mend it"))


def _from_label_studio_of(path: Path) -> list[str]:
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise VocabularyError("declares entities, which no configuration of Label Studio does")
    try:
        labels = [node.get("value", "") for node in ElementTree.fromstring(text).iter("Label")]
    except (ElementTree.ParseError, RecursionError) as error:
        raise VocabularyError(f"is no valid XML ({error})") from error
    if not labels:
        raise VocabularyError('is no configuration of Label Studio: it has no <Label value="..."/>')
    return labels


def _from_data(data: Any) -> dict[str, Any]:
    """Return what a YAML or JSON file holds, as a mapping of names to synonyms."""
    if isinstance(data, dict):
        data = _unwrapped(data)
    if isinstance(data, list) and _are_categories(data):
        return _each_once((item["name"], None) for item in sorted(data, key=_id_of))
    if not isinstance(data, dict):
        return _each_once(_pairs(data))
    numbers = [key for key in data if _is_number(key)]
    if any(isinstance(data[key], str) for key in numbers):  # and no synonyms, which are a list behind a number
        if len(numbers) < len(data) or not all(isinstance(value, str) for value in data.values()):
            raise VocabularyError(
                f"{shown(numbers[0])} is a number with a name, and other keys are not: number all names (`0: dog`), or "
                'give a name that is a number its synonyms as a list (`"7": [seven]`)'
            )
        return _each_once((data[key], None) for key in sorted(data, key=int))
    if all(_is_number(value) for value in data.values()):
        counted = sorted(data, key=lambda name: int(data[name]))
        if [int(data[name]) for name in counted] in (_counted(0, counted), _counted(1, counted)):
            return _each_once((name, None) for name in counted)
    return _each_once(_pairs(data))


def _unwrapped(data: dict[Any, Any]) -> Any:
    """Return the names in YOLO's `data.yaml` or COCO's annotations; other mappings as they are."""
    categories = data.get("categories")
    if isinstance(categories, list) and _are_categories(categories):
        return categories
    if len(data) == 1 and isinstance(next(iter(data.values())), list) and (key := next(iter(data))) in WRAPPERS:
        raise VocabularyError(
            f"`{key}` is either a name with synonyms, or what another program lists its names under: write them under "
            f"`names`, or `{key}: {{instead: ...}}` for the name"
        )
    names = data.get("names")
    if names is None or (isinstance(names, dict) and set(names) == {"instead"}):
        return data  # a thing that is called "names", or none
    is_yolos = len(YOLO_KEYS & data.keys()) > 1 or len(data) == 1
    if not is_yolos or not isinstance(names, list | dict):
        raise VocabularyError(
            "`names` is either a name, or what YOLO's data.yaml lists its names under: write `names: {instead: names}` "
            "for the name, or give the list alone"
        )
    count = data.get("nc")
    if count is not None and not (_is_number(count) and int(count) == len(names)):
        raise VocabularyError(f"its nc is {shown(count)}, but it has {counted(len(names), 'name')}")
    return names


def _pairs(data: Any) -> Iterable[tuple[Any, Any]]:
    for item in data if isinstance(data, list) else [data]:
        if isinstance(item, str):
            yield item, None
        elif isinstance(item, dict):
            yield from item.items()
        else:
            raise VocabularyError(f"expected names or `name: synonyms`, found {shown(item)}")


def _each_once(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    twice = first_repeated(name for name, _ in pairs if isinstance(name, str))
    if twice is not None:
        raise VocabularyError(f"the name {shown(twice)} is there twice; give each name once")
    return dict(pairs)


def _are_categories(data: list[Any]) -> bool:
    """COCO's, and CVAT's labels: every item says its own name."""
    return bool(data) and all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in data)


def _id_of(category: dict[str, Any]) -> int:
    return int(category["id"]) if _is_number(category.get("id")) else 0


def _is_number(value: Any) -> bool:
    """Of a class: in YAML, where all words stay words, "0", and in JSON 0 or "0"."""
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and len(value) <= 9
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


class _StringLoader(yaml.SafeLoader):
    """Plain words stay words: a name may be "no", "on" or "7"; only an empty value is nothing."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own interface)
        key: [pair for pair in resolvers if pair[0].endswith((":null", ":merge"))]
        for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := first_repeated(keys):
            raise VocabularyError(f"the name {shown(twice)} is there twice; give each name once")
        return super().construct_mapping(node, deep=deep)


_READERS = {
    ".yaml": _from_yaml_of,
    ".yml": _from_yaml_of,
    ".json": _from_json_of,
    ".xml": _from_label_studio_of,
}
