"""Pieces of pictures to learn from, and their masks beside them."""

import numpy as np
import pytest
import torch

from wordmask.training.crops import blurred, centre_crop, scaled_crop


def test_a_centre_crop_is_the_middle_square():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    crop, mask = centre_crop(image, image[..., 0] > 127, 40)
    assert np.array_equal(crop.permute(1, 2, 0).numpy(), image[:, 10:50])
    assert np.array_equal(mask.numpy(), image[:, 10:50, 0] > 127)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [(40, 60), (1, 50), (300, 20)])
def test_a_crop_and_its_mask_stay_together_at_every_scale(seed, size):
    """The object is white on black, so the mask of the crop is where the crop is white."""
    mask = np.zeros(size, bool)
    mask[: size[0] // 2 + 1, size[1] // 3 :] = True
    image = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
    chance = np.random.default_rng(seed)
    crop, beside = scaled_crop(image, mask, 32, (0.1, 3.0), chance)
    assert crop.shape == (3, 32, 32)
    assert beside.shape == (32, 32)
    mean = round(float(image.mean()))
    clear = (crop[0] > 200) & (crop[0] != mean)
    dark = (crop[0] < 50) & (crop[0] != mean)
    assert beside[clear].all()
    assert not beside[dark].any()


def test_what_is_smaller_than_the_crop_lies_in_a_corner_on_the_mean_colour():
    image = np.full((10, 10, 3), 200, np.uint8)
    image[:5] = 100
    corners = set()
    for seed in range(12):
        crop, mask = scaled_crop(image, np.ones((10, 10), bool), 20, (1.0, 1.0), np.random.default_rng(seed))
        rows, columns = np.nonzero(mask.numpy())
        corners.add((int(rows.min()), int(columns.min())))
        assert mask.sum() == 100
        assert (crop[:, ~mask] == 150).all()
        assert torch.equal(crop[:, mask].view(3, 10, 10), torch.from_numpy(image).permute(2, 0, 1))
    assert corners == {(0, 0), (0, 10), (10, 0), (10, 10)}


def test_blur_takes_away_detail_and_keeps_the_colour():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8))
    soft = blurred(image, np.random.default_rng(3))
    assert soft.dtype == torch.uint8
    assert soft.float().std() < image.float().std()
    assert abs(soft.float().mean() - image.float().mean()) < 2
