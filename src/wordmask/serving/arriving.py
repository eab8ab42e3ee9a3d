"""Bodies of requests while they arrive.

A body takes no place from the work until it is whole. Those on their way are bounded in number and in bytes; where
there is no room for another, the one that is furthest behind the pace makes room.
"""

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect

from wordmask.serving.budget import Budget, Claim
from wordmask.serving.pace import Pace
from wordmask.serving.settings import RequestError, ServeSettings
from wordmask.text_files import counted

BEHIND = 0.1
"""Seconds of its pace that a body must have lost before it is given up for another."""


class Arrivals:
    def __init__(self, settings: ServeSettings):
        self._settings = settings
        self.bytes = Budget(settings.most_body_bytes, settings.most_body_bytes_of_one)
        self._places = Budget(settings.arriving, settings.of_one(settings.arriving))
        self._open: set[_Arrival] = set()
        self._stopping: RequestError | None = None

    def __len__(self) -> int:
        return len(self._open)

    async def read(self, request: Request, client: str, held: Claim) -> bytearray:
        """Return the whole body; `held`, a claim on `bytes`, grows with it."""
        arrival = _Arrival(client, held, self._settings)
        with self._places.claim(client) as place:
            while not place.take(1):
                self._make_room(arrival, self._places, 1)
            arrival.place = place
            self._open.add(arrival)
            try:
                return await self._read(request, arrival)
            finally:
                self._open.discard(arrival)

    async def _read(self, request: Request, arrival: "_Arrival") -> bytearray:
        """Receive a body. One that is too large, or says that it will be, is forgotten as it comes, up to four times
        the limit, so that its sender gets to read the answer.
        """
        limit, body, received = self._settings.max_bytes, bytearray(), 0
        too_large = RequestError(413, "too_large", f"a request may have {limit} bytes, and this one has more")
        promised = int(request.headers.get("content-length", 0))  # a number, as it has been read by already
        if self._stopping is not None:
            raise self._stopping
        if promised > 4 * limit:
            raise too_large
        try:
            async with asyncio.timeout_at(arrival.due) as arrival.clock:
                async for chunk in request.stream():
                    received += len(chunk)
                    arrival.moved(len(chunk))
                    if arrival.is_given_up:
                        raise arrival.why()
                    if max(received, promised) <= limit:
                        while not arrival.held.take(len(chunk)):
                            self._make_room(arrival, self.bytes, len(chunk))
                        body += chunk
                    elif received > 4 * limit:
                        break
                    else:
                        body.clear()
                        arrival.held.keep(0)
        except TimeoutError as error:
            raise arrival.why() from error
        except ClientDisconnect as error:
            raise RequestError(400, "gone", "the request broke off") from error
        if received > limit:
            raise too_large
        return body

    def stop(self, why: RequestError) -> None:
        """Wait no longer for what has not arrived."""
        self._stopping = why
        for arrival in self._open:
            arrival.give_up(why)

    def _make_room(self, newcomer: "_Arrival", budget: Budget, more: int) -> None:
        """Give up the body that lags most, of this client if it has its share already; if none does, the newcomer."""
        now = asyncio.get_running_loop().time()
        has_its_share = budget.held_by(newcomer.client) + more > budget.most_of_one
        lagging = [
            arrival
            for arrival in self._open
            if arrival.lost(now) > BEHIND
            and (arrival.client == newcomer.client or not has_its_share)
            and (arrival.held.held or budget is not self.bytes)
            and arrival is not newcomer
            and not arrival.is_given_up
        ]
        if not lagging:
            raise RequestError(503, "busy", "too much is being received", retry_after=1)
        max(lagging, key=lambda arrival: arrival.lost(now)).give_up(
            RequestError(503, "busy", "others needed the room of this slow request", retry_after=1)
        )


class _Arrival:
    """One body on its way."""

    clock: asyncio.Timeout
    place: Claim

    def __init__(self, client: str, held: Claim, settings: ServeSettings):
        self.client, self.held, self._settings = client, held, settings
        now = asyncio.get_running_loop().time()
        self._end = now + settings.body_seconds
        self._pace = Pace(settings.slowest_rate, settings.stall_seconds, now)
        self._why: RequestError | None = None

    @property
    def due(self) -> float:
        return min(self._end, self._pace.due)

    def moved(self, nbytes: int) -> None:
        self._pace.moved(nbytes, asyncio.get_running_loop().time())
        if not (self.clock.expired() or self.is_given_up):
            self.clock.reschedule(self.due)

    def lost(self, now: float) -> float:
        """Seconds of its pace."""
        return now + self._settings.stall_seconds - self._pace.due

    @property
    def is_given_up(self) -> bool:
        return self._why is not None

    def give_up(self, why: RequestError) -> None:
        """At once for those who count; its reader hears of it next."""
        self._why = why
        if not self.clock.expired():
            self.clock.reschedule(0.0)
        self.place.close()
        self.held.close()

    def why(self) -> RequestError:
        if self._why is not None:
            return self._why
        if self._pace.due < self._end:
            return RequestError(408, "slow", f"it came at less than {self._settings.slowest_rate} bytes a second")
        seconds = counted(self._settings.body_seconds, "second", style="g")
        return RequestError(408, "slow", f"the request did not arrive within {seconds}")
