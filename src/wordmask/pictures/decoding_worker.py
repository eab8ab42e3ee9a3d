"""What a decoder's process does: read pictures from one pipe, write pixels to another, until the first one ends.

It imports little: without torch a process takes 40 MB and begins at once.
"""

import json
import os
import select
import signal
import struct
import sys
import threading
import traceback
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from wordmask.console import quiet_log
from wordmask.console.notices import notices
from wordmask.pictures.images import ImageReadError, image_size, read_image, shrunk

try:
    import resource
except ImportError:  # Windows has none; there only the clock limits a picture
    resource = None  # type: ignore[assignment]

NAME = "picture"


def send(pipe: IO[bytes], message: dict[str, Any]) -> None:
    text = json.dumps(message).encode()
    pipe.write(struct.pack(">I", len(text)) + text)
    pipe.flush()


def receive(pipe: IO[bytes]) -> dict[str, Any]:
    """Return the next message; `EOFError` where there is none any more."""
    length = struct.unpack(">I", receive_bytes(pipe, 4))[0]
    message: dict[str, Any] = json.loads(receive_bytes(pipe, length))
    return message


def receive_bytes(pipe: IO[bytes], length: int) -> bytearray:
    content = bytearray(length)
    receive_into(pipe, memoryview(content))
    return content


def receive_into(pipe: IO[bytes], view: memoryview) -> None:
    while view:
        count = pipe.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]


def send_pixels(pipe: IO[bytes], image: np.ndarray) -> None:
    """image: (H, W, 3) uint8, whose rows lie one after the other."""
    view = image.data.cast("B")
    while view:
        view = view[pipe.write(view) :]


def begin() -> tuple[IO[bytes], IO[bytes]]:
    """Return the pipe that questions come from, and that of the answers, and end with the one who asks. Being told to
    end is for that one, who may have pictures to finish.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    questions, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not come between the answers
    threading.Thread(target=end_with_parent, daemon=True).start()
    return questions, answers


def main(memory_bytes: int) -> None:
    """Answer until nobody asks any more."""
    questions, answers = begin()
    notices.counting = True  # a warning about a picture of a client's is nobody's to read
    quiet_log()
    Image.init()
    limit_memory(memory_bytes)
    try:
        send(answers, {"ready": True})
        while True:
            question = receive(questions)
            content = bytes(receive_bytes(questions, question["bytes"]))
            limit_processor(question["seconds"])
            answer(questions, answers, content, question["side"])
            limit_processor(0)
            del content  # or it would stay until the next one comes
    except (EOFError, BrokenPipeError):
        return


def answer(questions: IO[bytes], answers: IO[bytes], content: bytes, side: int | None) -> None:
    """Tell the picture's size, wait for leave, and send its pixels; or say why there are none."""
    try:
        height, width = image_size(content)
        send(answers, {"size": (height, width)})
        if not receive(questions)["go"]:
            return
        picture = read_image(content, max_pixels=height * width)
        if side is not None:
            picture = shrunk(picture, side)
    except (ImageReadError, MemoryError) as error:
        cause = error.__cause__ or error
        kind = "memory" if isinstance(cause, MemoryError) else "picture"
        send(answers, {"error": kind, "reason": getattr(error, "reason", "")})
        return
    except (EOFError, BrokenPipeError):
        raise
    except Exception:
        send(answers, {"error": "unexpected", "reason": traceback.format_exc()})
        return
    send(answers, {"shape": picture.shape})
    send_pixels(answers, picture)


def end_with_parent() -> None:
    """End when nobody can ask any more, in the middle of a picture too."""
    if hasattr(select, "poll"):
        ended = select.poll()
        ended.register(0, 0)  # that the other end is closed is told without being asked for
        ended.poll()
        os._exit(1)


def limit_memory(more: int) -> None:
    """Let this process have so many bytes more than it has now; those who ask for more get a `MemoryError`."""
    statistics = Path("/proc/self/statm")
    if resource is None or not statistics.exists():
        return
    now = int(statistics.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))


def limit_processor(seconds: float) -> None:
    """End this process after so many more seconds of work; 0 for no end. A machine that is busy with other things
    takes nothing from a picture's time.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]))
