"""Odd questions and odd pictures, to CLIP-DIY and to CLIP-DINOiser: a sensible answer, or one clear error."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.small_segmenters import picture, segmenter
from wordmask.errors import WordmaskError

METHODS = ("clip-diy", "clip-dinoiser")
LARGE_MEGABYTES = 1500
"""A picture of 24 million pixels takes 72 MB, its labels 192 MB while they are made, its scores 96 MB."""


@pytest.fixture(scope="module", params=METHODS)
def method(request):
    return segmenter(request.param)


@pytest.mark.parametrize("name", ["dog", "background"])
def test_a_single_name_is_everywhere_and_certain(method, name):
    result = method.segment(picture(40, 60), [name], fill=True)
    assert (result.labels == 0).all()
    assert result.scores == pytest.approx(np.ones((40, 60)), abs=1e-5)


def test_a_name_given_twice_is_one_clear_error(method):
    with pytest.raises(WordmaskError, match="dog"):
        method.segment(picture(40, 60), ["dog", "grass", "dog"], fill=True)


def test_a_thousand_names_are_answered_in_pieces(method, monkeypatch):
    monkeypatch.setattr("wordmask.segmenters.clip_diy.MAP_BYTES", 4 * 48 * 72 * 150)
    names = [f"thing {index}" for index in range(999)]
    result = method.segment(picture(40, 60), [*names, "background"], fill=True)
    assert result.labels.max() < 1000
    assert 0 < result.scores.min() <= result.scores.max() <= 1


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (2, 90), (400, 8000)])
def test_tiny_and_very_long_pictures_come_back_at_their_size(method, size):
    result = method.segment(picture(*size), ["dog", "background"], fill=True)
    assert result.labels.shape == size
    assert np.isfinite(result.scores).all()


LARGE = """
import resource, sys
sys.path.insert(0, "tests")
from support.small_segmenters import picture, segmenter
method, names = segmenter(sys.argv[1]), ["dog", "grass", "background"]
method.segment(picture(60, 90), names, fill=True)
image, before = picture(4000, 6000), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert method.segment(image, names, fill=True).labels.shape == (4000, 6000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_picture_of_24_million_pixels_takes_bounded_memory(name):
    root = Path(__file__).parent.parent
    told = subprocess.run([sys.executable, "-c", LARGE, name], cwd=root, capture_output=True, text=True, check=True)
    assert float(told.stdout) < LARGE_MEGABYTES
