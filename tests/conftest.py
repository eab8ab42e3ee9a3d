import os
import sys
import tempfile

import hypothesis
import pytest

os.environ["WORDMASK_PRECISION"] = "fp32"
"""No test hangs on what is faster on the machine; those of the choice take it away again."""
os.environ |= {"WORDMASK_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
_CACHE = tempfile.TemporaryDirectory(prefix="wordmask-cache-")
os.environ["WORDMASK_CACHE"] = _CACHE.name
"""Of fixtures that are made for a whole file; each test has one of its own."""
hypothesis.settings.register_profile("unhurried", deadline=None)  # a busy machine is no mistake
hypothesis.settings.load_profile("unhurried")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """As many as this process may use cores, and memory is sure to do for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory, monkeypatch):
    """No test touches the network or this machine's own cache."""
    monkeypatch.setenv("WORDMASK_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WORDMASK_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def counted_notices():
    """What is said once of many pictures is counted, as in a command."""
    from wordmask.console.notices import notices

    with notices.counted():
        yield notices


@pytest.fixture
def first_notices(counted_notices):
    """Nothing has been said yet, and the first of each kind is a warning, as in Python."""
    counted_notices.counting = False
    return counted_notices


@pytest.fixture(scope="module")
def one_thread():
    """Sums in another order are other sums; and small models are fastest so."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small_training_file(tmp_path_factory):
    """Sixteen of the world's pictures, of 32 pixels."""
    from wordmask_world.files.training_file import write_array

    return write_array(tmp_path_factory.mktemp("pictures") / "train.npy", 16, size=32)


@pytest.fixture
def folder(tmp_path):
    """Four pictures whose masks are known."""
    from support.painted import painted_folder

    return painted_folder(tmp_path / "pictures")


@pytest.fixture
def few_figures(monkeypatch):
    """Trainings of the world end with figures on four pictures each."""
    from wordmask_world.training import figures

    for name in ("NAMED_PICTURES", "MASKED_PICTURES"):
        monkeypatch.setattr(figures, name, 4)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `wordmask` in this process: (exit status, stdout, stderr)."""

    def run(*arguments):
        from wordmask import cli

        monkeypatch.setattr(sys, "argv", ["wordmask", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def wordmask(monkeypatch, command):
    """Runs the command in this process, with a small CLIP for the published one: (exit status, stdout, stderr)."""
    from support.small_clip import small_clip
    from wordmask import segmenters
    from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings

    clip = small_clip()
    small = MaskClipSettings(templates="photo", shorter_side=32, window=32, stride=16)
    monkeypatch.setattr(segmenters, "load", lambda **options: MaskClip(clip, small))
    return command


@pytest.fixture
def photo(tmp_path):
    """A picture of noise, of 40 x 60 pixels."""
    import numpy as np
    from PIL import Image

    file = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(file)
    return file
