"""The service's limits around the web page."""

import time

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wordmask.serving.access_log import shown_path
from wordmask.serving.label_studio import PREDICT
from wordmask.serving.proxies import as_told, client_of, sender_of
from wordmask.serving.rest import SEGMENT, SEGMENT_MANY, error_answer
from wordmask.serving.service import Service
from wordmask.serving.settings import RequestError
from wordmask.serving.visits import Visit

WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")
RECEIVING = (SEGMENT, SEGMENT_MANY, PREDICT)
"""Addresses that receive bodies themselves."""
LONGEST_VERB = 20
"""Characters of it in the log."""
ALWAYS_SENT = 64 * 2**10
"""Bytes of an answer for which there is room always."""


class Guard:
    """What comes with a request is bounded in bytes, time and number, and what it says of proxies is checked. Every
    answer is counted, the page's as the REST interface's.

    What takes pictures receives its body itself, as it looks at the key first.
    """

    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = client_of(scope, self.service.settings)
        with self.service.visit(client) as visit:
            note = _Note(scope, send, visit, self.service)
            try:
                await self._pass(scope, receive, note.send, visit)
            finally:
                note.log()

    async def _pass(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> None:
        try:
            scope = as_told(scope, self.service.settings)
            if scope["method"] not in WITHOUT_BODY and scope["path"] not in RECEIVING:
                receive = _again(bytes(await self.service.receive(Request(scope, receive))), visit)
        except RequestError as error:
            await error_answer(error)(scope, receive, send)
            return
        await self.app(scope, receive, _counted(scope, receive, send, visit))


class _Note:
    """An answer as /metrics and the access log tell of it: the one when it begins, the other when it has been taken."""

    def __init__(self, scope: Scope, send: Send, visit: Visit, service: Service):
        self._scope, self._send, self._visit, self._service = scope, send, visit, service
        self._start = time.perf_counter()
        self._status, self._bytes = None, 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._service.metrics.answered(message["status"], self._seconds, self._visit.method)
        await self._send(message)
        self._bytes += len(message.get("body", b""))

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._start

    def log(self) -> None:
        log = self._service.access_log
        if log is not None:
            log.write(
                address=sender_of(self._scope, self._service.settings),
                verb=self._scope["method"][:LONGEST_VERB],
                path=shown_path(self._scope["path"]),
                status=self._status,
                seconds=round(self._seconds, 4),
                bytes=self._bytes,
                method=self._visit.method,
                pictures=self._visit.pictures,
            )


def _counted(scope: Scope, receive: Receive, send: Send, visit: Visit) -> Send:
    """Return a `send` that counts: an answer that has begun needs no place at work, and holds its own bytes until they
    have been taken. Where there is no room for them, the answer is that.
    """
    begun: Message | None = None
    is_refused = False

    async def counted(message: Message) -> None:
        nonlocal begun, is_refused
        if message["type"] == "http.response.start":
            visit.place.close()
            begun = message  # not sent before it is known how much there is to send
            return
        size = len(message.get("body", b""))
        if begun is not None:
            more = size - visit.picture.held
            is_refused = more > ALWAYS_SENT and not visit.picture.take(more)
            if is_refused:
                busy = RequestError(503, "busy", "too many answers are on their way", retry_after=1)
                await error_answer(busy)(scope, receive, send)
            else:
                await send(begun)
            begun = None
        if not is_refused:
            visit.picture.keep(size)
            await send(message)

    return counted


def _again(body: bytes, visit: Visit) -> Receive:
    """Return a body that has been received, for those who receive it next; the visit listens for what comes after."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def once() -> Message:
        return waiting.pop() if waiting else await visit.until_gone()

    return once
