"""Large arrays made again and again need no new pages."""

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from wordmask.training.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    np.ones(64 << 17)
before = faults()
for _ in range(10):
    np.ones(64 << 17)  # 64 MiB
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")
def test_kept_memory_is_used_again():
    def faults(how: str) -> int:
        return int(
            subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, check=True, text=True).stdout
        )

    assert faults("keep") < faults("free") / 10
