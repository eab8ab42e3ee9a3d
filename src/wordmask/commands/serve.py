"""`wordmask serve`: a web page and a REST service."""

import ctypes
import gc
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from wordmask import segmenters
from wordmask.cli import complain
from wordmask.serving.settings import ServeError, ServeSettings

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""As malloc.h of glibc has them."""
LARGE_PIECES, HEAPS = 8 * 2**20, 2
"""Bytes from which on memory is the system's again as soon as it is free; heaps for smaller pieces."""


def run(*, loads: list[tuple[str, dict[str, Any]]], host: str, port: int, page: bool, settings: dict[str, Any]) -> None:
    from wordmask.serving.running import Server
    from wordmask.serving.server import build_app

    methods = [name for name, _ in loads]
    if len(set(methods)) < len(methods):
        raise ServeError(f"two methods of one name: {', '.join(methods)}; a student is called as its file")
    checked = ServeSettings(**settings)  # before networks are loaded, which may take minutes
    give_memory_back()
    with ExitStack() as stack:
        stack.enter_context(ending_properly())
        listener = stack.enter_context(bound(host, port))
        if page:
            # gradio wants a folder; nothing of what visitors send comes there.
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="wordmask-"))
            os.environ["GRADIO_TEMP_DIR"] = place
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        loaded = {name: segmenters.load(**load) for name, load in loads}
        app = build_app(loaded, checked, page=page)
        if settings["api_key"] is None and host not in ("127.0.0.1", "localhost", "::1"):
            complain(f"note: anybody who reaches {host} may use this service; WORDMASK_API_KEY asks for a key")
        served = ", ".join(f"{name} in {segmenter.precision}" for name, segmenter in loaded.items())
        with refused_in_words(host, port):
            listener.listen()
        address = f"[{host}]" if ":" in host else host
        complain(f"serving {served} at http://{address}:{listener.getsockname()[1]} (REST: /docs)")
        # What has been loaded stays: nobody's answer waits while it is looked through for garbage.
        gc.collect()
        gc.freeze()
        server = Server(app)
        server.run(sockets=[listener])
    if server.started:
        # All is answered and put away. Python would take itself apart for seconds more, or hang, as nothing interrupts
        # a network that is still at work.
        sys.stderr.flush()
        os._exit(0)


def give_memory_back() -> None:
    """See that glibc, where it is the system's library, gives what large pictures took back to the system. It would
    keep a heap for each thread, and pieces of up to 32 MB in them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_PIECES)
        mallopt(M_ARENA_MAX, HEAPS)


def bound(host: str, port: int) -> socket.socket:
    """Before anything is loaded, so that who cannot have the address need not wait to hear it."""
    from wordmask.serving.running import listener_at

    listener = listener_at(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if os.name == "posix":  # elsewhere it would share an address with another service
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with refused_in_words(host, port):
        listener.bind((host, port))
    return listener


@contextmanager
def refused_in_words(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServeError(
            f"--host {host} --port {port} cannot be listened at: {str(error.strerror or error).lower()}; "
            "choose another --port (0 takes a free one)"
        ) from error


@contextmanager
def ending_properly() -> Iterator[None]:
    """SIGTERM ends the program as Ctrl-C does, by unwinding, so that what lies in memory goes. uvicorn, too, hands a
    signal on when it has stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _: Any) -> None:
    raise SystemExit(128 + number)
