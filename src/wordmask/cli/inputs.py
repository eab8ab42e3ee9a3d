"""Which pictures a command is given: files, folders, patterns that no shell has expanded, a list, or one on stdin."""

import glob
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from wordmask.cli import options
from wordmask.errors import WordmaskError
from wordmask.files import is_special, naming_a_full_disk

STDIN = "-"
MOST_BYTES = 2**31
"""Of a picture on stdin, and of a list. What of a picture is decoded has limits of its own, those of files."""
MAGIC = re.compile(r"[*?\[]")
READ_AT_ONCE = 2**20

Pictures = Annotated[
    list[str] | None,
    typer.Argument(help="Pictures, folders of pictures, patterns ('photos/**/*.jpg'), or - for one on stdin."),
]
FromList = Annotated[
    str | None, typer.Option("--from-list", metavar="FILE|-", help="Pictures by their paths, one a line; - is stdin.")
]
Null = Annotated[
    bool, typer.Option("--null", "-0", help="Paths of --from-list are parted by NUL, as `find -print0` has it.")
]


class InputError(WordmaskError):
    """Pictures that were named and are not there."""


@dataclass
class Inputs:
    """roots: of pictures that a pattern or a list names, the folder below which their results keep their place.

    called: what messages and results call a picture that lies elsewhere for a while. open: what ends with this.
    """

    open: ExitStack
    paths: list[Path] = field(default_factory=list)
    roots: dict[Path, Path] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)

    @cached_property
    def place(self) -> Path:
        """A folder for files that are here only for a while, made when there is one."""
        return Path(self.open.enter_context(tempfile.TemporaryDirectory(prefix="wordmask-")))

    def for_stdout(self, suffix: str) -> Path:
        """Return where the result of the one picture is written first, that is to go to stdout."""
        if len(self.paths) != 1 or self.paths[0].is_dir():
            raise typer.BadParameter("--out - is for one picture: give a folder as --out")
        if suffix == "png" and sys.stdout.isatty():
            raise typer.BadParameter(
                "--out - writes a PNG, which is nothing to look at here: pipe it, or --format json"
            )
        return self.place / f"masks.{suffix}"

    def name_of(self, source: str | None) -> str:
        return self.called.get(str(source), str(source))


@contextmanager
def given_pictures(arguments: Sequence[str] | None, from_list: str | None, *, null: bool) -> Iterator[Inputs]:
    """Yield what is named. What came on stdin is in a file as long as this lasts."""
    arguments = arguments or ()
    _check(arguments, from_list, null=null)
    with ExitStack() as stack:
        found = Inputs(stack)
        for argument in arguments:
            if argument == STDIN:
                place = found.place / "stdin"
                _spool(sys.stdin.buffer, place)
                found.paths.append(place)
                found.called[str(place)] = STDIN
            elif (root := root_of_pattern(argument)) is not None:
                matches = matching(argument)
                found.paths += matches
                found.roots.update(dict.fromkeys(matches, root))
            else:
                found.paths += options.paths([argument])
        if from_list is not None:
            listed = listed_in(from_list, null=null)
            found.paths += listed
            found.roots.update(dict.fromkeys((path for path in listed if not path.is_dir()), common_folder(listed)))
        yield found


def one_folder(argument: str | None, from_list: str | None, *, null: bool) -> tuple[Path, tuple[str, ...] | None]:
    """Return the folder that a command works on, and which pictures below it, if not all."""
    _check([] if argument is None else [argument], from_list, null=null)
    if argument == STDIN:
        raise typer.BadParameter("a single picture on stdin is for `wordmask segment -`; give a folder, or --from-list")
    if argument is not None and from_list is not None:
        raise typer.BadParameter("give a folder or --from-list, not both")
    if from_list is not None:
        listed = listed_in(from_list, null=null)
        folder = common_folder(listed)
    elif argument is not None and (root := root_of_pattern(argument)) is not None:
        listed, folder = matching(argument), root
    else:
        return _at(options.paths([str(argument)])[0]), None
    below = {Path(os.path.relpath(path, folder)) for path in listed}
    return folder, tuple(path.as_posix() for path in sorted(below, key=lambda path: (path.parent, path.name)))


def _at(place: Path) -> Path:
    """Return a folder, or a film, that is there: what is not is said before networks are loaded."""
    from wordmask.pictures.image_files import EXTENSIONS

    if not place.exists():
        raise InputError(f"there is no {place}: give a folder of pictures, or a pattern such as 'photos/**/*.jpg'")
    if place.suffix.lower() in EXTENSIONS and place.is_file():
        raise InputError(f"{place} is one picture: give its folder; `wordmask segment` takes single pictures")
    return place


def to_stdout(file: Path) -> None:
    with file.open("rb") as content:
        shutil.copyfileobj(content, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def root_of_pattern(argument: str) -> Path | None:
    """Return the folder that a pattern begins with; None of what is no pattern, or a file that is called so."""
    if not MAGIC.search(argument) or os.path.lexists(argument):
        return None
    options.local(Path(argument))
    parts = Path(argument).parts
    first = next(i for i, part in enumerate(parts) if MAGIC.search(part))
    if ".." in parts[first:]:
        raise InputError(f"{argument!r} goes up by .. behind its first *: write a pattern without")
    return Path(*parts[:first])


def matching(pattern: str) -> list[Path]:
    """Return the pictures that a pattern matches, sorted; ** stands for any folders."""
    from wordmask.pictures.image_files import EXTENSIONS

    found = (Path(path) for path in glob.iglob(pattern, recursive=True))  # noqa: PTH207 - no hidden ones
    pictures = sorted({path for path in found if path.suffix.lower() in EXTENSIONS and path.is_file()})
    if not pictures:
        raise InputError(f"no picture matches {pattern!r}; ** stands for any folders, as in 'photos/**/*.jpg'")
    return pictures


def listed_in(place: str, *, null: bool) -> list[Path]:
    """Return the paths of a list, in its order, each once."""
    if place == STDIN:
        content = _read(sys.stdin.buffer, "the list on stdin")
    else:
        if is_special(Path(place)):
            raise InputError(f"--from-list {place} is a pipe or a device: use --from-list - < {place}")
        try:
            with Path(place).open("rb") as file:
                content = _read(file, f"--from-list {place}")
        except OSError as error:
            raise InputError(f"--from-list {place}: cannot be read ({error.strerror or error})") from error
    if null or b"\0" not in content:
        lines = content.split(b"\0") if null else [line.removesuffix(b"\r") for line in content.split(b"\n")]
        if lines := [line for line in lines if line]:
            return options.paths(list(dict.fromkeys(map(os.fsdecode, lines))))
        raise InputError(f"--from-list {place} holds no paths")
    raise InputError(f"--from-list {place} holds NUL: say -0, if paths are parted by it")


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the folder that holds all of these."""
    places = [os.path.abspath(path.parent) for path in paths]  # noqa: PTH100 - links stay, as in the paths themselves
    return Path(os.path.commonpath(places))


def _check(arguments: Sequence[str], from_list: str | None, *, null: bool) -> None:
    if not arguments and from_list is None:
        raise typer.BadParameter("give pictures, a folder, a pattern such as 'photos/**/*.jpg', or --from-list FILE")
    if [*arguments, from_list].count(STDIN) > 1:
        raise typer.BadParameter("stdin can be read once: a picture (-) or a list (--from-list -)")
    if null and from_list is None:
        raise typer.BadParameter("-0 is for --from-list")


def _spool(stream: BinaryIO, place: Path) -> None:
    """Write what comes into a file, so that it is read as files are, with their limits."""
    size = 0
    with naming_a_full_disk(place), place.open("wb") as file:
        while content := stream.read(READ_AT_ONCE):
            size += len(content)
            _check_size(size, "the picture on stdin")
            file.write(content)
    if not size:
        raise InputError("no picture came on stdin: pipe one in, as in `wordmask segment - < photo.jpg`")


def _read(stream: BinaryIO, what: str) -> bytes:
    content = stream.read(MOST_BYTES + 1)
    _check_size(len(content), what)
    return content


def _check_size(size: int, what: str) -> None:
    if size > MOST_BYTES:
        raise InputError(f"{what} has more than {MOST_BYTES} bytes")
