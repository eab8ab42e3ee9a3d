"""The service's limits around the web page, of which gradio has few of its own."""

from contextlib import ExitStack

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wordmask.app.proxies import as_told
from wordmask.app.reading import read_body
from wordmask.app.rest import SEGMENT, Service, error_answer
from wordmask.app.settings import RequestError

WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")
GRADIO = "/gradio_api/"
UPLOAD = f"{GRADIO}upload"
USED = (
    *("upload", "upload_progress", "run/", "file=", "heartbeat/", "startup-events"),
    *("info", "user", "login_check", "app_id", "reset", "cancel", "theme.css"),
)
"""Of gradio's addresses those that the page needs. Others fetch URLs for whoever asks, or run tools of a developer."""


class Guard:
    """Addresses that need not be open are not, and what comes with a request is bounded in bytes, time and number.

    `POST /v1/segment` keeps the same limits itself.
    """

    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = as_told(scope, self.service.settings)
        if scope["path"] == SEGMENT:
            await self.app(scope, receive, send)
            return
        with ExitStack() as held:
            try:
                _check_address(scope["path"])
                if scope["method"] not in WITHOUT_BODY:
                    held.enter_context(self.service.held())
                    body = await read_body(Request(scope, receive), self.service.settings)
                    if scope["path"].rstrip("/") == UPLOAD:
                        self.service.make_room(len(body))
                    receive = _again(body, receive)
            except RequestError as error:
                await error_answer(error)(scope, receive, send)
                return
            await self.app(scope, receive, send)


def _check_address(path: str) -> None:
    if not path.startswith(GRADIO):
        return
    rest = path.removeprefix(GRADIO)
    if not rest.startswith(USED) or (rest.startswith("file=") and ":" in rest.split("/", 1)[0]):
        raise RequestError(404, "http", "not found")


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that has been received, for those who receive it next."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def once() -> Message:
        return waiting.pop() if waiting else await receive()

    return once
