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
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from wordmask import segmenters
from wordmask.cli import options
from wordmask.console import complain, show
from wordmask.segmenters import DEFAULT_METHOD

if TYPE_CHECKING:
    from wordmask.serving.access_log import AccessLog
    from wordmask.serving.config import ServeConfig

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
    preset: Annotated[str | None, typer.Option(help=f"{options.PRESETS} [paper]")] = None,
    weights: options.Weights = None,
    settings: options.Settings = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. [auto]")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16, int8, or auto: the fastest here. [auto]")] = None,
    contrast: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file of `wordmask contrast build`: what few names race against where a request says nothing of it.",
            callback=options.local,
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The address to listen at; 0.0.0.0 is all of this machine's. [127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one. [8000]")] = None,
    page: Annotated[
        bool | None, typer.Option("--page/--no-page", help="The web page, beside the REST service. [page]")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar=KEY, help="What clients must say; better in the environment.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures that are looked at together. [8]")] = None,
    max_mb: Annotated[int | None, typer.Option(min=1, help="Largest request, in MiB. [20]")] = None,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Largest picture. [24000000]")] = None,
    max_names: Annotated[int | None, typer.Option(min=1, help="Most names in one request. [200]")] = None,
    waiting: Annotated[int | None, typer.Option(min=1, help="Pictures that may wait; more are sent away. [32]")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds for an answer. [60]")] = None,
    connections: Annotated[
        int | None, typer.Option(min=1, help="Open connections; beyond it the idlest is closed. [512]")
    ] = None,
    address_share: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="What one client may have of each limit, by its address. [0.5]"),
    ] = None,
    stop_seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="For answers that are being made when the service is told to stop. [6]"),
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(
            help="Labels of `label` that are reviewed at /review/; alone, without --method, if none is named.",
            callback=options.local,
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(help="A proxy's address or network (CIDR), believed in X-Forwarded-*; may be repeated."),
    ] = None,
    access_log: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="A line of JSON for each answer; - is standard output.")
    ] = None,
    label_studio: Annotated[
        bool, typer.Option("--label-studio", help="Also speak the protocol of Label Studio's ML backends.")
    ] = False,
    label_studio_host: Annotated[
        str | None,
        typer.Option(help="With it: the Label Studio that pictures may be fetched from, as http://HOST:8080."),
    ] = None,
    label_studio_files: Annotated[
        Path | None,
        typer.Option(help="With it: the folder that holds Label Studio's pictures.", callback=options.local),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file of settings; options go before it.", callback=options.local)
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings as a file for --config, and end.")
    ] = False,
) -> None:
    """Serve a web page and a REST interface (its description is at /docs).

    Example: `wordmask serve --student run/student/student.safetensors`

    Example: `wordmask serve --review labels`
    """
    key = _key(api_key)
    from wordmask.serving.config import read_config

    limits = {
        "api_key": key,
        "batch_size": batch_size,
        "max_bytes": None if max_mb is None else max_mb * 2**20,
        "max_pixels": max_pixels,
        "max_names": max_names,
        "waiting": waiting,
        "answer_seconds": timeout,
        "connections": connections,
        "address_share": address_share,
        "stop_seconds": stop_seconds,
        "trusted_proxies": tuple(trusted_proxy) if trusted_proxy else None,
    }
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "page": page,
        "methods": method,
        "students": student,
        "preset": preset,
        "device": device,
        "precision": precision,
        "contrast": None if contrast is None else str(contrast),
        "access_log": access_log,
        "review": None if review is None else str(review),
    }
    hosted = {"host": label_studio_host, "files": label_studio_files}
    if label_studio or any(hosted.values()):
        given["label_studio"] = {name: str(own) for name, own in hosted.items() if own is not None}
    if (method or student) and config is not None:  # who names some means these and no others
        given |= {"methods": method or [], "students": student or []}
    wanted = read_config(config, given, limits)
    if print_config:
        show(yaml.safe_dump(wanted.shown(), sort_keys=False).rstrip())
        if key is not None:
            complain("note: the key is not shown; leave it in WORDMASK_API_KEY")
        return
    before = {"preset": preset, "weights": weights, "device": device, "precision": precision}
    _serve(wanted, _loads(wanted, before, settings))


def _loads(
    wanted: "ServeConfig", before: dict[str, str | None], settings: list[str] | None
) -> dict[str, dict[str, Any]]:
    """Return for each name of a method the arguments of `wordmask.load`.

    before: what was said on the command line, which goes before what a file says of a method.
    """
    from wordmask.serving.config import Method
    from wordmask.serving.settings import ServeError

    loads: list[tuple[str, dict[str, Any]]] = []
    for asked in wanted.methods or ([] if wanted.students or wanted.review else [DEFAULT_METHOD]):
        own = asked if isinstance(asked, Method) else Method(method=asked)
        preset = before["preset"] or own.preset or wanted.preset
        file = before["weights"] or own.weights
        device = before["device"] or own.device or wanted.device
        precision = before["precision"] or own.precision or wanted.precision
        name = options.method(own.method, preset, file)
        loads.append((name, own.set | options.segmenter(name, preset, file, device, precision, settings)))
    for student in wanted.students:
        found = options.segmenter("namedmask", "paper", student, wanted.device, wanted.precision, NAMED_BY_THE_FILE)
        loads.append((Path(student).stem, found))
    served = [name for name, _ in loads]
    if len(set(served)) < len(served):
        raise ServeError(f"two methods of one name: {', '.join(served)}; a student is called as its file")
    return dict(loads)


def _serve(wanted: "ServeConfig", loads: dict[str, dict[str, Any]]) -> None:
    from wordmask.names.contrast import read_concepts
    from wordmask.serving.access_log import AccessLog
    from wordmask.serving.review_folder import ReviewFolder
    from wordmask.serving.running import Server
    from wordmask.serving.server import build_app
    from wordmask.serving.threads import settle_threads

    host, port = wanted.host, wanted.port
    concepts = None if wanted.contrast is None else read_concepts(wanted.contrast)
    _give_memory_back()
    with ExitStack() as stack:
        stack.enter_context(_ending_properly())
        listener = stack.enter_context(_bound(host, port))
        log = reviewed = None
        if wanted.access_log is not None:
            log = AccessLog(wanted.access_log)
            stack.callback(log.close)
            stack.enter_context(_reopening(log))
        if wanted.review is not None:
            reviewed = ReviewFolder(Path(wanted.review))
            stack.callback(reviewed.close)
        page = wanted.page and bool(loads)
        if page:
            # gradio wants a folder; nothing of what visitors send comes there.
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="wordmask-"))
            os.environ["GRADIO_TEMP_DIR"] = place
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        loaded = {name: segmenters.load(**load) for name, load in loads.items()}
        for segmenter in loaded.values():
            segmenter.given_concepts = concepts
        settle_threads(loaded.values())
        sys.setswitchinterval(SWITCH_SECONDS)
        app = build_app(
            loaded, wanted.settings, page=page, access_log=log, label_studio=wanted.label_studio, review=reviewed
        )
        if wanted.settings.api_key is None and host not in ("127.0.0.1", "localhost", "::1"):
            complain(f"note: anybody who reaches {host} may use this service; WORDMASK_API_KEY asks for a key")
        served = [f"{name} in {segmenter.precision}" for name, segmenter in loaded.items()]
        told = ", ".join([*served, *([] if reviewed is None else [f"the review of {reviewed.folder} (/review/)"])])
        with _refused_in_words(host, port):
            listener.listen()
        address = f"[{host}]" if ":" in host else host
        complain(f"serving {told} at http://{address}:{listener.getsockname()[1]}{' (REST: /docs)' if loaded else ''}")
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
def _reopening(log: "AccessLog") -> Iterator[None]:
    """SIGHUP begins the access log anew, as those expect who move it away; without a log it ends the service."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda number, frame: log.reopen())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


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
