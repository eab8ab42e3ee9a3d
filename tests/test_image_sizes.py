"""Sizes, resizing, padding."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from support.picture_files import PICTURE, UNHURRIED, distance, noise
from wordmask.pictures.images import (
    pad_to_multiple,
    resize,
    size_with_longer_side,
    size_with_shorter_side,
    to_tensor,
)

# Sizes


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((375, 500), (448, 597)),
        ((500, 375), (597, 448)),
        ((448, 448), (448, 448)),
        ((100, 1000), (205, 2048)),
        ((1, 100_000), (1, 2048)),
        ((1024, 2048), (448, 896)),
    ],
)
def test_the_papers_size_of_shorter_side_448_and_longer_at_most_2048(size, expected):
    assert size_with_shorter_side(*size, 448, 2048) == expected


sides = st.integers(1, 20_000)


@UNHURRIED
@given(sides, sides, st.integers(1, 2000))
def test_the_named_side_gets_its_length(height, width, length):
    assert min(size_with_shorter_side(height, width, length)) == length
    assert max(size_with_longer_side(height, width, length)) == length


@UNHURRIED
@given(sides, sides, st.integers(1, 2000), st.integers(1, 2000))
def test_sizes_keep_the_shape_fit_and_are_never_nothing(height, width, rows, columns):
    new = size_with_shorter_side(height, width, rows, columns)
    assert 1 <= min(new) <= rows
    assert 1 <= max(new) <= columns
    assert min(new) == rows or max(new) == columns
    scale = min(rows / min(height, width), columns / max(height, width))
    assert abs(new[0] - max(height * scale, 1)) <= 0.5 + 1e-9
    assert abs(new[1] - max(width * scale, 1)) <= 0.5 + 1e-9


@UNHURRIED
@given(sides, sides, sides)
def test_only_shrink_never_enlarges(height, width, longer):
    small = size_with_longer_side(height, width, longer, only_shrink=True)
    assert small[0] <= height
    assert small[1] <= width
    assert small in (size_with_longer_side(height, width, longer), (height, width))


# Tensors


def test_to_tensor_is_channels_first_from_zero_to_one_of_any_array():
    tensor = to_tensor(PICTURE)
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == ((3, 6, 10), torch.float32, True)
    assert torch.equal(tensor, torch.from_numpy(PICTURE.copy()).permute(2, 0, 1) / 255)
    frozen = PICTURE.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(to_tensor(frozen), tensor)
        assert torch.equal(to_tensor(PICTURE[::-1]), tensor.flip(1))


@pytest.mark.parametrize("size", [(448, 597), (100, 133), (60, 500), (375, 500)])
@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_bytes_is_resizing_numbers_to_within_a_grey_level(size, antialias):
    picture = noise(375, 500, 2)
    exact = interpolate(to_tensor(picture)[None], size, mode="bilinear", antialias=antialias)[0]
    assert (to_tensor(picture, size, antialias=antialias) - exact).abs().max() * 255 <= 1.01
    floats = resize(to_tensor(picture), size, antialias=antialias)
    assert floats.dtype == torch.float32
    torch.testing.assert_close(floats, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_resizing_bytes_is_what_pillow_does(mode):
    picture = noise(97, 120, 3)
    pillow = Image.fromarray(picture).resize((64, 50), Image.Resampling[mode.upper()])
    ours = (to_tensor(picture, (50, 64), mode=mode) * 255).permute(1, 2, 0).numpy()
    assert distance(ours, np.asarray(pillow)) < 1.5


def test_resizing_keeps_leading_dimensions_and_type_and_what_has_the_size_already():
    assert resize(torch.zeros(2, 5, 3, 8, 8), (4, 6)).shape == (2, 5, 3, 4, 6)
    assert resize(torch.full((3, 8, 8), 255, dtype=torch.uint8), (20, 3), mode="bicubic").unique().tolist() == [255]
    image = to_tensor(PICTURE)
    assert resize(image, (6, 10)) is image


@UNHURRIED
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16))
def test_padding_reaches_the_next_multiple_and_keeps_the_picture(height, width, multiple):
    batch = torch.ones(2, 1, height, width)
    padded = pad_to_multiple(batch, multiple)
    assert padded.shape[2:] == (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    assert (padded[:, :, :height, :width] == 1).all()
    assert padded.sum() == batch.numel()
    if padded.shape == batch.shape:
        assert padded is batch
