"""Small text files that nobody vouches for (names, settings, records): read within limits, and named when damaged."""

import json
import os
import reprlib
import stat
from pathlib import Path
from typing import Any

import yaml

from wordmask.errors import WordmaskError

MOST_BYTES = 4 * 2**20
MOST_NODES = 200_000
"""Of a YAML document once its aliases are spread out: 324 bytes of nested aliases can stand for billions."""
MOST_DIGITS = 1000
"""Of a whole number, in whatever base. Python computes with longer ones, but refuses to write them."""
MOST_CHARACTERS_SHOWN = 60


class TextFileError(WordmaskError):
    """A file of text cannot be read: names it, and says why."""


def read_small(path: str | Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file. A pipe or a device is refused, not waited for."""
    if not isinstance(path, str | Path):  # of an object store, which has no pipes
        with path.open("rb") as file:
            return _of_bounded_size(path, file.read(most_bytes + 1), most_bytes)
    path = Path(path)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise TextFileError(f"{path}: is a pipe or a device, not a file")
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise TextFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # a null byte in the path
        raise TextFileError(f"{shown(str(path))}: cannot be read ({error})") from error
    return _of_bounded_size(path, content, most_bytes)


def _of_bounded_size(path: Path, content: bytes, most_bytes: int) -> bytes:
    if len(content) > most_bytes:
        raise TextFileError(f"{path}: is larger than {most_bytes / 2**20:g} MiB")
    return content


def read_text(path: str | Path, *, most_bytes: int = MOST_BYTES) -> str:
    """Return the text of a UTF-8 file, without its byte-order mark."""
    content = read_small(path, most_bytes=most_bytes)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextFileError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def read_json(path: str | Path, *, most_bytes: int = MOST_BYTES, way_out: str = "delete it and run again") -> Any:
    """Return what a JSON file holds. `way_out` is what the message advises for a damaged one."""
    text = read_text(path, most_bytes=most_bytes)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of too many digits
        raise TextFileError(f"{path}: is damaged, no valid JSON ({_one_line(error)}); {way_out}") from error


def read_yaml(path: str | Path) -> Any:
    """Return what a YAML file holds."""
    text = read_text(path)
    try:
        return parse_yaml(text)
    except TextFileError as error:
        raise TextFileError(f"{path}: {error}") from error


def parse_yaml(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Return what a YAML text holds, its aliases counted before they are spread out."""
    try:
        parser = loader(text)
        try:
            root = parser.get_single_node()
            if root is None:
                return None
            if _nodes_of(root, {}) > MOST_NODES:
                raise TextFileError(f"its aliases stand for more than {MOST_NODES} values")
            return parser.construct_document(root)
        finally:
            parser.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a number or a date out of range
        raise TextFileError(f"not valid YAML: {_one_line(error)}") from error


def shown(value: object, most: int = MOST_CHARACTERS_SHOWN) -> str:
    """Return a value as a message shows it: bounded before it is written out, not after."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxother = writer.maxlong = most
    try:
        text = writer.repr(value)
    except ValueError:  # a number of too many digits to be written
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else text[: most - 3] + "..."


def counted(count: float, one: str, many: str | None = None, *, style: str = "") -> str:
    """Return a count with its noun: "1 picture", "2 pictures". many: where it is not `one` and an s. style: a number's
    format, as "," for thousands.
    """
    return f"{count:{style}} {one if count == 1 else many or f'{one}s'}"


def _nodes_of(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return how many values a node stands for, an alias counted as often as it is used."""
    key = id(node)
    if key in known:
        count = known[key]
        if count is None:
            raise TextFileError("one of its aliases holds itself")
        return count
    known[key] = None
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif node.tag == "tag:yaml.org,2002:int" and len(node.value) > MOST_DIGITS:
        raise TextFileError(f"not valid YAML: a number of {len(node.value)} digits")
    total = 1 + sum(_nodes_of(child, known) for child in children)
    known[key] = total
    return total


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
