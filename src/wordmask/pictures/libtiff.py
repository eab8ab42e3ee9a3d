"""libtiff without its voice: it prints what it finds damaged straight to stderr, past Python and Pillow."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_SETTERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")
_lock = threading.Lock()
_inside = 0
_before: list[tuple[Any, int | None]] = []


@contextmanager
def silent_libtiff() -> Iterator[None]:
    """Take libtiff's handlers away for as long as any thread is inside; then they are as before.

    Where the symbols cannot be found (a Pillow that holds libtiff hidden inside itself, as on Windows), nothing is
    done, and libtiff still prints.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _before[:] = [(setter, setter(None)) for setter in _setters()]
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for setter, handler in _before:
                    setter(handler)


@cache
def _setters() -> tuple[Any, ...]:
    """Found through Pillow's own extension: whichever libtiff that is linked to, its wheel's or the system's."""
    try:
        from PIL import _imaging

        library = ctypes.CDLL(_imaging.__file__)
        setters = [getattr(library, name) for name in _SETTERS]
    except (ImportError, OSError, AttributeError):
        return ()
    for setter in setters:
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    return tuple(setters)
