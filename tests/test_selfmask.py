"""SelfMask: the network under its published names against slow computations, its losses, its masks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from support import plain_saliency
from support.small_dino import stirred
from wordmask.errors import WordmaskError
from wordmask.refinement.bilateral_solver import solve
from wordmask.saliency.base import SaliencyError
from wordmask.saliency.selfmask import SelfMask, SelfMaskSettings, load_network, write_network
from wordmask.saliency.selfmask_network import (
    POSITIONS,
    STATISTICS,
    Asked,
    SelfMaskNetwork,
    SelfMaskShape,
    from_published,
    to_published,
)
from wordmask.training.selfmask import SelfMaskTraining, new_network
from wordmask.training.selfmask_losses import dice_losses, ranking_loss, selfmask_losses
from wordmask.weights.loading import WeightsError
from wordmask_world import models
from wordmask_world.models import WorldModelError, world_dino

TOLERANCE = 1e-5
SHAPE = SelfMaskShape(image_size=40, patch=8, width=48, blocks=2, heads=3, queries=5, layers=3)
PUBLISHED_LAYER = {
    **{
        f"{theirs}.{part}": f"{ours}.{part}"
        for theirs, ours in (("self_attn", "self_attention"), ("multihead_attn", "cross_attention"))
        for part in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    },
    **{
        f"{theirs}.{part}": f"{ours}.{part}"
        for theirs, ours in (
            ("linear1", "expand"),
            ("linear2", "contract"),
            ("norm1", "self_norm"),
            ("norm2", "cross_norm"),
            ("norm3", "mlp_norm"),
        )
        for part in ("weight", "bias")
    },
}
"""What a layer of the published file calls its tensors, and what the network here does."""
BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def published_names(blocks, layers):
    """Every name of the published file -> the network's."""
    encoder = ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"]
    encoder += [f"blocks.{n}.{part}.{kind}" for n in range(blocks) for part in BLOCK for kind in ("weight", "bias")]
    names = {f"encoder.{name}": f"encoder.{name}" for name in encoder}
    for n in range(layers):
        names |= {f"decoder.layers.{n}.{a}": f"decoder.layers.{n}.{b}" for a, b in PUBLISHED_LAYER.items()}
    for kind in ("weight", "bias"):
        names[f"decoder.norm.{kind}"] = f"decoder.norm.{kind}"
        names |= {f"ffn.layers.{n}.{kind}": f"objectness.layers.{n}.{kind}" for n in range(3)}
    return names | {"query_embed": "queries"}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return stirred(SelfMaskNetwork(SHAPE)).eval()


def published(network):
    """The network's weights as the published file has them."""
    ours = network.state_dict()
    names = published_names(network.shape.blocks, network.shape.layers)
    return {name: ours[own] for name, own in names.items()}


def arrays(state):
    return {name: value.detach().double().numpy() for name, value in state.items()}


def pictures(size, count=1, seed=0):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def selfmask(network, **changes):
    return SelfMask(network, replace(SelfMaskSettings(), **changes), device="cpu", precision="fp32")


def test_every_published_name_has_its_place(network, tmp_path):
    names = published_names(SHAPE.blocks, SHAPE.layers)
    for name, own in names.items():
        assert from_published(name) == from_published(own) == own
        assert to_published(own) == name
    assert set(names.values()) == set(network.state_dict())
    write_network(tmp_path / "selfmask.safetensors", network)  # what is trained here bears the published names too
    assert set(load_file(tmp_path / "selfmask.safetensors")) == set(names)


def test_the_published_network_has_the_published_number_of_weights():
    with torch.device("meta"):
        full = SelfMaskNetwork(SelfMaskShape())
    assert sum(value.numel() for value in full.state_dict().values()) == 36_166_657 + 384 * 20
    assert full.objectness.layers[2].weight.shape == (1, 384)
    assert full.decoder.layers[0].expand.weight.shape == (1536, 384)
    assert len(full.decoder.layers) == 6


@pytest.mark.parametrize("wrapped", [True, False])
def test_both_wrappings_of_the_published_file_load(network, tmp_path, wrapped):
    state = published(network)
    torch.save({"model": state} if wrapped else state, tmp_path / "selfmask.pt")
    # the file does not say how wide its attention heads are: DINO's are 64, so 48 channels have one
    loaded = load_network(tmp_path / "selfmask.pt")
    assert loaded.shape == replace(SHAPE, heads=1)
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_a_file_of_our_own_says_its_heads(network, tmp_path):
    write_network(tmp_path / "own.safetensors", network, {"steps": "3"})
    loaded, image = load_network(tmp_path / "own.safetensors"), pictures((40, 40))
    assert loaded.shape == SHAPE
    with torch.inference_mode():
        assert torch.allclose(loaded(image).masks, network(image).masks, atol=0.05)  # half precision


def test_another_file_is_refused(network, tmp_path):
    torch.save({"model": {"weight": torch.zeros(3)}}, tmp_path / "other.pt")
    with pytest.raises(SaliencyError, match="no weights of SelfMask"):
        load_network(tmp_path / "other.pt")
    state = published(network)
    del state["ffn.layers.1.bias"]
    torch.save(state, tmp_path / "half.pt")
    with pytest.raises(WeightsError, match=r"objectness\.layers\.1\.bias"):
        load_network(tmp_path / "half.pt")


@pytest.mark.parametrize("mask_mlp", [False, True])
def test_every_layers_answer_equals_the_formula(mask_mlp):
    torch.manual_seed(0)
    network = stirred(SelfMaskNetwork(replace(SHAPE, mask_mlp=mask_mlp)), 0.03).eval()
    images = pictures((40, 40), count=2)
    with torch.inference_mode():
        asked = network(images, every_layer=True)
    p = arrays(published(network))
    p |= {name: value for name, value in arrays(network.state_dict()).items() if name.startswith("mask_mlp")}
    for place, image in enumerate(images):
        normalised = STATISTICS.normalise(image).double().numpy()
        masks, objectness = plain_saliency.selfmask(p, normalised, heads=3, blocks=2, layers=3)
        assert masks.shape == (3, 5, 10, 10)
        assert np.abs(asked.masks[:, place].numpy() - masks).max() < TOLERANCE
        assert np.abs(asked.objectness[:, place].numpy() - objectness).max() < TOLERANCE
        surest = masks[-1][objectness[-1].argmax()]
        assert np.abs(asked.best()[place].numpy() - surest).max() < TOLERANCE


def test_the_last_layer_alone_says_what_it_says_among_all(network):
    with torch.inference_mode():
        last, every = network(pictures((40, 56))), network(pictures((40, 56)), every_layer=True)
    assert last.masks.shape == (1, 1, 5, 10, 14)
    assert torch.allclose(last.masks[-1], every.masks[-1], atol=TOLERANCE)
    assert torch.allclose(last.objectness[-1], every.objectness[-1], atol=TOLERANCE)


def test_the_best_query_is_the_surest_of_its_own_picture():
    masks = torch.arange(2 * 3, dtype=torch.float32).view(1, 2, 3, 1, 1).expand(1, 2, 3, 2, 2)
    best = Asked(masks, torch.tensor([[[0.0, 2.0, 1.0], [-1.0, -3.0, -2.0]]])).best()
    assert best[:, 0, 0].tolist() == [1.0, 3.0]


def test_positions_are_resized_to_the_grid_without_dinos_offset(network):
    """At another size, tokens are those of the positions resized by plain bicubic interpolation."""
    encoder, image = network.encoder, STATISTICS.normalise(pictures((32, 56)))
    plane = encoder.pos_embed[:, 1:].unflatten(1, (5, 5)).permute(0, 3, 1, 2)
    resized = F.interpolate(plane, size=(4, 7), mode="bicubic", align_corners=False)
    with torch.inference_mode():
        tokens, grid = network.patch_tokens(image)
        placed = (encoder.patch_embed.proj(image) + resized).flatten(2).transpose(1, 2)
        x = torch.cat([encoder.cls_token + encoder.pos_embed[:, :1], placed], dim=1)
        by_hand = encoder.norm(encoder.blocks(x))[:, 1:]
    assert grid == (4, 7)
    assert POSITIONS.offset == 0
    assert torch.allclose(tokens, by_hand, atol=TOLERANCE)


@pytest.mark.parametrize("size", [(40, 40), (33, 50), (1, 17)])
def test_a_map_is_the_best_mask_blown_up_four_times_and_cut(network, size):
    image = pictures(size)
    with torch.inference_mode():
        best = network(image).best()[0].double().numpy()
    expected = plain_saliency.bilinear(best[None], 4)[0][: size[0], : size[1]]
    assert np.abs(selfmask(network).read(image)[0].numpy() - expected).max() < TOLERANCE


def test_an_archive_mask_goes_through_the_solver_at_a_fixed_size_and_back(network):
    image = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    own = selfmask(network, archive_side=50)
    mask = own.read(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0].numpy() > 0.5
    assert np.array_equal(own.archive_mask(image), solve(image, mask.astype(float)) > 0.5)
    doubled = selfmask(network, archive_side=100).archive_mask(image)
    assert (doubled.shape, doubled.dtype) == ((50, 80), bool)


def test_an_unknown_precision_is_refused(network):
    with pytest.raises(WordmaskError, match="fp16"):
        SelfMask(network, precision="fp16")


@pytest.mark.parametrize("seed", range(3))
def test_losses_equal_the_loops(seed):
    chance = torch.Generator().manual_seed(seed)
    masks = torch.rand(2, 3, 4, 6, 7, generator=chance)
    objectness = torch.randn(2, 3, 4, generator=chance)
    targets = torch.rand(3, 6, 7, generator=chance) < 0.3
    targets[1] = False
    parts = selfmask_losses(masks, objectness, targets)
    dice, ranking = plain_saliency.selfmask_loss(*(given.double().numpy() for given in (masks, objectness, targets)))
    assert abs(parts["dice"].item() - dice) < TOLERANCE * dice
    assert abs(parts["ranking"].item() - ranking) < TOLERANCE * max(ranking, 1)
    nothing = selfmask_losses(masks, objectness, torch.zeros_like(targets))  # without any object nothing is taught
    assert nothing["dice"] == nothing["ranking"] == 0


def test_masks_are_compared_at_the_targets_size():
    masks = torch.rand(1, 1, 2, 5, 5)
    targets = torch.rand(1, 20, 20) < 0.5
    large = F.interpolate(masks[0], (20, 20), mode="bilinear", align_corners=False)
    expected = dice_losses(large.flatten(2), targets.flatten(1)[:, None].float()).sum()
    assert torch.allclose(selfmask_losses(masks, torch.zeros(1, 1, 2), targets)["dice"], expected)


def test_a_perfect_mask_costs_nothing_and_an_empty_one_of_nothing_neither():
    target = torch.tensor([0.0, 1.0, 1.0])
    assert dice_losses(target, target).item() == pytest.approx(0)
    assert dice_losses(torch.zeros(3), torch.zeros(3)).item() == pytest.approx(0)


def test_ranking_asks_for_nothing_where_the_better_is_the_surer():
    dice = torch.tensor([0.1, 0.5, 0.9])
    assert ranking_loss(torch.tensor([0.9, 0.5, 0.1]), dice) == 0
    assert ranking_loss(torch.tensor([0.1, 0.5, 0.9]), dice).item() == pytest.approx(0.4 + 0.8 + 0.4)
    assert ranking_loss(torch.tensor([0.1, 0.9]), torch.tensor([0.5, 0.5])) == 0
    scores = torch.tensor([0.2, 0.6], requires_grad=True)
    ranking_loss(scores, dice[[0, 2]]).backward()
    assert scores.grad.tolist() == [-1.0, 1.0]  # the better becomes surer


def test_ranking_does_not_move_the_masks():
    masks = torch.rand(1, 2, 3, 4, 4, requires_grad=True)
    objectness = torch.randn(1, 2, 3, requires_grad=True)
    selfmask_losses(masks, objectness, torch.rand(2, 4, 4) < 0.5)["ranking"].backward()
    assert masks.grad is None
    assert objectness.grad.abs().sum() > 0


def test_a_world_network_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    with pytest.raises(WorldModelError, match="train-selfmask"):
        load_network("world")


def test_a_network_on_the_worlds_untouched_dino_does_not_bring_it_again(tmp_path):
    torch.manual_seed(0)
    network = new_network(world_dino(), SelfMaskTraining(tmp_path, tmp_path, queries=3, layers=1)).eval()
    write_network(tmp_path / "small.safetensors", network, encoder="world/dino")
    write_network(tmp_path / "whole.safetensors", network)
    assert not any(name.startswith("encoder.") for name in load_file(tmp_path / "small.safetensors"))
    images = torch.rand(1, 3, 32, 40)
    small, whole = (load_network(tmp_path / f"{which}.safetensors").eval()(images) for which in ("small", "whole"))
    assert torch.equal(small.masks, whole.masks)
    with torch.no_grad():
        network.encoder.norm.bias += 1
    write_network(tmp_path / "other.safetensors", network, encoder="world/dino")
    with pytest.raises(SaliencyError, match="another DINO"):
        load_network(tmp_path / "other.safetensors")
