"""Connections to clients: how many are open, how long one may idle, and how slowly a client may send or read.

uvicorn's own protocol over h11, with what it leaves open: it lets a sender take for ever over the head of a request,
keeps any number of idle connections, and an answer whose reader is slow in memory as a whole.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import h11
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from wordmask.serving.budget import Budget
from wordmask.serving.pace import Pace
from wordmask.serving.proxies import client_of, is_trusted
from wordmask.serving.settings import ServeSettings
from wordmask.serving.strict_http import StrictHttp

CHUNK = 64 * 2**10
"""Bytes of an answer that are handed to the system at a time: what a reader has not taken is counted until then."""
LOOK_EVERY = 0.5
"""Seconds between two looks at all connections for those whose time is over."""
IS_SLOW = 1.0
"""Seconds that an answer may be on its way before others that wait for its room count more."""
BRISK = 32
"""Times the least rate: who reads as fast is not in the way, however much waits."""
LINGER = 2.0
"""Seconds for the rest of a body that has been answered before its end, so that its sender gets to read the answer."""
LAST_REQUEST = 0.3
"""Seconds for a request that was on its way when the service was told to stop."""
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b'content-length: 68\r\n\r\n{"error":{"code":"busy","reason":"too many connections are in use"}}'
)


class Connections:
    """All that are open. Beyond their number the one that has been idle longest makes room."""

    def __init__(self, settings: ServeSettings, pictures: Budget):
        self.settings, self._pictures = settings, pictures
        self.is_stopping = False
        self.ended: Counter[str] = Counter()
        """Those that the service ended, by why."""
        self._open: set[Connection] = set()
        self._number: Counter[str] = Counter()  # of each client
        self._look: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, new: "Connection") -> bool:
        settings = self.settings
        has_its_share = not new.is_proxy and self._number[new.address] >= settings.of_one(settings.connections)
        if has_its_share or len(self._open) >= settings.connections:
            idle = [c for c in self._open if c.is_idle and (c.address == new.address or not has_its_share)]
            if not idle:
                return False
            # Of all, one of a client that has many: so those of others stay.
            most = 0 if has_its_share else max(self._number[c.address] for c in idle)
            longest = min((c for c in idle if self._number[c.address] >= most), key=lambda c: c.idle_since)
            longest.end("room")
        self._open.add(new)
        self._number[new.address] += 1
        if self._look is None:
            self._look = new.loop.call_later(LOOK_EVERY, self._look_at_all, new.loop)
        return True

    def forget(self, gone: "Connection") -> None:
        if gone in self._open:
            self._open.discard(gone)
            self._number[gone.address] -= 1
            if not self._number[gone.address]:
                del self._number[gone.address]

    def end_all(self) -> None:
        for connection in list(self._open):
            connection.end("stopping")

    def _look_at_all(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            connection.look(now)
        client = self._pictures.who_is_in_the_way()
        brisk = BRISK * self.settings.slowest_rate
        sending = {c: c.sending for c in self._open if c.sending is not None and c.sending.client == client}
        slow = {c: s.rate(now) for c, s in sending.items() if now - s.since > IS_SLOW and s.rate(now) < brisk}
        for connection in sorted(slow, key=slow.__getitem__)[: (len(slow) + 1) // 2]:
            connection.end("slow_reader")
        self._look = loop.call_later(LOOK_EVERY, self._look_at_all, loop) if self._open else None


@dataclass
class Sending:
    """An answer on its way to its reader."""

    client: str
    since: float
    taken: int = 0

    def rate(self, now: float) -> float:
        return self.taken / (now - self.since)


class Connection(H11Protocol):
    """One connection, and its requests one after the other."""

    def __init__(self, connections: Connections, **own: Any):
        super().__init__(**own)
        self.conn = StrictHttp()
        self._all, self._settings = connections, connections.settings
        self._answer = self.app
        self.app = self._asked
        self.address, self.is_proxy = "", False
        self._is_refused = self._has_begun_head = False
        self.idle_since = self._progress = self.loop.time()
        self._unsent = 0
        self.sending: Sending | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = client_of({"client": self.client, "headers": []}, self._settings)
        self.is_proxy = is_trusted(self.client[0] if self.client else "", self._settings)
        if not self._all.admit(self):
            self._is_refused = True
            self._all.ended["busy"] += 1
            transport.write(BUSY)
            self.loop.call_later(1, transport.abort)  # not before the answer is read, or it would be lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self.is_idle and not self._has_begun_head:
            self._has_begun_head, self.idle_since = True, self.loop.time()
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, which may come when an answer has begun already."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        if not self.is_idle:  # whoever makes the answer is not to send it after this one
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        self._has_begun_head, self.idle_since = False, self.loop.time()
        super().on_response_complete()
        if self._all.is_stopping and self.is_idle and not self.transport.is_closing():
            self.transport.close()

    @property
    def is_idle(self) -> bool:
        """No request is being received or answered, but for a head that has not come to its end."""
        return self.cycle is None or self.cycle.response_complete

    def shutdown(self) -> None:
        """uvicorn's way of saying that the service is to stop."""
        if self.is_idle:
            self.loop.call_later(LAST_REQUEST, self._shutdown_if_idle)
        else:
            super().shutdown()

    def _shutdown_if_idle(self) -> None:
        if self.is_idle and not self.transport.is_closing():
            super().shutdown()

    def look(self, now: float) -> None:
        """End the connection if its time is over."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent or not unsent:
            self._unsent, self._progress = unsent, now
        if now - self._progress > self._settings.stall_seconds:
            self.end("slow_reader")
        elif not self.is_idle or self._is_refused:
            pass  # whoever answers looks at the time
        elif self.conn.their_state is h11.SEND_BODY:
            if now - self.idle_since > LINGER:
                self.end("slow_body")
        elif self._has_begun_head:
            if now - self.idle_since > self._settings.header_seconds:
                self.end("slow_head")
        elif now - self.idle_since > self._settings.idle_seconds:
            self.end("idle")

    def end(self, why: str) -> None:
        self._all.ended[why] += 1
        self._all.forget(self)
        self.transport.abort()

    async def _asked(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = client_of(scope, self._settings)

        async def paced(message: Message) -> None:
            if message["type"] == "http.response.body":
                await self._send_body(message, send, client)
                return
            if message["type"] == "http.response.start" and self._all.is_stopping:
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            await send(message)

        await self._answer(scope, receive, paced)

    async def _send_body(self, message: Message, send: Send, client: str) -> None:
        """Send a large answer in parts, each when the one before it has been taken."""
        body, more = memoryview(message.get("body", b"")), message.get("more_body", False)
        now = self.loop.time()
        end, pace = (
            now + self._settings.body_seconds,
            Pace(self._settings.slowest_rate, self._settings.stall_seconds, now),
        )
        self.sending = Sending(client, now)
        try:
            async with asyncio.timeout_at(min(end, pace.due)) as clock:
                for start in range(0, max(1, len(body)), CHUNK):
                    part, rest = bytes(body[start : start + CHUNK]), body[start + CHUNK :]
                    await send({"type": "http.response.body", "body": part, "more_body": more or bool(rest)})
                    self.sending.taken += len(part)
                    clock.reschedule(min(end, pace.moved(len(part), self.loop.time())))
                await self.flow.drain()
        except TimeoutError:
            self.cycle.disconnected = True
            self.end("slow_reader")
        finally:
            self.sending = None
