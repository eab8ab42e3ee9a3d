"""How CLIP's last block is read, against the papers' formulas, on a small CLIP with random weights."""

import numpy as np
import pytest
import torch

from support import plain_last_block, plain_vit
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, small_clip
from wordmask.encoders.clip_dense import CLIP_DINOISER, MASKCLIP, NACLIP, READINGS, SCLIP, nearness_of
from wordmask.encoders.grid import CLIP_POSITIONS, DINO_POSITIONS, to_maps

SIZES = [(32, 32), (40, 72), (64, 24)]
TOLERANCE = 1e-5
SHAPE = {"patch": PATCH, "native": NATIVE, "heads": HEADS, "layers": LAYERS}


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def pictures(size, count=2, seed=1):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def by_the_book(clip, image, name, **options):
    tower = plain_vit.arrays_of(clip.model.visual)
    return plain_last_block.read(name, tower, clip.statistics.normalise(image).double().numpy(), **SHAPE, **options)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["sclip", "clearclip", "naclip"])
def test_a_reading_equals_its_formula(clip, name, size):
    images = pictures(size)
    read = clip.dense(images, reading=READINGS[name], positions=DINO_POSITIONS).values
    for own, image in zip(read.numpy(), images, strict=True):
        assert np.abs(own - by_the_book(clip, image, name)).max() < TOLERANCE


def test_positions_are_resized_by_the_rule_that_is_asked_for(clip):
    image = pictures((40, 72), 1)
    for rule, offset in ((CLIP_POSITIONS, 0.0), (DINO_POSITIONS, 0.1)):
        read = clip.dense(image, reading=SCLIP, positions=rule).values[0].numpy()
        assert np.abs(read - by_the_book(clip, image[0], "sclip", offset=offset)).max() < TOLERANCE
        assert np.abs(read - by_the_book(clip, image[0], "sclip", offset=0.1 - offset)).max() > 10 * TOLERANCE


def test_sclip_s_weights_sum_to_two(clip):
    """Halving them would be another method: what enters the residual is not normalised afterwards."""
    tokens = clip.run(pictures((32, 32), 1))
    vit, normed = clip.vit, clip.vit.last.ln_1(tokens.x)
    ones = torch.ones_like(normed)
    torch.testing.assert_close(vit._mix(normed, ones, tokens.grid, SCLIP), 2 * ones)
    torch.testing.assert_close(vit._mix(normed, ones, tokens.grid, NACLIP), ones)


def test_cls_takes_part_in_the_attention(clip):
    tokens = clip.run(pictures((32, 32), 1))
    moved = type(tokens)(torch.cat([tokens.x[:, :1] + 1, tokens.x[:, 1:]], dim=1), tokens.grid)
    for reading in READINGS.values():
        same = torch.equal(clip.vit.read(tokens, reading), clip.vit.read(moved, reading))
        assert same == (reading in (MASKCLIP, CLIP_DINOISER)), reading.name


def test_nearness_is_a_gaussian_of_the_distance_and_nothing_for_cls():
    assert np.abs(nearness_of((5, 7), 5.0).numpy() - plain_last_block.nearness((5, 7))).max() < TOLERANCE


def test_what_is_run_is_read_as_in_one_pass(clip):
    images = pictures((40, 72))
    for reading in READINGS.values():
        whole = clip.dense(images, reading=reading).values
        assert torch.equal(to_maps(clip.vit.read(clip.run(images), reading), (5, 9)), whole)


def test_a_reading_does_not_depend_on_the_batch(clip):
    images = pictures((40, 72), 3)
    for reading in READINGS.values():
        together = clip.dense(images, reading=reading).values
        alone = torch.cat([clip.dense(image[None], reading=reading).values for image in images])
        assert torch.allclose(together, alone, atol=TOLERANCE)


def test_outputs_of_blocks_are_kept_by_their_numbers(clip):
    image = pictures((40, 72), 1)
    tokens = clip.run(image, keep=(0, -2, 2), positions=DINO_POSITIONS)
    normal = clip.statistics.normalise(image[0]).double().numpy()
    outputs, grid = plain_last_block.blocks_of(plain_vit.arrays_of(clip.model.visual), normal, **SHAPE)
    assert tokens.grid == grid
    assert set(tokens.kept) == {0, -2, 2}
    for number, kept in tokens.kept.items():
        expected = outputs[number if number >= 0 else LAYERS + number]
        assert np.abs(kept[0].numpy() - expected).max() < TOLERANCE
    assert torch.equal(tokens.kept[-2], tokens.x)
    with pytest.raises(ValueError, match="last block is not run"):
        clip.run(image, keep=[-1])
    with pytest.raises(ValueError, match="block 7"):
        clip.run(image, keep=[7])
