"""What is run on an accelerator is run here on the processor, small, so that it still runs when there is one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wordmask.compute import PrecisionError, set_tf32
from wordmask.pictures import accelerator
from wordmask.pictures.accelerator import BYTES_PER_PIXEL, MOST_TOGETHER, on_device, windows_together

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "on_accelerator.py"


@pytest.mark.slow
def test_the_script_runs_to_its_end_on_a_processor():
    parts = ["card", "tests", "deeplab", "selfmask", "transfers", "decoding"]
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--dry", "--only", *parts], capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "[100%]" in ran.stdout
    for part in parts:
        assert f"\n{part}\n" in ran.stdout
    assert "DeepLabV3+" in ran.stdout
    assert "same labels 100.00%" in ran.stdout


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_without_a_card_the_script_says_so():
    ran = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 1
    assert "--dry" in ran.stderr


def test_windows_go_together_as_free_memory_allows(monkeypatch):
    pixels, cuda = 448 * 448, torch.device("cuda")
    each = BYTES_PER_PIXEL * pixels
    for free, expected in ((0, 1), (6 * each, 3), (10_000 * each, MOST_TOGETHER)):
        monkeypatch.setattr(accelerator.torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert windows_together(cuda, pixels, 8) == expected
    assert windows_together(torch.device("cpu"), pixels, 8) == 8


def test_on_the_processor_a_tensor_is_handed_on_as_it_is():
    values = torch.rand(3)
    assert on_device(values, torch.device("cpu")) is values


def test_tf32_is_set_by_a_name_or_left_as_it_is():
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolutions.allow_tf32
    try:
        for told in ("1", "0"):
            set_tf32(told)
            assert (matmul.allow_tf32, convolutions.allow_tf32) == (told == "1",) * 2
        set_tf32("")
        assert not matmul.allow_tf32
        with pytest.raises(PrecisionError, match="WORDMASK_TF32='yes'"):
            set_tf32("yes")
    finally:
        matmul.allow_tf32, convolutions.allow_tf32 = before
