"""A request from its head to the last byte of its answer: who asks, what it holds, and what it waits for."""

import asyncio
import time
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from starlette.types import Message, Receive

from wordmask.serving.budget import Claim
from wordmask.serving.settings import RequestError

CURRENT: ContextVar["Visit"] = ContextVar("wordmask_visit")
"""Of the task, and of the threads that work for it: the page's functions are not handed the request."""


class Visit:
    """body: the bytes that have arrived. picture: the picture's, then the answer's. place: one of those at work."""

    def __init__(self, client: str, body: Claim, picture: Claim, place: Claim):
        self.client = client
        self.body, self.picture, self.place = body, picture, place
        self.method: str | None = None
        """One of the service's, once it is known; for the log and /metrics."""
        self.pictures = 0
        self.parts: list[Visit] = []
        """Of a request with several pictures, those that are at work."""
        self.ended: RequestError | None = None
        self.gone = asyncio.Event()
        self._pending: Future[Any] | None = None
        self._listener: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._token = CURRENT.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        CURRENT.reset(self._token)
        if self._listener is not None:
            self._listener.cancel()
        for claim in (self.body, self.picture, self.place):
            claim.close()

    def listen(self, receive: Receive) -> None:
        """From now on, for the client to leave: then nobody waits for the answer."""
        self._listener = asyncio.create_task(self._listen(receive))

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
        self.end(RequestError(400, "gone", "the client left before the answer was there"))

    async def until_gone(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    def end(self, why: RequestError) -> None:
        """Stop waiting."""
        self.ended = why
        for part in self.parts:
            part.end(why)
        if self._pending is not None:
            self._pending.cancel()

    def wait(self, future: "Future[Any]", deadline: float, late: RequestError) -> Any:
        """In a thread."""
        self._wait_for(future)
        try:
            return future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            raise late from error
        except CancelledError as error:
            raise self.ended or late from error
        finally:
            future.cancel()

    async def waited(self, future: "Future[Any]", deadline: float, late: RequestError) -> Any:
        """In the event loop."""
        self._wait_for(future)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise late from error
        except asyncio.CancelledError as error:
            if self.ended is None:
                raise
            raise self.ended from error

    def _wait_for(self, future: "Future[Any]") -> None:
        self._pending = future
        if self.ended is not None:
            future.cancel()
