"""FOUND: the seed mask and the head, against slow computations; every odd picture has a defined answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from support import plain_saliency
from support.small_dino import stirred
from support.small_segmenters import picture
from wordmask.compute import PLAIN
from wordmask.encoders.dino import DinoError, DinoFeatures
from wordmask.encoders.timm_building import dino_at
from wordmask.saliency import found as found_method
from wordmask.saliency.base import SaliencyError
from wordmask.saliency.found import Found, FoundSettings, background_mask, head_weights, load_head, new_head
from wordmask.weights.loading import WeightsError, write_state_dict
from wordmask_world import models
from wordmask_world.models import WorldModelError

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def encoder():
    return plain_saliency.tiny_dino()


@pytest.fixture
def head():
    torch.manual_seed(1)
    return stirred(new_head(plain_saliency.WIDTH))


def features(attention, keys, grid):
    nothing = torch.zeros(0)
    unread = dict.fromkeys(("queries", "values", "cls_query", "cls_logits", "tokens", "cls", "registers"), nothing)
    return DinoFeatures(keys=keys, cls_attention=attention, grid=grid, patch=8, **unread)


def test_head_weights_are_the_log_of_the_sparsities():
    """Two of four patches above the mean for one head, one for the other."""
    attention = torch.tensor([[[0.4, 0.4, 0.0, 0.0], [0.8, 0.0, 0.0, 0.0]]])
    expected = torch.tensor([[np.log(0.75 / 0.5), np.log(0.75 / 0.25)]], dtype=torch.float32)
    assert torch.allclose(head_weights(attention), expected)


def test_the_mean_is_the_pictures_not_the_heads():
    """The second head looks mostly at CLS itself; none of its patches is above the mean of both heads."""
    attention = torch.tensor([[[0.5, 0.4, 0.0, 0.0], [0.04, 0.0, 0.0, 0.0]]])
    weights = head_weights(attention)[0]
    assert weights[0].item() == pytest.approx(0, abs=1e-6)
    assert weights[1] > 20


def test_a_lone_head_counts_as_one_and_uniform_attention_trusts_all_heads_alike():
    assert torch.equal(head_weights(torch.rand(2, 1, 9)), torch.ones(2, 1))
    weights = head_weights(torch.full((1, 3, 9), 0.1))
    assert torch.isfinite(weights).all()
    assert torch.allclose(weights, weights[:, :1])


@pytest.mark.parametrize("seed", range(5))
def test_the_seed_mask_equals_the_formula(seed):
    generator = torch.Generator().manual_seed(seed)
    attention = torch.rand(2, 3, 35, generator=generator).mul(4).softmax(dim=-1)
    attention *= torch.tensor([1.0, 0.6, 0.2])[:, None]  # the rest is CLS's attention to itself
    keys = torch.randn(2, 3, 35, 4, generator=generator) + 0.7
    assert_seeds(background_mask(features(attention, keys, (5, 7)), 0.3), attention, keys)


def assert_seeds(found, attention, keys):
    for place in range(2):
        expected, own = plain_saliency.seed_background(attention[place].double().numpy(), keys[place].double().numpy())
        assert np.array_equal(found[place].flatten().numpy(), expected)
        assert expected[own]


def test_the_seed_mask_of_a_picture_reads_the_last_attention(encoder):
    seen = encoder(torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0)))
    assert_seeds(background_mask(seen), seen.cls_attention, seen.keys)


def test_patches_without_any_key_leave_the_seed_alone_as_background():
    attention = torch.rand(1, 2, 6, generator=torch.Generator().manual_seed(0))
    found = background_mask(features(attention, torch.zeros(1, 2, 6, 4), (2, 3)))
    assert found.sum() == 1


@pytest.mark.parametrize("size", [(40, 40), (33, 50), (7, 61)])
def test_the_head_is_a_convolution_blown_up_by_the_patch_and_cut(encoder, head, size):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    seen = encoder(image)
    weight, bias = head.weight[0, :, 0, 0].detach().double().numpy(), head.bias.item()
    logits = np.tensordot(weight, seen.key_maps()[0].double().numpy(), axes=1) + bias
    expected = 1 / (1 + np.exp(-plain_saliency.bilinear(logits[None], 8)[0]))
    found = Found(encoder, head).read(image)[0].numpy()
    assert found.shape == size
    assert np.abs(found - expected[: size[0], : size[1]]).max() < TOLERANCE


def test_the_published_file_loads(tmp_path, head):
    """And one of our own."""
    torch.save({"decoder": dict(head.state_dict())}, tmp_path / "decoder_weights.pt")
    write_state_dict(tmp_path / "found.safetensors", head.state_dict(), {})
    for name in ("decoder_weights.pt", "found.safetensors"):
        loaded = load_head(tmp_path / name)
        assert torch.equal(loaded.weight, head.weight)
        assert torch.equal(loaded.bias, head.bias)


def test_another_file_or_head_is_refused(tmp_path, encoder):
    torch.save({"classifier": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(SaliencyError, match="no head of FOUND"):
        load_head(tmp_path / "other.pt")
    torch.save({"decoder": {"weight": torch.zeros(1, 4, 1, 1)}}, tmp_path / "half.pt")
    with pytest.raises(WeightsError, match="bias"):
        load_head(tmp_path / "half.pt")
    with pytest.raises(SaliencyError, match="384"):
        Found(encoder, new_head(384))


def test_the_worlds_dino_takes_no_other_weights():
    with pytest.raises(DinoError, match="brings its own"):
        dino_at("world", "dino-vit-s-8", PLAIN)


def test_a_picture_on_too_many_patches_is_looked_at_smaller(encoder, head):
    settings = replace(FoundSettings(), most_patches=16)
    seen = []
    found = Found(encoder, head, settings)
    read = found.read
    found.read = lambda images: (seen.append(images.shape), read(images))[1]
    [soft] = found.maps([picture(90, 130)])
    assert soft.shape == (90, 130)
    assert -(-seen[0][2] // 8) * -(-seen[0][3] // 8) <= 16


def test_seed_maps_are_0_or_1(encoder):
    [soft] = found_method.SeedSaliency(encoder).maps(
        [np.random.default_rng(0).integers(0, 256, (50, 41, 3), dtype=np.uint8)]
    )
    assert set(np.unique(soft)) <= {0, 1}


def test_a_world_head_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    with pytest.raises(WorldModelError, match="train-found"):
        load_head("world")
