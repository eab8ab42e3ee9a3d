"""Runs of `tiny_run` in processes of their own, to be killed."""

import json
import os
import subprocess
import sys
from pathlib import Path


class Nursery:
    """Runs in processes of their own, to be killed."""

    def __init__(self):
        script = Path(__file__).with_name("tiny_run.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[1])}
        self.process = subprocess.Popen(
            [sys.executable, str(script)], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def start(self, *arguments: object) -> int:
        print(json.dumps([str(argument) for argument in arguments]), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        return int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def last_begun(run: Path) -> float:
    """When a stage was last begun or ended."""
    return max((path.stat().st_mtime for path in (run / "stages").glob("*.json")), default=0.0)
