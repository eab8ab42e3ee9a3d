"""Python in a process of its own."""

import subprocess
import sys
from typing import Any


def run_script(code: str, *arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    """What came of it: `returncode`, and `stdout` and `stderr` as text."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, **{"capture_output": True, "text": True, "timeout": 300, "check": False, **options})


def printed_by(code: str, *arguments: object, **options: Any) -> str:
    done = run_script(code, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout
