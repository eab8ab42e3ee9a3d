"""HTTP as far as it is taken: heads of so many lines, and no chunks that are little but framing.

h11 reads line by line and chunk by chunk, in Python and on the event loop, which serves nobody else meanwhile. What is
cut into very many parts takes it a hundred times as long as the same bytes in few.
"""

import re
from typing import Any

import h11

LONGEST_HEAD, MOST_HEADERS = 64 * 2**10, 100
"""Bytes of a head, and lines of it: uvicorn's own default, and Apache's."""
FREE_CHUNKS, LEAST_CHUNK = 1000, 128
"""Of more chunks than these each must have so many bytes, on the mean: a client that sends a file line by line has."""
BLANK_LINE = re.compile(rb"\n\r?\n")


class StrictHttp(h11.Connection):
    """The other side of one connection to a client. What it does not take it calls no HTTP, as h11 does."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, LONGEST_HEAD)
        self._lines = self._chunks = self._chunk_bytes = 0
        self._last = b""

    def receive_data(self, data: bytes) -> None:
        super().receive_data(data)
        if self.their_state is h11.IDLE:
            told = self._last + data  # a blank line may have been cut in two
            end = BLANK_LINE.search(told)
            self._lines += data.count(b"\n") if end is None else told.count(b"\n", len(self._last), end.end())
            self._last = told[-2:]

    def next_event(self) -> Any:
        if self._lines > MOST_HEADERS + 2:  # with the first line and the blank one
            raise h11.RemoteProtocolError("too many headers", error_status_hint=431)
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._lines = self._chunks = self._chunk_bytes = 0
            self._last = b""
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._chunk_bytes += len(event.data)
            if self._chunks > FREE_CHUNKS + self._chunk_bytes / LEAST_CHUNK:
                raise h11.RemoteProtocolError("too many small chunks")
        # Of a request that came behind another the lines were not counted, and a body may end in headers, too.
        if isinstance(event, h11.Request | h11.EndOfMessage) and len(event.headers) > MOST_HEADERS:
            raise h11.RemoteProtocolError("too many headers", error_status_hint=431)
        return event
