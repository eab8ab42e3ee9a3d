"""What is open around the web page. gradio, which draws it, sees no more of a request than it needs for that."""

import logging
import re
from collections.abc import Sequence

from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wordmask.serving.rest import error_answer
from wordmask.serving.settings import RequestError

GRADIOS = (
    (re.compile(r"/"), ("GET", "HEAD")),
    (re.compile(r"/(assets|static)/[\w./-]{1,200}"), ("GET",)),
    (re.compile(r"/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)"), ("GET",)),
    (re.compile(r"/login"), ("POST",)),
    (re.compile(r"/logout"), ("GET",)),
)
"""Of gradio's addresses those that a browser needs for the page, and how. Pictures and questions have addresses of our
own; what is not listed fetches URLs for whoever asks, runs tools of a developer, or holds a connection open."""
ASK = "/page/ask"
SHORT = {ASK: 512 * 1024, "/login": 16 * 1024}
"""Bytes of bodies that never need as many as a picture: JSON may become large lists, a form files on disk."""
JUNK = (ValueError, TypeError, LookupError, AttributeError)
"""What gradio raises, as far as it does, when it takes a request for better than it is."""

_logger = logging.getLogger(__name__)


class PageGuard:
    """Lets through what our own routes answer and, of gradio's, what is listed; every failure is JSON."""

    def __init__(self, app: ASGIApp, own: Sequence[BaseRoute]):
        self.app, self.own = app, own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer, is_own = _Answer(send), True
        try:
            is_own = self._is_own(scope)
            if scope["path"] in SHORT and scope["method"] == "POST":
                _check_length(scope, SHORT[scope["path"]])
            if not is_own:
                _check(scope)
                scope = {**scope, "query_string": b""}  # what gradio would read of it is not used here
            await self.app(scope, receive, answer.send)
        except ClientDisconnect:
            return
        except Exception as error:
            if answer.has_begun:
                raise
            answer.failure = error if is_own else _told(error, scope)
        if answer.failure is not None:
            await error_answer(answer.failure)(scope, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        matches = [route.matches(scope)[0] for route in self.own]
        if Match.FULL in matches:
            return True
        if Match.PARTIAL in matches:
            raise RequestError(405, "http", "method not allowed")
        return False


def _check(scope: Scope) -> None:
    verbs = next((verbs for path, verbs in GRADIOS if path.fullmatch(scope["path"])), None)
    if verbs is None or ".." in scope["path"]:
        raise RequestError(404, "http", "not found")
    if scope["method"] not in verbs:
        raise RequestError(405, "http", "method not allowed")


def _check_length(scope: Scope, most: int) -> None:
    length = dict(scope["headers"]).get(b"content-length", b"")
    if not length.isdigit():
        raise RequestError(411, "http", "the header Content-Length is needed here")
    if len(length) > 9 or int(length) > most:
        raise RequestError(413, "too_large", f"{most} bytes are allowed here, and this request has more")


def _told(error: Exception, scope: Scope) -> Exception:
    """Return what to answer where gradio fails: what it did not understand is the sender's fault."""
    if not isinstance(error, JUNK):
        return error
    _logger.warning("%s %r was not understood: %s", scope["method"], scope["path"], type(error).__name__)
    return RequestError(400, "http", "not understood")


class _Answer:
    """Passes an answer on, unless it is a failure that is not JSON; that one is put into words of ours."""

    def __init__(self, send: Send):
        self._send = send
        self.has_begun = False
        self.failure: Exception | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            kind = dict(message.get("headers", ())).get(b"content-type", b"")
            if not kind.startswith(b"application/json"):
                self.failure = RequestError(message["status"], "http", "the page cannot answer this")
        if self.failure is None:
            self.has_begun = True
            await self._send(message)
