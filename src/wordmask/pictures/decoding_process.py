"""One process that decodes pictures, from the side of those who ask it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from wordmask.pictures.decoding_worker import NAME, receive, receive_into, send
from wordmask.pictures.images import ImageReadError
from wordmask.text_files import counted

PIPE_BYTES = 2**18
"""What a pipe holds, where it can be told. Of 64 kB (Linux's own), 256 kB and 1 MB this moved a photograph fastest."""
MMAP_THRESHOLD = 2**23
"""Larger pieces of memory go back to the system when they are freed, so that an idle decoder is a small one."""
CLOCK = 4
"""Seconds of the clock for each of the processor: as on a machine that four such processes share."""
NICE = 15
"""Of 19: on processors that are all taken, such a process gets a thirtieth of what others do."""
WORKER = "wordmask.pictures.decoding_worker"
OUT_OF_TIME = getattr(signal, "SIGPROF", 0)


class Decoder:
    """One process, for one thread at a time; only `end` may be called by another."""

    def __init__(self, memory_bytes: int, *, gives_way: bool = False) -> None:
        """gives_way: to all other processes, where the system knows such a thing."""
        self._memory_bytes, self._gives_way = memory_bytes, gives_way
        self._process: subprocess.Popen[bytes] | None = None
        self._questions: IO[bytes]
        self._answers: IO[bytes]
        self._lock = threading.Lock()
        self._ended = False

    def start(self) -> None:
        """See that there is a process, and wait until it is ready."""
        if self._process is not None and self._process.poll() is None:
            return
        with self._lock:
            if self._ended:
                raise OSError("the decoder has been ended")
            self._drop()
            self._process = started(self._memory_bytes)
            if self._gives_way and hasattr(os, "setpriority"):
                with contextlib.suppress(OSError):  # it has ended already, as the next lines will say
                    os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._questions, self._answers = self._process.stdin, self._process.stdout
        try:
            receive(self._answers)
        except EOFError as error:
            raise OSError(f"a decoder's process ended at once with {self._process.wait()}") from error

    def size(self, content: bytes, side: int | None, seconds: float) -> tuple[int, int]:
        """Return the height and width of a picture, of which it keeps hold until `pixels` or `leave`."""
        send(self._questions, {"bytes": len(content), "side": side, "seconds": seconds})
        view = memoryview(content)
        while view:
            view = view[self._questions.write(view) :]
        height, width = self._checked(receive(self._answers))["size"]
        return height, width

    def pixels(self) -> np.ndarray:
        """Return the picture that it holds."""
        send(self._questions, {"go": True})
        picture = np.empty(self._checked(receive(self._answers))["shape"], np.uint8)
        receive_into(self._answers, picture.data.cast("B"))
        return picture

    def leave(self) -> None:
        """Its picture is not wanted."""
        send(self._questions, {"go": False})

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """See that a picture takes `seconds` of the processor at most, which the process itself counts, and of the
        clock not much more than a busy machine makes of them. Where the process ends, the picture did it.
        """
        process = self._process
        assert process is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(CLOCK * seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError) as error:
            process.kill()
            code = process.wait()
            if late.is_set() or code == -OUT_OF_TIME:
                raise ImageReadError(
                    NAME, f"took longer than {counted(seconds, 'second', style='g')} to decode"
                ) from error
            raise ImageReadError(NAME, f"could not be decoded: its decoder ended with {code}") from error
        finally:
            timer.cancel()
            timer.join()
            if late.is_set():  # also if it was done in the same moment: the next picture must not find it
                process.wait()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """End it, and close its pipes, which nobody may be reading any more."""
        self.end()
        self._drop()

    def _drop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._questions, self._answers):
                with contextlib.suppress(OSError):
                    pipe.close()

    def _checked(self, message: dict[str, Any]) -> dict[str, Any]:
        kind, reason = message.get("error"), message.get("reason", "")
        if kind == "memory":
            raise ImageReadError(NAME, f"needs more than {self._memory_bytes // 2**20} MB to decode")
        if kind == "picture":
            raise ImageReadError(NAME, reason)
        if kind is not None:
            raise RuntimeError(f"a decoder failed:\n{reason}")
        return message


def started(memory_bytes: int, module: str = WORKER) -> "subprocess.Popen[bytes]":
    """Start a process that imports what this one would, ends when this one does, and hears no signal of a terminal."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD),
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(memory_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        bufsize=0,
        start_new_session=True,
    )
    if sys.platform == "linux":
        import fcntl

        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # the system's own limit of such pipes
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return process
