"""Large arrays made again and again need no new pages."""

import sys

import pytest

from support.script import printed_by

_FAULTS = """
import resource, sys
import numpy as np
from wordmask.training.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
seen = []
for _ in range(12):
    np.ones(64 << 17)  # 64 MiB
    seen.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(seen[-1] - seen[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")
def test_kept_memory_is_used_again():
    assert int(printed_by(_FAULTS, "keep")) < int(printed_by(_FAULTS, "free")) / 10
