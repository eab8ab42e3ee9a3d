"""Weights from anywhere: whatever is in the file, it is read or refused, and costs no more than its size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "support" / "mutated_weights.py"
MOST_MEGABYTES = 250


def run(*arguments):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{SCRIPT.parents[1]}:{os.environ.get('PYTHONPATH', '')}",
    }
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"it ended by {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("count", [300, pytest.param(9000, marks=pytest.mark.slow)])
def test_mutated_weights_are_read_or_refused_and_nothing_else(count):
    outcome = run(0, count)
    assert not outcome["foreign"]
    assert outcome["grown"] < MOST_MEGABYTES
    assert outcome["read"] > count / 20
    assert outcome["refused"] > count / 2


def test_weights_of_a_few_kilobytes_cannot_ask_for_gigabytes():
    for name, (grown, said) in run("bombs").items():
        assert said.startswith(("WeightsError", "SaliencyError", "ClipError")), f"{name}: {said}"
        assert "\n" not in said
        assert grown < MOST_MEGABYTES, name
