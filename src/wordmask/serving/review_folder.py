"""A folder of labels that is reviewed through a service: what may be read of it, and the one file that is written."""

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from filelock import FileLock, Timeout

from wordmask.corrections import FILE_NAME, Correction, Corrections, read_corrections, write_corrections
from wordmask.labelling.review import COPIES, DATA, INDEX, SHOWN, masks_file, read_script
from wordmask.runs.claim import STATE
from wordmask.serving.settings import RequestError, ServeError

LOCK = "review.lock"
NOT_FOUND = RequestError(404, "http", "not found")


class ReviewFolder:
    """One service at a time reviews a folder. `wordmask label` may run there meanwhile: it reads what is written."""

    def __init__(self, folder: Path):
        self.folder = folder
        if not (folder / DATA / INDEX).is_file():
            raise ServeError(f"--review {folder} holds no review: give the --out of `wordmask label`")
        (folder / STATE).mkdir(exist_ok=True)
        self._lock = FileLock(folder / STATE / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ServeError(f"--review {folder} is being reviewed through another service: stop that one") from error
        self._writing = threading.Lock()
        self._known: tuple[Any, dict[str, Any]] | None = None
        self._read: tuple[Any, Corrections] | None = None
        self.corrections()  # what is wrong with the file is said before anybody comes
        self.index()

    def close(self) -> None:
        self._lock.release()

    @property
    def title(self) -> str:
        return str(self.index()["title"])

    def index(self) -> dict[str, Any]:
        """Return what `wordmask label` told of the pictures last."""
        path = self.folder / DATA / INDEX
        stamp = _stamp(path)
        if self._known is None or self._known[0] != stamp:
            try:
                told = read_script(path, "index")
                told["by_path"] = {os.fsencode(line[0]): line for line in told["pictures"]}
                told["by_fingerprint"] = {line[2]: (number, line) for number, line in enumerate(told["pictures"])}
            except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
                raise ServeError(f"{path} is damaged: run `wordmask label` again") from error
            self._known = stamp, told
        return self._known[1]

    def corrections(self) -> Corrections:
        """Return what is in the file now, whoever wrote it."""
        path = self.folder / FILE_NAME
        stamp = _stamp(path)
        if self._read is None or self._read[0] != stamp:
            self._read = stamp, Corrections() if stamp is None else read_corrections(path)
        return self._read[1]

    def index_script(self) -> str:
        """Return `index.js` with the verdicts of now."""
        index = self.index()
        told = {key: value for key, value in index.items() if key not in ("by_path", "by_fingerprint")}
        told["verdicts"], told["elsewhere"] = self._verdicts(index), []
        return f"wordmaskReview.index({json.dumps(told)});\n"

    def _verdicts(self, index: dict[str, Any]) -> dict[str, Any]:
        """Return verdicts as the page has them, by the masks' places, of pictures all of whose masks it has."""
        verdicts, chunks = {}, {}
        for each in self.corrections():
            number, _ = index["by_fingerprint"].get(each.fingerprint, (None, None))
            if number is None:
                continue
            at = number // index["together"]
            if at not in chunks:
                chunks[at] = read_script(self.folder / DATA / masks_file(at), "masks")
            _, counts = chunks[at][number % index["together"]]
            said = {mask.counts: mask for mask in each.masks}
            if not said.keys() <= set(counts):
                continue  # mended elsewhere since the labels were made
            own = [said.get(code) for code in counts]
            verdicts[each.fingerprint] = {
                "v": each.verdict,
                "m": [[None, None] if m is None else [m.verdict, m.name if m.was else None] for m in own],
            }
        return verdicts

    def _counts(self, index: dict[str, Any], number: int) -> list[str]:
        """Return the run lengths of a picture's masks, as the page has them."""
        try:
            chunk = read_script(self.folder / DATA / masks_file(number // index["together"]), "masks")
            _, counts = chunk[number % index["together"]]
        except (OSError, ValueError, IndexError) as error:
            raise RequestError(409, "masks", "the labels are being made anew: load the page again") from error
        return list(counts)

    def masks_script(self, number: int) -> str:
        path = self.folder / DATA / masks_file(number)
        try:
            return f"wordmaskReview.masks({number}, {json.dumps(read_script(path, 'masks'))});\n"
        except (OSError, ValueError) as error:
            raise NOT_FOUND from error

    def copy(self, name: str) -> Path:
        """Return a small copy of a picture that browsers do not show."""
        path = self.folder / DATA / COPIES / name
        if not any(line[1] == f"{DATA}/{COPIES}/{name}" for line in self.index()["pictures"]) or not path.is_file():
            raise NOT_FOUND
        return path

    def picture(self, below: bytes) -> Path:
        """Return a picture of the review by its path, and nothing else that lies there."""
        index = self.index()
        if below not in index["by_path"]:
            raise NOT_FOUND
        root = (self.folder / os.fsdecode(unquote_to_bytes(index["folder"]))).resolve()
        path = root / os.fsdecode(below)
        try:
            inside = path.resolve().is_relative_to(root) and path.is_file() and path.suffix.lower() in SHOWN
        except (OSError, ValueError) as error:
            raise NOT_FOUND from error
        if not inside:
            raise NOT_FOUND
        return path

    def put(self, fingerprint: str, told: Any) -> None:
        """Keep what a person says of a picture now, in the place of what was said before."""
        try:
            correction = Correction.from_json(told)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RequestError(400, "correction", f"this is no correction: {error}") from error
        index = self.index()
        number, line = index["by_fingerprint"].get(fingerprint, (None, None))
        if line is None or correction.fingerprint != fingerprint:
            raise RequestError(404, "picture", "no picture of this review has this fingerprint")
        if correction.picture != line[0] or list(correction.size) != line[3:5]:
            raise RequestError(409, "picture", "the picture is another now: load the page again")
        shown = self._counts(index, number)
        if [mask.counts for mask in correction.masks] != shown:
            raise RequestError(409, "masks", "its masks are others now: load the page again")
        with self._writing:
            before = self.corrections().by_fingerprint.get(fingerprint)
            if before is not None and not {mask.counts for mask in before.masks} <= {*shown}:
                raise RequestError(
                    409, "masks", "it was mended elsewhere: run `wordmask label`, and load the page again"
                )
            kept: Iterable[Correction] = (each for each in self.corrections() if each.fingerprint != fingerprint)
            together = Corrections((*kept, correction))
            write_corrections(self.folder / FILE_NAME, together)
            self._read = _stamp(self.folder / FILE_NAME), together


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
