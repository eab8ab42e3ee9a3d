"""uvicorn around the application: its connections, and how it stops."""

import asyncio
import socket
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from wordmask.serving.connections import Connection, Connections
from wordmask.serving.service import Service

BACKLOG = 128
"""Connections that the system keeps until they are accepted; asyncio accepts so many before it looks at the first."""
KERNEL_BYTES = 256 * 2**10
"""That the system keeps for a connection each way. Left alone it keeps up to several MB for each slow client."""
LAST_WORDS = 1.0
"""Seconds for the answers of those who have been told that the service stops."""


class Server(uvicorn.Server):
    """Stops within `stop_seconds` and a little more; what has arrived is answered until then."""

    def __init__(self, app: FastAPI):
        service: Service = app.state.service
        self.service, self.connections = service, Connections(service.settings, service.pictures)
        service.metrics.gauges["wordmask_connections"] = lambda: len(self.connections)
        service.metrics.counts["wordmask_connections_ended_total"] = self.connections.ended
        stop = service.settings.stop_seconds
        config = uvicorn.Config(
            app,
            http=partial(Connection, self.connections),  # type: ignore[arg-type]
            ws="none",
            log_level="error",  # of each request that is no HTTP uvicorn has a warning to tell
            access_log=False,
            backlog=BACKLOG,
            timeout_keep_alive=max(1, round(service.settings.idle_seconds)),
            timeout_graceful_shutdown=round(stop + 2 * LAST_WORDS),
            server_header=False,
            proxy_headers=False,  # uvicorn believes every process of this machine; the guard, those that are named
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not handed on when all is done, as uvicorn does: to stop when told is no failure."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop, seconds = asyncio.get_running_loop(), self.service.settings.stop_seconds
        self.connections.is_stopping = True
        self.service.stop()
        loop.call_later(seconds, self.service.give_up)
        loop.call_later(seconds + LAST_WORDS, self.connections.end_all)
        await super().shutdown(sockets)


def listener_at(family: socket.AddressFamily) -> socket.socket:
    """Of TCP by name: asyncio sends what is small without delay only where a socket says so, and else an answer on a
    connection that is used again waits for the client's next word, 40 ms and more.
    """
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    for kind in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        listener.setsockopt(socket.SOL_SOCKET, kind, KERNEL_BYTES)
    return listener
