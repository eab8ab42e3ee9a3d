"""Opening picture files that nobody vouches for, and finding them in a folder.

Only formats on a list are tried (Pillow would hand PostScript to an interpreter), and whatever a plugin throws comes
out as one `ImageReadError`. Nothing here touches Pillow's process-wide switches, so neither other users of Pillow in
the same process nor other threads see a difference.
"""

import io
import logging
import os
import stat
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image

from wordmask.console.notices import LeftOutWarning, notices
from wordmask.errors import WordmaskError
from wordmask.pictures.costs import CostlyPictureError, check_costs, check_exif
from wordmask.pictures.left_out import (
    HAS_HEIC,
    HEIC,
    MissingHeicError,
    heic_reader,
    is_heic,
    passed_over,
    why_not_read,
    without_ours,
)

# Raster formats with a magic number. Left out on purpose: what runs an interpreter or an outside program (EPS, WMF)
# and what has no magic number (TGA), for which any file will do.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "QOI")
"""And HEIC, whose reader is not Pillow's."""
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".tif", ".tiff", ".bmp"}
    | {".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".qoi"}
    | (HEIC if HAS_HEIC else frozenset())
)
ONE_THAT_HOLDS_SOME = "give a folder that holds some, told by their endings (.jpg, .png, ...)"
"""Behind "no pictures found": the way out."""
SIDEWAYS = frozenset({5, 6, 7, 8})
"""The EXIF orientations that swap height and width."""

_EXIF_ORIENTATION = 0x0112  # EXIF 2.32, section 4.6.4
_PREFIX_BYTES = 16  # what Pillow shows its plugins of a file
_BRANDS_BYTES = 128  # where an ISO file lists its brands; those of cameras take 24 to 52
_PNG_SIGNATURE_BYTES = 8

_logger = logging.getLogger(__name__)


class ImageReadError(WordmaskError):
    """A picture that cannot be read: `source` says which one, `reason` says why."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)  # both, so that the error can be pickled from process to process
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


def image_size(source: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """Return the (height, width) of what `read_image` would return, from the header alone."""
    name = name_of(source)
    with opened(source, name) as image:
        width, height = image.size
        # Pillow gives the size of a TIFF as it is after its rotation, of everything else as it is before.
        sideways = image.format != "TIFF" and orientation(image, name) in SIDEWAYS
    return (width, height) if sideways else (height, width)


def find_images(
    folder: str | os.PathLike[str],
    on_bad: Callable[[ImageReadError], None] | None = None,
    on_passed: Callable[[ImageReadError], None] | None = None,
) -> Iterator[Path]:
    """Every picture in a folder and the folders below it, told by its extension, in the order of sorted paths.

    Hidden files and folders are skipped, and what this package wrote: masks, overlays, sheets, folders of runs. Links
    to folders are followed, but no folder is entered twice. If `folder` itself cannot be listed, that is an error at
    once; a folder below it that cannot be is left out: it is handed to `on_bad`, or named in a warning.

    Films, pictures of kinds that are not read, and links that lead nowhere are passed over: each is handed to
    `on_passed`, or how many there were is a warning when the walk is done. A command says it at its end.
    """
    name = name_of(folder)
    entered: set[tuple[int, int]] = set()
    try:
        entries = _listing(Path(folder), entered, at_root=True)
    except FileNotFoundError as error:
        raise ImageReadError(name, "there is no such folder") from error
    except NotADirectoryError as error:
        raise ImageReadError(name, "is not a folder") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _unlisted(name, error) from error
    return _told(_walk(Path(folder), entries, entered, on_bad or warn_left_out), on_passed)


def _told(found: Iterator[Path | ImageReadError], on_passed: Callable[[ImageReadError], None] | None) -> Iterator[Path]:
    """Yield the pictures of a walk, and a word about the other files at its end."""
    counts: Counter[str] = Counter()
    for each in found:
        if isinstance(each, Path):
            yield each
            continue
        path = Path(each.source)
        counts[path.suffix.lower()] += 1
        notices.pass_over(path)
        if on_passed is not None:
            on_passed(each)
    if counts and on_passed is None and not notices.counting:
        warnings.warn(passed_over(counts), UserWarning, stacklevel=2)


def _walk(
    folder: Path,
    entries: list[os.DirEntry[str]],
    entered: set[tuple[int, int]],
    on_bad: Callable[[ImageReadError], None],
) -> Iterator[Path | ImageReadError]:
    """Pictures, and, as errors, files that only look like some."""
    for entry in entries:
        path = folder / entry.name
        try:
            # A Path takes a link that leads nowhere, or in a circle, for neither a file nor a folder; an entry raises.
            kind = path if entry.is_symlink() else entry
            below = _listing(path, entered) if kind.is_dir() else None
            is_picture = below is None and path.suffix.lower() in EXTENSIONS and kind.is_file()
            reason = None
            if below is None and not is_picture:
                reason = why_not_read(path) if kind.is_file() else _why_no_picture(path)
        except OSError as error:
            on_bad(_unlisted(str(path), error))
            continue
        if below is not None:
            yield from _walk(path, below, entered, on_bad)
        elif is_picture:
            yield path
        elif reason is not None:
            yield ImageReadError(str(path), reason)


def _why_no_picture(path: Path) -> str | None:
    """Return what is wrong with something that is called a picture and is no file, such as a link to a disk that is
    away; None for all else, pipes and devices among it.
    """
    is_broken = path.suffix.lower() in EXTENSIONS and path.is_symlink() and not path.exists()
    return "is a link that leads nowhere" if is_broken else None


def _listing(folder: Path, entered: set[tuple[int, int]], *, at_root: bool = False) -> list[os.DirEntry[str]]:
    """Return what is in a folder and not ours, sorted; nothing where it has been entered before."""
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in entered:
        return []
    entered.add(identity)
    with os.scandir(folder) as listing:
        return sorted(without_ours(folder, list(listing), at_root=at_root), key=lambda entry: entry.name)


def names_of_pictures(folder: Path) -> list[str]:
    """Of one folder, without those below it: the pictures' names, sorted, told as `find_images` tells them."""
    return [
        entry.name for entry in _listing(folder, set(), at_root=True) if Path(entry.name).suffix.lower() in EXTENSIONS
    ]


def _unlisted(name: str, error: OSError | ValueError) -> ImageReadError:
    return ImageReadError(name, f"cannot be looked into ({getattr(error, 'strerror', None) or error})")


def raise_at_once(error: ImageReadError) -> None:
    """For `on_bad`, where nothing may be left out."""
    raise error


def warn_left_out(error: ImageReadError) -> None:
    """Warn of a picture that cannot be read, where nobody asked to be told."""
    warnings.warn(f"left out: {error}", LeftOutWarning, stacklevel=3)


def name_of(source: object) -> str:
    """Return what messages call a picture: the path as given, or its kind in angle brackets, as in "<bytes>"."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    if isinstance(source, Image.Image):
        return "<PIL image>"
    kind = type(source).__name__
    return "<array>" if kind == "ndarray" else f"<{kind}>"


def first_line(error: Exception) -> str:
    """Return an error of somebody else's, short enough to stand inside a message of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def unreadable(name: str, what: str, error: Exception) -> ImageReadError:
    """Somebody else's error as ours: the operating system says what it met, all else is put down to the data."""
    if isinstance(error, OSError) and error.strerror:
        return ImageReadError(name, f"cannot be read ({error.strerror})")
    return ImageReadError(name, f"{what} corrupt or cut short ({first_line(error)})")


@contextmanager
def opened(source: object, name: str) -> Iterator[Image.Image]:
    """Yield a path or bytes as a Pillow image whose header has been read and whose pixels have not.

    What costs more than its pixels say is refused before a decoder sees it.
    """
    with _open_file(source, name) as file:
        try:
            kind, reader = _find_reader(file.read(_BRANDS_BYTES), name)
            check_costs(file, kind)
            image = reader(file, "")
            if image.format == "PNG" and "exif" not in image.info and (exif := _late_png_exif(file)):
                image.info["exif"] = exif
        except ImageReadError:
            raise
        except CostlyPictureError as error:
            raise ImageReadError(name, str(error)) from error
        except Exception as error:  # a plugin on damaged data raises whatever it likes
            raise unreadable(name, "has a header that is", error) from error
        yield image


def has_several_frames(image: Image.Image) -> bool:
    """Tell whether this is an animation or a file of pages, before it is decoded. The second pictures of photographs
    (MPO, HEIC: previews, depths, gains) do not count.
    """
    try:
        return image.format not in ("MPO", "HEIF") and bool(getattr(image, "is_animated", False))
    except Exception:  # a plugin on damaged data raises whatever it likes; what is wrong shows when it is decoded
        return False


def orientation(image: Image.Image, name: str) -> int:
    """Return the EXIF orientation, 1 to 8, without decoding; 1, which is upright, where there is none to be read."""
    try:
        check_exif(_exif_of(image))
        # Image's own method: the one of the PNG plugin would decode the picture to see what follows the pixels.
        return int(Image.Image.getexif(image).get(_EXIF_ORIENTATION, 1))
    except Exception as error:  # a plugin on damaged data raises whatever it likes
        _logger.warning("%s: its EXIF cannot be read (%s), so it is not rotated", name, first_line(error))
        return 1


def _exif_of(image: Image.Image) -> bytes:
    """Return the block of EXIF that Pillow will take apart; empty where there is none, or it has been taken apart
    already.
    """
    exif = image.info.get("exif")
    if exif is None and "Raw profile type exif" in image.info:  # ImageMagick's way to put it into a PNG
        exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return exif if isinstance(exif, bytes) else b""


def _open_file(source: object, name: str) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, str | os.PathLike):
        raise ImageReadError(name, "is not a picture; give a path, bytes, a PIL image or a numpy array")
    path = Path(os.fsdecode(source))
    try:
        kind = path.stat().st_mode
        if stat.S_ISREG(kind):
            return path.open("rb")
    except FileNotFoundError as error:
        raise ImageReadError(name, "there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ImageReadError(name, f"cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    raise ImageReadError(name, "is a folder, not a file" if stat.S_ISDIR(kind) else "is not a regular file")


def format_by_magic(content: bytes, name: str) -> str:
    """Return the format that the first bytes tell, by Pillow's name for it; an error if it is none of `FORMATS`."""
    return _find_reader(content[:_BRANDS_BYTES], name)[0]


def _find_reader(start: bytes, name: str) -> tuple[str, Callable[[IO[bytes], str | bytes], Image.Image]]:
    """Return the format of a file by its magic number, and the Pillow plugin for it.

    Plugins are taken from Pillow's registry, not called through `Image.open`, because `Image.open` applies
    `Image.MAX_IMAGE_PIXELS`: one number for the whole process, which would warn about pictures of 90 million pixels
    and refuse those of 179 million whatever our own limit allows, and which is not ours to change. (The WebP plugin
    and the one for tiled TIFF look at it themselves; then their refusal is what the error says.)
    """
    if not start:
        raise ImageReadError(name, "is empty")
    if is_heic(start):
        try:
            return "HEIF", heic_reader()
        except MissingHeicError as error:
            raise ImageReadError(name, str(error)) from error
    prefix = start[:_PREFIX_BYTES]
    Image.init()
    for kind in FORMATS:
        reader, accepts = Image.OPEN.get(kind, (None, None))
        verdict = accepts(prefix) if reader and accepts else False
        if isinstance(verdict, str):
            raise ImageReadError(name, f"this Pillow was built without {kind} ({verdict})")
        if reader and verdict:
            return kind, reader
    told = why_not_read(Path(name), look_inside=False)
    raise ImageReadError(name, told or f"is not a picture of a known format ({', '.join(FORMATS)}, HEIC)")


def _late_png_exif(file: IO[bytes]) -> bytes | None:
    """Return the EXIF block of a PNG that may keep it behind its pixels, where a header's reader does not look."""
    place = file.tell()
    file.seek(_PNG_SIGNATURE_BYTES)
    exif = None
    while exif is None and len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"eXIf":
            exif = file.read(length)
        file.seek(length + 4, io.SEEK_CUR)  # the chunk and its checksum
    file.seek(place)
    return exif
