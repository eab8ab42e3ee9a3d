"""`left-out.txt`: what was left out or passed over, a file a line: its path, a tab, the reason."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from wordmask.files import atomic_write

LEFT_OUT = "left-out.txt"
_SPECIAL = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPED = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def write_left_out(path: Path, lines: Iterable[tuple[str, str]]) -> None:
    r"""Write paths and reasons. A line break in a path is written \x0a, and a backslash twice: what
    `read_left_out` gives back is the path, to the last byte."""
    with atomic_write(path) as file:
        for name, reason in lines:
            file.write(os.fsencode(f"{_escape(name)}\t{_escape(reason)}\n"))


def keep_left_out(path: Path, lines: list[tuple[str, str]]) -> bool:
    """Write the list where there is something to list, and remove that of an earlier run where there is nothing.

    Returns whether that was done: a file of somebody else's that is called so stays as it is.
    """
    if path.exists() and not _is_list(path):
        return False
    if lines:
        write_left_out(path, lines)
    else:
        path.unlink(missing_ok=True)
    return True


def read_left_out(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the paths and reasons of such a file."""
    with path.open("rb") as file:
        for line in file:
            name, _, reason = os.fsdecode(line.removesuffix(b"\n")).partition("\t")
            yield _unescape(name), _unescape(reason)


def _is_list(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return all(line.endswith(b"\n") and line.count(b"\t") == 1 for line in file)


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda found: _code(found.group()), text)


def _code(character: str) -> str:
    if character == "\\":
        return "\\\\"
    return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)) if found[1] or found[2] else "\\", text)
