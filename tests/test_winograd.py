"""Convolutions by tiles, against the convolutions that they stand for."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wordmask.encoders.winograd import Winograd, has_form, matrices


def test_the_matrices_filter_four_cells_of_six_by_six_products():
    into, taps, back = matrices()
    assert (into.shape, taps.shape, back.shape) == ((6, 6), (6, 3), (4, 6))
    dice = torch.Generator().manual_seed(0)
    cells, filters = (torch.randn(count, generator=dice, dtype=torch.float64) for count in (6, 3))
    expected = [sum(filters[j] * cells[i + j] for j in range(3)) for i in range(4)]
    torch.testing.assert_close(back @ ((taps @ filters) * (into @ cells)), torch.stack(expected))


@pytest.mark.parametrize("size", [(8, 8), (9, 30), (25, 13), (3, 1)])
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("together", [1, 160])
def test_tiles_make_the_convolution(size, dilation, together, monkeypatch):
    monkeypatch.setattr("wordmask.encoders.winograd.TOGETHER", together)
    torch.manual_seed(0)
    convolution = nn.Conv2d(5, 7, 3, padding=dilation, dilation=dilation).requires_grad_(False)
    images = torch.randn(2, 5, *size).contiguous(memory_format=torch.channels_last)
    exact = F.conv2d(images.double(), convolution.weight.double(), convolution.bias.double(), 1, dilation, dilation)
    tiled = Winograd(convolution.weight, convolution.bias, dilation)
    found = tiled(images)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tiled(images, relu=True), found.relu(), rtol=0, atol=0)
    assert torch.equal(tiled(images[1:]), found[1:])  # whatever else is in the batch


def test_it_rounds_little_more_than_the_convolution_does():
    torch.manual_seed(0)
    convolution = nn.Conv2d(256, 128, 3, padding=1, bias=False).requires_grad_(False)
    images = torch.randn(1, 256, 16, 16).relu()
    exact = F.conv2d(images.double(), convolution.weight.double(), padding=1)
    both = (convolution(images), Winograd(convolution.weight, None, 1)(images))
    off = [(found.double() - exact).abs().max() / exact.abs().max() for found in both]
    assert off[1] < 5e-6
    assert off[1] < 30 * off[0]


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 3, padding=0),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=(1, 2), dilation=(1, 2)),
        nn.Conv2d(4, 4, 5, padding=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
    ],
)
def test_others_have_no_such_form(other):
    assert not has_form(other)
    assert has_form(nn.Conv2d(4, 6, 3, padding=2, dilation=2))
