"""`wordmask serve`: a web page and a REST service."""

import os
import tempfile
from contextlib import ExitStack
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
    try:
        import uvicorn

        from wordmask.app.server import build_app
    except ImportError as error:
        raise ServeError(f"{error.name} is not installed: pip install 'wordmask[app]'") from error
    methods = [name for name, _ in loads]
    if len(set(methods)) < len(methods):
        raise ServeError(f"two methods of one name: {', '.join(methods)}; a student is called as its file")
    with ExitStack() as stack:
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
        complain(f"serving {served} at http://{host}:{port} (REST: /docs)")
        uvicorn.run(
            app,
            host=host,
            port=port,
            log_level="warning",
            limit_concurrency=CONNECTIONS,
            h11_max_incomplete_event_size=LONGEST_HEADERS,
            timeout_graceful_shutdown=10,
            server_header=False,
        )
