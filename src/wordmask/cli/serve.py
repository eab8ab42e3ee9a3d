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
from pathlib import Path
from typing import Annotated, Any

import typer

from wordmask import segmenters
from wordmask.cli import options
from wordmask.console import complain
from wordmask.segmenters import DEFAULT_METHOD

KEY = "WORDMASK_API_KEY"
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""As malloc.h of glibc has them."""
LARGE_PIECES, HEAPS = 8 * 2**20, 2
"""Bytes from which on memory is the system's again as soon as it is free; heaps for smaller pieces."""

SWITCH_SECONDS = 0.0005
"""After which a thread lets another one have Python. A small network asks for it back after each of hundreds of
operations, and would wait Python's own 5 ms each time for the thread that reads requests."""
NAMED_BY_THE_FILE = ["benchmark=null"]
"""A student of one's own is none of the paper's: only its file knows its names."""


def serve(
    method: Annotated[list[str] | None, typer.Option(help="A segmenter, by its paper; may be repeated.")] = None,
    student: Annotated[
        list[str] | None, typer.Option(help="A student's file or URL, served under its name; may be repeated.")
    ] = None,
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 is all of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    page: Annotated[bool, typer.Option(help="The web page, beside the REST service.")] = True,
    api_key: Annotated[
        str | None, typer.Option(envvar=KEY, help="What clients must say; better in the environment.")
    ] = None,
    batch_size: options.BatchSize = 8,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest request, in MiB.")] = 20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest picture.")] = 24_000_000,
    max_names: Annotated[int, typer.Option(min=1, help="Most names in one request.")] = 200,
    waiting: Annotated[int, typer.Option(min=1, help="Pictures that may wait; more are sent away.")] = 32,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.")] = 60.0,
    connections: Annotated[int, typer.Option(min=1, help="Open connections; beyond it the idlest is closed.")] = 512,
    address_share: Annotated[
        float, typer.Option(min=0.01, max=1, help="What one client may have of each limit, by its address.")
    ] = 0.5,
    stop_seconds: Annotated[
        float, typer.Option(min=0.1, help="For answers that are being made when the service is told to stop.")
    ] = 6.0,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(help="A proxy's address or network (CIDR), believed in X-Forwarded-*; may be repeated."),
    ] = None,
) -> None:
    """Serve a web page and a REST interface (its description is at /docs).

    Example: `wordmask serve --student run/student/student.safetensors`
    """
    key = _key(api_key)
    from wordmask.serving.running import Server
    from wordmask.serving.server import build_app
    from wordmask.serving.settings import ServeError, ServeSettings
    from wordmask.serving.threads import settle_threads

    methods = [options.method(own, preset, weights) for own in method or ([] if student else [DEFAULT_METHOD])]
    loads = [(own, options.segmenter(own, preset, weights, device, precision, settings)) for own in methods]
    for file in student or []:
        loads.append(
            (Path(file).stem, options.segmenter("namedmask", "paper", file, device, precision, NAMED_BY_THE_FILE))
        )
    served = [name for name, _ in loads]
    if len(set(served)) < len(served):
        raise ServeError(f"two methods of one name: {', '.join(served)}; a student is called as its file")
    checked = ServeSettings(  # before networks are loaded, which may take minutes
        api_key=key,
        batch_size=batch_size,
        max_bytes=max_mb * 2**20,
        max_pixels=max_pixels,
        max_names=max_names,
        waiting=waiting,
        answer_seconds=timeout,
        connections=connections,
        address_share=address_share,
        stop_seconds=stop_seconds,
        trusted_proxies=tuple(trusted_proxy or ()),
    )
    _give_memory_back()
    with ExitStack() as stack:
        stack.enter_context(_ending_properly())
        listener = stack.enter_context(_bound(host, port))
        if page:
            # gradio wants a folder; nothing of what visitors send comes there.
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="wordmask-"))
            os.environ["GRADIO_TEMP_DIR"] = place
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        loaded = {name: segmenters.load(**load) for name, load in loads}
        settle_threads(loaded.values())
        sys.setswitchinterval(SWITCH_SECONDS)
        app = build_app(loaded, checked, page=page)
        if key is None and host not in ("127.0.0.1", "localhost", "::1"):
            complain(f"note: anybody who reaches {host} may use this service; WORDMASK_API_KEY asks for a key")
        told = ", ".join(f"{name} in {segmenter.precision}" for name, segmenter in loaded.items())
        with _refused_in_words(host, port):
            listener.listen()
        address = f"[{host}]" if ":" in host else host
        complain(f"serving {told} at http://{address}:{listener.getsockname()[1]} (REST: /docs)")
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


def _key(given: str | None) -> str | None:
    """Refuse an empty key: it would leave the service open to all, though somebody meant to close it."""
    if given is None:
        given = os.environ.get(KEY)  # typer takes one that is empty for none
    if given is not None and not given.strip():
        raise typer.BadParameter(
            f"the key of --api-key or {KEY} is empty (perhaps a variable that is not set?): give one, or leave both "
            "out for a service without a key"
        )
    return given


def _give_memory_back() -> None:
    """See that glibc, where it is the system's library, gives what large pictures took back to the system. It would
    keep a heap for each thread, and pieces of up to 32 MB in them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_PIECES)
        mallopt(M_ARENA_MAX, HEAPS)


def _bound(host: str, port: int) -> socket.socket:
    """Before anything is loaded, so that who cannot have the address need not wait to hear it."""
    from wordmask.serving.running import listener_at

    listener = listener_at(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if os.name == "posix":  # elsewhere it would share an address with another service
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with _refused_in_words(host, port):
        listener.bind((host, port))
    return listener


@contextmanager
def _refused_in_words(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        from wordmask.serving.settings import ServeError

        raise ServeError(
            f"--host {host} --port {port} cannot be listened at: {str(error.strerror or error).lower()}; "
            "choose another --port (0 takes a free one)"
        ) from error


@contextmanager
def _ending_properly() -> Iterator[None]:
    """SIGTERM ends the program as Ctrl-C does, by unwinding, so that what lies in memory goes. uvicorn, too, hands a
    signal on when it has stopped.
    """
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
