"""`wordmask serve`: a web page and a REST service."""

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from wordmask import segmenters
from wordmask.app.settings import ServeError, ServeSettings
from wordmask.cli import complain

IN_MEMORY = Path("/dev/shm")
"""Where there is one, a folder that lies in memory."""
LONGEST_HEADERS = 64 * 1024
"""Bytes; uvicorn's own default, stated because a limit is meant."""
CONNECTIONS = 256


def run(*, loads: list[tuple[str, dict[str, Any]]], host: str, port: int, page: bool, settings: dict[str, Any]) -> None:
    import uvicorn

    from wordmask.app.server import build_app

    methods = [name for name, _ in loads]
    if len(set(methods)) < len(methods):
        raise ServeError(f"two methods of one name: {', '.join(methods)}; a student is called as its file")
    with ExitStack() as stack:
        stack.enter_context(ending_properly())
        listener = stack.enter_context(bound(host, port))
        if page:
            # gradio puts uploads into files: in memory where that can be, and gone when the service ends.
            place = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="wordmask-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
            )
            os.environ["GRADIO_TEMP_DIR"] = place
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        loaded = {name: segmenters.load(**load) for name, load in loads}
        app = build_app(loaded, ServeSettings(**settings), page=page)
        if settings["api_key"] is None and host not in ("127.0.0.1", "localhost", "::1"):
            complain(f"note: anybody who reaches {host} may use this service; WORDMASK_API_KEY asks for a key")
        served = ", ".join(f"{name} in {segmenter.precision}" for name, segmenter in loaded.items())
        with refused_in_words(host, port):
            listener.listen()
        address = f"[{host}]" if ":" in host else host
        complain(f"serving {served} at http://{address}:{listener.getsockname()[1]} (REST: /docs)")
        config = uvicorn.Config(
            app,
            log_level="warning",
            limit_concurrency=CONNECTIONS,
            h11_max_incomplete_event_size=LONGEST_HEADERS,
            timeout_graceful_shutdown=10,
            server_header=False,
        )
        uvicorn.Server(config).run(sockets=[listener])


def bound(host: str, port: int) -> socket.socket:
    """Before anything is loaded, so that who cannot have the address need not wait to hear it."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
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
