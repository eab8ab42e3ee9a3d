"""Runs of `tiny_run` in processes of their own, to be killed."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil


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


def run_with_kills(place: Path, pictures: Path, *told: object, most: int, per: int) -> int:
    """A run in `place / "whole"` that nobody kills, and the same in `place / "run"`, killed up to `most` times and
    started again until it ends: how often it was. It is killed within a part in `per` of what the whole run took, once
    it works at another stage.
    """
    run = place / "run"
    with Nursery() as nursery:
        nursery.start(pictures, place / "whole", *told)
        assert nursery.wait() == 0
        records = [json.loads(path.read_text()) for path in (place / "whole" / "stages").glob("*.json")]
        worked = sum(record["seconds"] for record in records)
        dice, kills = random.Random(7), 0
        while True:
            before = last_begun(run)
            child = nursery.start(pictures, run, *told)
            while psutil.pid_exists(child) and last_begun(run) == before:
                time.sleep(0.002)  # a kill before it works at a stage would show nothing
            if kills < most:
                time.sleep(dice.uniform(0, worked / per))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            code = nursery.wait()
            if code == 0:
                return kills
            assert code == -signal.SIGKILL
            kills += 1
