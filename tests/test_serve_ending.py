"""`wordmask serve` as a process: what becomes of it when it is told to end."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

IN_MEMORY = Path("/dev/shm")
CODE = """
import sys
sys.path.insert(0, TESTS)
from painted import Painted
from wordmask import cli, segmenters
segmenters.load = lambda **options: Painted()
sys.argv = ["wordmask", "serve", "--port", "0"]
cli.main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not IN_MEMORY.is_dir(), reason="this system keeps no files in memory")
def test_uploads_go_when_the_service_is_told_to_end():
    before = set(IN_MEMORY.glob("wordmask-*"))
    code = CODE.replace("TESTS", repr(str(Path(__file__).parent)))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=os.environ)
    address = re.search(r"http://127.0.0.1:\d+", process.stderr.readline())[0]
    with urllib.request.urlopen(f"{address}/healthz", timeout=60) as answer:
        assert answer.status == 200
    own = set(IN_MEMORY.glob("wordmask-*")) - before
    assert own
    process.send_signal(signal.SIGTERM)
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert not [folder for folder in own if folder.exists()]
