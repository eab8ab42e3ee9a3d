"""Processes that are killed as the power is cut: once they have come to a place."""

import time
from collections.abc import Callable
from subprocess import Popen
from typing import Any


def kill_when(process: "Popen[Any]", reached: Callable[[], bool], patience: float = 300) -> None:
    """`patience`: seconds after which it hangs; a loaded machine takes a minute to import PyTorch."""
    deadline = time.monotonic() + patience
    while not reached():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
