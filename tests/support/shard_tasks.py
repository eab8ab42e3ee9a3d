"""Shards that fail, hang, die and fill disks, and a CLIP of colours: what processes of a crew can load."""

import errno
import os
import signal
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from wordmask.files import NoRoomError
from wordmask.runs.parts import write_part


@dataclass(frozen=True)
class Loaf:
    """A shard: a file that says who it is. how: what goes wrong with it."""

    folder: Path
    number: int
    how: str = ""
    weight = 10

    @property
    def name(self) -> str:
        return f"loaf {self.number}"

    @property
    def path(self) -> Path:
        return self.folder / f"{self.number}.txt"

    def make(self, tools, progress):
        once = self.folder / f"{self.number}.begun"
        is_first = not once.exists()
        once.touch()
        if self.how == "fails":
            raise ValueError("no flour")
        if self.how == "hangs":
            time.sleep(600)
        if self.how == "dies" or (self.how == "dies once" and is_first):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "full once" and is_first:
            raise NoRoomError(self.path, OSError(errno.ENOSPC, "No space left on device"))
        if self.how == "full":
            raise NoRoomError(self.path, OSError(errno.ENOSPC, "No space left on device"))
        if self.how == "slow":
            time.sleep(0.3)
        with write_part(self.path) as file:
            file.write(f"loaf {self.number} of {tools}".encode())
        return os.getpid()


def oven() -> str:
    return "rye"


def no_oven() -> str:
    raise FileNotFoundError(errno.ENOENT, "No such file", "oven.safetensors")


def oven_of_the_second(folder: Path) -> str:
    """Whoever comes first finds none."""
    try:
        (folder / "first").mkdir()
    except FileExistsError:
        return oven()
    return no_oven()


def colour_clip():
    from support.tiny_collection import ColourClip  # a process that bakes needs no PyTorch

    return ColourClip()


def other_clip():
    from support.tiny_collection import ColourClip

    return ColourClip(2.0)


class Here:
    """A worker that is this very process, which other processes' doubles are of no use to."""

    name = "here"

    def submit(self, do, *arguments):
        future = Future()
        future.set_result(do(*arguments))
        return future

    def end(self):
        pass


class OneHere:
    workers, time_limit, lost = 1, None, ()
    begin = Here
