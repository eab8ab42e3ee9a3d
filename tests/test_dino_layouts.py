"""The published files of the DINO family: what lies in them, key by key, and that each finds its place."""

import pytest
import timm
import torch

from wordmask.encoders import timm_building
from wordmask.encoders.dino import DinoEncoder, position_rule
from wordmask.encoders.grid import DINO_POSITIONS, DINOV2_REGISTER_POSITIONS
from wordmask.encoders.timm_building import build_dino, load_dino
from wordmask.weights.loading import WeightsError

DINO, DINOV2, DINOV3, TIPSV2 = "dino", "dinov2_registers", "dinov3", "tipsv2"
REGISTERS = {DINO: 0, DINOV2: 4, DINOV3: 4, TIPSV2: 1}


def keys_of(family, *, width, depth, patch, places):
    """A file in `timm`'s layout, as it is published: key -> shape."""
    shapes = {
        "cls_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if REGISTERS[family]:
        shapes["reg_token"] = (1, REGISTERS[family], width)
    if family == DINO:  # CLS has a place of its own
        shapes["pos_embed"] = (1, places + 1, width)
    if family in (DINOV2, TIPSV2):  # CLS's place is part of its token
        shapes["pos_embed"] = (1, places, width)
    for n in range(depth):
        at = f"blocks.{n}"
        for norm in ("norm1", "norm2"):
            shapes |= {f"{at}.{norm}.weight": (width,), f"{at}.{norm}.bias": (width,)}
        for name, (rows, columns) in {
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            shapes[f"{at}.{name}.weight"] = (rows, columns)
            if not (family == DINOV3 and name == "attn.qkv"):
                shapes[f"{at}.{name}.bias"] = (rows,)
        scales = {DINO: (), DINOV3: ("gamma_1", "gamma_2")}.get(family, ("ls1.gamma", "ls2.gamma"))
        shapes |= {f"{at}.{scale}": (width,) for scale in scales}
    return shapes


BASE, LARGE = {"width": 768, "depth": 12}, {"width": 1024, "depth": 24}
PUBLISHED = {
    "vit_base_patch8_224.dino": (DINO, {**BASE, "patch": 8, "places": 28**2}),
    "vit_base_patch16_224.dino": (DINO, {**BASE, "patch": 16, "places": 14**2}),
    "vit_base_patch14_reg4_dinov2.lvd142m": (DINOV2, {**BASE, "patch": 14, "places": 37**2}),
    "vit_large_patch14_reg4_dinov2.lvd142m": (DINOV2, {**LARGE, "patch": 14, "places": 37**2}),
    "vit_base_patch16_dinov3.lvd1689m": (DINOV3, {**BASE, "patch": 16, "places": None}),
    "vit_large_patch16_dinov3.lvd1689m": (DINOV3, {**LARGE, "patch": 16, "places": None}),
    "vit_base_patch14_reg1_tipsv2.webli": (TIPSV2, {**BASE, "patch": 14, "places": 32**2}),
    "vit_large_patch14_reg1_tipsv2.webli": (TIPSV2, {**LARGE, "patch": 14, "places": 32**2}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_of_full_size_has_the_keys_of_its_file_and_no_others(name):
    family, shape = PUBLISHED[name]
    with torch.device("meta"):
        model = build_dino(name)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == keys_of(family, **shape)
    assert position_rule(model) == (DINO_POSITIONS if family == DINO else DINOV2_REGISTER_POSITIONS)
    assert model.num_prefix_tokens == 1 + REGISTERS[family]
    usual = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if family != TIPSV2 else ((0, 0, 0), (1, 1, 1))
    statistics = DinoEncoder(model, name=name, device="meta").statistics
    assert (statistics.mean, statistics.std) == usual


SMALL = {"embed_dim": 24, "num_heads": 2, "depth": 2}


@pytest.fixture
def small(monkeypatch):
    """Networks of the published architectures, but small."""
    monkeypatch.setattr(timm_building, "build_dino", lambda name: build_dino(name, **SMALL))


def random_state(family, patch, places):
    shapes = keys_of(family, width=24, depth=2, patch=patch, places=places)
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_finds_its_place(name, small, tmp_path):
    family, shape = PUBLISHED[name]
    state = random_state(family, shape["patch"], shape["places"])
    torch.save(state, tmp_path / "file.pth")
    loaded = load_dino(name, tmp_path / "file.pth").model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    torch.save({key: value for key, value in state.items() if "blocks.1.mlp" not in key}, tmp_path / "torn.pth")
    with pytest.raises(WeightsError, match=r"blocks\.1\.mlp"):
        load_dino(name, tmp_path / "torn.pth")


def test_the_authors_file_of_dinov2_with_registers_says_the_same(small, tmp_path):
    """dinov2_vitb14_reg4_pretrain.pth: CLS has a place, registers have none, and a token stands for masked patches."""
    name = "vit_base_patch14_reg4_dinov2.lvd142m"
    state = random_state(DINOV2, 14, 37**2)
    theirs = {key: value for key, value in state.items() if key not in ("reg_token", "cls_token", "pos_embed")}
    first = torch.randn(1, 1, 24)
    theirs |= {
        "mask_token": torch.zeros(1, 24),
        "register_tokens": state["reg_token"],
        "cls_token": state["cls_token"] - first,
        "pos_embed": torch.cat([first, state["pos_embed"]], dim=1),
    }
    torch.save(theirs, tmp_path / "file.pth")
    loaded = load_dino(name, tmp_path / "file.pth").model.state_dict()
    assert all(torch.allclose(loaded[key], state[key], atol=1e-6) for key in state)


def test_the_authors_file_of_dinov3_says_the_same(small, tmp_path):
    """dinov3_vitb16_pretrain.pth: the bias of queries, keys and values is there, and masked or zero."""
    name = "vit_base_patch16_dinov3.lvd1689m"
    state = random_state(DINOV3, 16, None)
    renamed = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    theirs = {"mask_token": torch.zeros(1, 24), "rope_embed.periods": torch.zeros(3)}
    for key, value in state.items():
        for own, other in renamed.items():
            key = key.replace(own, other)
        theirs[key] = value
        if key.endswith("attn.qkv.weight"):
            theirs |= {key.replace("weight", kind): torch.zeros(len(value)) for kind in ("bias", "bias_mask")}
    torch.save(theirs, tmp_path / "file.pth")
    loaded = load_dino(name, tmp_path / "file.pth").model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_other_self_supervised_transformers_of_timm_are_read_alike():
    """What is asked of a network is a CLS token and blocks; how it was taught is its own affair."""
    for name in ("vit_base_patch16_224.mae", "vit_base_patch14_dinov2.lvd142m"):
        assert timm.is_model(name)
        with torch.device("meta"):
            model = build_dino(name)
        assert position_rule(model) == DINO_POSITIONS
