"""A service over a real socket, in a thread of the test."""

import io
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
from PIL import Image

from support.painted import NAMES, Painted
from wordmask.serving import ServeSettings, build_app
from wordmask.serving.running import Server, listener_at


def until(true, seconds=10):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Live:
    def __init__(self, server, port, closing):
        self.server, self.port, self._closing = server, port, closing
        self.service, self.connections = server.service, server.connections

    def line(self, sent=b"", address="127.0.0.1"):
        """A connection of a client that lives at `address`; all of 127.0.0.0/8 is this machine."""
        line = socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(address, 0))
        line.sendall(sent)
        return self._closing.enter_context(line)

    def slow_reader(self, sent):
        """A line that takes little at once, and that nobody reads."""
        line = self._closing.enter_context(socket.socket())
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", self.port))
        line.sendall(sent)

    def segment(self, picture, address="127.0.0.1"):
        """The whole answer to a picture."""
        return self.ask(request_of(picture), address)

    def ask(self, sent, address="127.0.0.1"):
        """The whole answer, head and body, of a service that hangs up then."""
        with self.line(sent, address) as line:
            return rest_of(line)


def rest_of(line):
    """What comes until the service hangs up, however it does."""
    received = b""
    try:
        while part := line.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


@contextmanager
def live(segmenter=None, *, page=False, **settings):
    """Ends with its lines closed."""
    app = build_app({"painted": segmenter or Painted()}, ServeSettings(**settings), page=page)
    with listener_at(socket.AF_INET) as listener:
        listener.bind(("127.0.0.1", 0))
        server, port = Server(app), listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started)
            with ExitStack() as closing:
                yield Live(server, port, closing)
        finally:
            server.should_exit = True
            thread.join(20)


BOUNDARY = "frontier"


def head_of(body, *more):
    lines = ("POST /v1/segment HTTP/1.1", "Host: x", f"Content-Type: multipart/form-data; boundary={BOUNDARY}", *more)
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode()


def request_of(picture):
    """All that asks for a picture's masks, and to hang up then."""
    body = body_of(picture)
    return head_of(body, "Connection: close") + body


def are_answered(lines):
    return all(rest_of(line).startswith(b"HTTP/1.1 200") for line in lines)


def trickle(line):
    """The line sends a byte now and then, until it is closed."""

    def send():
        with suppress(OSError):
            while True:
                line.sendall(b"x")
                time.sleep(0.05)

    threading.Thread(target=send, daemon=True).start()


def body_of(picture):
    part = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    return (
        f'{part}"names"\r\n\r\n{",".join(NAMES)}\r\n{part}"image"; filename="a"\r\n\r\n'.encode()
        + picture
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )


def png(height=30, width=40, noise=False):
    image = np.zeros((height, width, 3), np.uint8)
    if noise:
        image[..., 0] = 255 * (np.random.default_rng(0).random((height, width)) < 0.5)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
