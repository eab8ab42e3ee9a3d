"""Random views and colours, against torchvision's and Pillow's and against plain loops."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from wordmask.distillation.augmentations import (
    CHANGES,
    Augmentation,
    Colours,
    View,
    blurred,
    coloured,
    draw_colours,
    draw_view,
    see,
)

IGNORE = 255
PAPER = Augmentation()


def chance(seed=0):
    return np.random.default_rng(seed)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def half(height, width):
    """A mask of the upper half."""
    mask = np.zeros((height, width), dtype=bool)
    mask[: height // 2] = True
    return mask


@pytest.mark.parametrize("size", [(375, 500), (60, 30), (2000, 100)])
def test_a_view_lies_inside_the_picture_and_inside_the_crop(size):
    for seed in range(300):
        view = draw_view(chance(seed), size, PAPER)
        for side, large, start, place in zip(size, view.size, view.start, view.place, strict=True):
            assert 1 <= large <= side
            shown = min(large - start, PAPER.crop)
            assert shown == min(large, PAPER.crop)
            assert place in (0, PAPER.crop - shown)


def test_scales_corners_places_and_flips_are_evenly_spread():
    views = [draw_view(chance(seed), (1000, 1000), PAPER) for seed in range(2000)]
    scales = np.array([view.size[0] / 1000 for view in views])
    assert np.histogram(scales, bins=9, range=(0.1, 1.0))[0].min() > 170
    small = [view for view in views if view.size[0] < PAPER.crop]
    corners = [tuple(place > 0 for place in view.place) for view in small]
    assert all(corners.count(corner) > 0.2 * len(small) for corner in set(corners))
    assert len(set(corners)) == 4
    large = [view.start[0] / (view.size[0] - PAPER.crop) for view in views if view.size[0] > PAPER.crop + 50]
    assert 0.47 < np.mean(large) < 0.53
    assert min(large) == 0
    assert 0.45 < np.mean([view.flipped for view in views]) < 0.55


def seen(image, mask, size, start=(0, 0), place=(0, 0), *, flipped=False, label=1):
    """(H, W, 3) and (H, W) of a crop of 64 pixels"""
    pixels, labels = see(image, mask, View(size, start, place, flipped), 64, label=label, ignore=IGNORE)
    return pixels.permute(1, 2, 0).numpy(), labels.numpy()


def test_a_small_picture_lies_in_its_corner_on_its_own_mean_colour():
    image = noise(40, 30)
    pixels, labels = seen(image, half(40, 30), (40, 30), place=(24, 0), label=7)
    assert np.array_equal(pixels[24:, :30], image)
    assert (pixels[:24] == image.mean(axis=(0, 1)).round().astype(np.uint8)).all()
    expected = np.full((64, 64), IGNORE)
    expected[24:, :30] = 7 * half(40, 30)
    assert np.array_equal(labels, expected)


def test_a_large_picture_is_cut():
    image = noise(80, 90)
    pixels, labels = seen(image, half(80, 90), (80, 90), start=(9, 20), label=3)
    assert np.array_equal(pixels, image[9:73, 20:84])
    assert np.array_equal(labels, 3 * half(80, 90)[9:73, 20:84])


def test_a_wide_low_picture_is_cut_one_way_and_padded_the_other():
    image = noise(20, 90)
    pixels, labels = seen(image, half(20, 90), (20, 90), start=(0, 5), place=(44, 0))
    assert np.array_equal(pixels[44:], image[:, 5:69])
    assert np.array_equal(labels != IGNORE, np.repeat(np.arange(64) >= 44, 64).reshape(64, 64))


def test_resizing_is_pillow_s_and_the_mask_s_is_by_nearest_pixel():
    image, mask = noise(90, 70), chance().random((90, 70)) > 0.5
    pixels, labels = seen(image, mask, (50, 41))
    expected = np.asarray(Image.fromarray(image).resize((41, 50), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(pixels[:50, :41] - expected).max() <= 1
    assert np.array_equal(labels[:50, :41], Image.fromarray(mask).resize((41, 50), Image.Resampling.NEAREST))


def test_a_flipped_view_is_the_mirrored_one():
    image, mask = noise(50, 40), chance().random((50, 40)) > 0.5
    for straight, flipped in zip(seen(image, mask, (50, 40)), seen(image, mask, (50, 40), flipped=True), strict=True):
        assert np.array_equal(straight, flipped[:, ::-1])


def random_pixels(height, width):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("amount", [0.2, 0.75, 1.0, 1.8])
@pytest.mark.parametrize(
    ("change", "expected"), [(0, tv.adjust_brightness), (1, tv.adjust_contrast), (2, tv.adjust_saturation)]
)
def test_brightness_contrast_and_saturation_are_torchvision_s(change, expected, amount):
    image = random_pixels(20, 31)
    changed = image.clone()
    CHANGES[change](changed, amount)
    assert torch.allclose(changed, expected(image, amount), atol=1e-6)


@pytest.mark.parametrize("turn", [-0.2, -0.03, 0.0, 0.11, 0.2])
def test_hue_is_torchvision_s(turn):
    levels = torch.tensor([0.0, 0.25, 0.5, 1.0])  # greys, pure colours, ties among channels
    image = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).reshape(3, 8, 8)
    image = torch.cat([image, random_pixels(8, 8)], dim=1)
    changed = image.clone()
    CHANGES[3](changed, turn)
    assert torch.allclose(changed, tv.adjust_hue(image, turn), atol=1e-5)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
@pytest.mark.parametrize("side", [20, 96, 384])
def test_blur_is_torchvision_s_with_a_tenth_of_the_side_as_its_kernel(side, sigma):
    image, kernel = random_pixels(side, side), int(0.1 * side // 2 * 2) + 1
    expected = tv.gaussian_blur(image, [max(kernel, 3)] * 2, [sigma] * 2)
    assert torch.allclose(blurred(image, sigma), expected, atol=2e-6)


def test_changes_happen_in_the_order_drawn_and_grey_is_torchvision_s():
    pixels = torch.from_numpy(noise(9, 9)).permute(2, 0, 1)
    jitter = ((2, 0.3), (0, 1.6), (3, 0.1), (1, 0.5))
    steps = (tv.adjust_saturation, tv.adjust_brightness, tv.adjust_hue, tv.adjust_contrast)
    expected = pixels.float() / 255
    for step, (_, amount) in zip(steps, jitter, strict=True):
        expected = step(expected, amount)
    assert torch.allclose(coloured(pixels, Colours(jitter, False, None)), expected, atol=1e-5)
    grey = coloured(pixels, Colours((), True, None))
    assert torch.allclose(grey, tv.rgb_to_grayscale(pixels.float() / 255, 3), atol=1e-6)


def test_colours_stay_colours():
    for seed in range(60):
        drawn = coloured(torch.from_numpy(noise(16, 16, seed)).permute(2, 0, 1), draw_colours(chance(seed), PAPER))
        assert torch.isfinite(drawn).all()
        assert 0 <= drawn.min() <= drawn.max() <= 1 + 1e-5


def test_chances_and_strengths_are_the_paper_s():
    drawn = [draw_colours(chance(seed), PAPER) for seed in range(3000)]
    assert 0.77 < np.mean([bool(one.jitter) for one in drawn]) < 0.83
    assert 0.17 < np.mean([one.grey for one in drawn]) < 0.23
    assert 0.47 < np.mean([one.sigma is not None for one in drawn]) < 0.53
    for what, (low, high) in enumerate([(0.2, 1.8), (0.2, 1.8), (0.2, 1.8), (-0.2, 0.2)]):
        amounts = [dict(one.jitter)[what] for one in drawn if one.jitter]
        assert low <= min(amounts) < low + 0.02 * (high - low)
        assert high >= max(amounts) > high - 0.02 * (high - low)
    sigmas = [one.sigma for one in drawn if one.sigma is not None]
    assert 0.1 <= min(sigmas) < 0.12
    assert 1.98 < max(sigmas) <= 2.0
    firsts = [one.jitter[0][0] for one in drawn if one.jitter]
    assert all(0.2 < firsts.count(what) / len(firsts) < 0.3 for what in range(4))
