"""The service's limits around the web page."""

from contextlib import ExitStack

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wordmask.app.proxies import as_told
from wordmask.app.reading import read_body
from wordmask.app.rest import SEGMENT, Service, error_answer
from wordmask.app.settings import RequestError

WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")


class Guard:
    """What comes with a request is bounded in bytes, time and number, and what it says of proxies is checked.

    `POST /v1/segment` keeps the same limits itself.
    """

    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with ExitStack() as held:
            try:
                scope = as_told(scope, self.service.settings)
                if scope["path"] != SEGMENT and scope["method"] not in WITHOUT_BODY:
                    held.enter_context(self.service.held())
                    body = await read_body(Request(scope, receive), self.service.settings)
                    receive = _again(body, receive)
            except RequestError as error:
                await error_answer(error)(scope, receive, send)
                return
            await self.app(scope, receive, send)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that has been received, for those who receive it next."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def once() -> Message:
        return waiting.pop() if waiting else await receive()

    return once
