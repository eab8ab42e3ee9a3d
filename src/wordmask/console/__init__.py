"""What people are told: messages on stderr, results on stdout, and nothing in a file's name that steers a terminal."""

import logging
import re
import sys

from wordmask.errors import WordmaskError

MOST_NAMED = 20
"""Of things that are left out, so many are named; the others are counted."""
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line breaks, what turns the direction of writing, and bytes of names that are not UTF-8."""


def printable(text: object) -> str:
    r"""Return a text in one line that changes nothing of a terminal but to stand there: escape is written \x1b."""
    return _STEERING.sub(_escaped, str(text))


def complain(message: object) -> None:
    """Print a message to stderr, in one line."""
    print(f"wordmask: {printable(message)}", file=sys.stderr, flush=True)


def say(text: object) -> None:
    """Print a line of progress to stderr, without the program's name."""
    print(printable(text), file=sys.stderr, flush=True)


def show(result: object) -> None:
    """Print a result to stdout: exactly as it is into a pipe or a file, and harmless on a terminal."""
    lines = str(result)
    if sys.stdout.isatty():
        lines = "\n".join(map(printable, lines.split("\n")))
    print(lines, flush=True)


class LeftOut:
    """Names what is left out as it comes, the first few; the others are counted, and `where` says what lists them."""

    def __init__(self, where: str, most: int | None = MOST_NAMED):
        self.where, self.most = where, most
        self.count = 0

    def __call__(self, error: WordmaskError | Warning | str) -> None:
        self.count += 1
        if self.most is None or self.count <= self.most:
            complain(f"left out: {error}")
        elif self.count == self.most + 1:
            complain(f"left out: more than {self.most}; from here on they are counted, not named")

    def finish(self) -> None:
        if self.most is not None and self.count > self.most:
            complain(f"left out: {self.count} in all; {self.where}")


def log_to_stderr(level: int) -> None:
    """Show what is logged from this level on, a line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Line())
    logging.basicConfig(level=level, handlers=[handler])


def quiet_log() -> None:
    """Let warnings that are logged, where nobody asked for a log, be lines as all others are; and Pillow's own words
    about damaged pictures none, as each is an error of ours that names the file.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Line())


class _Line(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(record.getMessage())


def _escaped(found: re.Match[str]) -> str:
    number = ord(found.group())
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a name that is not UTF-8
        number -= 0xDC00
    return {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}.get(number) or (
        f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
    )
