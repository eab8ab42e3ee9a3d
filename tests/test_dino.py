"""DINO's read-outs against the papers' formulas in NumPy, and against `timm`'s own forward pass."""

import pytest
import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from support import plain_vit
from support.small_dino import stirred
from wordmask.encoders.dino import DinoEncoder, DinoError
from wordmask.encoders.timm_building import build_dino

PATCH, NATIVE, HEADS, LAYERS = 8, (5, 5), 3, 3
TOLERANCE = 1e-5
SIZES = [(40, 40), (48, 64), (33, 50), (24, 24)]


def vit(**options):
    return VisionTransformer(patch_size=PATCH, num_heads=HEADS, num_classes=0, **options)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    model = vit(img_size=40, embed_dim=48, depth=LAYERS, dynamic_img_size=True)
    model.pretrained_cfg = {}
    return DinoEncoder(stirred(model), name="small")


def pictures(size, count=2):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", SIZES)
def test_every_read_out_equals_the_formula(encoder, size):
    images = pictures(size)
    read, arrays = encoder(images), plain_vit.arrays_of(encoder.model)
    shape = {"patch": PATCH, "native": NATIVE, "heads": HEADS, "layers": LAYERS}
    for place, image in enumerate(images):
        normalised = encoder.statistics.normalise(image).double().numpy()
        assert plain_vit.farthest_from_dino(read, place, arrays, normalised, **shape) < TOLERANCE


def test_maps_lay_the_heads_side_by_side(encoder):
    read = encoder(pictures((48, 64)))
    maps = read.key_maps()
    assert maps.shape == (2, 48, 6, 8)
    assert torch.equal(maps[1, 16 + 5, 2, 3], read.keys[1, 1, 2 * 8 + 3, 5])
    assert torch.equal(read.value_maps()[0, 32, 5, 7], read.values[0, 2, 47, 0])
    assert torch.equal(read.query_maps()[1, 47, 0, 1], read.queries[1, 2, 1, 15])


def test_results_do_not_depend_on_the_batch_or_on_earlier_calls(encoder):
    images = pictures((48, 64), count=4)
    alone = torch.cat([encoder(image[None]).keys for image in images])
    encoder(pictures((96, 24)))
    assert torch.allclose(alone, encoder(images).keys, atol=TOLERANCE)


def test_reading_changes_nothing_in_the_model(encoder):
    before = {key: value.clone() for key, value in encoder.model.state_dict().items()}
    encoder(pictures((96, 24)))
    assert all(torch.equal(before[key], value) for key, value in encoder.model.state_dict().items())


@pytest.mark.parametrize(
    "name",
    [
        "vit_small_patch16_224.dino",
        "vit_small_patch14_dinov2.lvd142m",
        "vit_small_patch14_reg4_dinov2.lvd142m",
        "vit_small_patch16_dinov3.lvd1689m",
        "vit_small_patch16_dinov3_qkvb.lvd1689m",
    ],
)
def test_tokens_equal_timm_at_the_native_size_and_attention_gives_its_output(name):
    """With registers, rotary positions, split biases: the whole family, thin but otherwise as published."""
    torch.manual_seed(0)
    model = stirred(build_dino(name, embed_dim=48, num_heads=3, depth=2)).eval()
    encoder = DinoEncoder(model, name=name)
    size = model.patch_embed.img_size if not isinstance(model, Eva) else (64, 48)
    image = pictures(size, count=1)
    read = encoder(image)
    with torch.inference_mode():
        theirs = model.forward_features(encoder.statistics.normalise(image))
    h, w = read.grid
    assert (h, w) == (size[0] // encoder.patch_size, size[1] // encoder.patch_size)
    expected = theirs[:, model.num_prefix_tokens :].transpose(1, 2).reshape(1, -1, h, w)
    assert torch.allclose(read.tokens, expected, atol=TOLERANCE)
    assert torch.allclose(read.cls, theirs[:, 0], atol=TOLERANCE)
    assert read.keys.shape == read.queries.shape == read.values.shape == (1, 3, h * w, 16)
    logits, attention = attention_seen_from_outside(model, encoder, image)
    assert torch.allclose(read.cls_attention, attention, atol=TOLERANCE)
    assert torch.allclose(read.cls_logits, logits, atol=TOLERANCE)


def attention_seen_from_outside(model, encoder, image):
    """CLS's logits and attention, recovered from `timm`'s own attention layer, which hands its queries and keys to
    PyTorch as it multiplies them; with its values replaced by one-hot rows, what comes out is the softmax itself. Works
    whatever the layer does to queries and keys."""
    attention = model.blocks[-1].attn
    seen = {}
    original = torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v, **kwargs):
        eye = torch.eye(k.shape[-2]).expand(*k.shape[:-1], -1)
        seen["logits"] = (q.double() @ k.double().transpose(-2, -1) / q.shape[-1] ** 0.5).float()
        seen["weights"] = original(q, k, eye, **kwargs)
        return original(q, k, v, **kwargs)

    assert attention.fused_attn
    torch.nn.functional.scaled_dot_product_attention = spy
    try:
        with torch.inference_mode():
            model.forward_features(encoder.statistics.normalise(image))
    finally:
        torch.nn.functional.scaled_dot_product_attention = original
    return tuple(seen[what][:, :, 0, model.num_prefix_tokens :] for what in ("logits", "weights"))


def test_dinov2_with_registers_resizes_positions_with_antialiasing_and_without_the_offset():
    model = build_dino("vit_small_patch14_reg4_dinov2.lvd142m", embed_dim=12, num_heads=2, depth=1, img_size=112)
    encoder = DinoEncoder(stirred(model), name="reg")
    grid = model.pos_embed.reshape(1, 8, 8, 12).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=(4, 5), mode="bicubic", antialias=True)
    images = torch.zeros(1, 3, 56, 70)
    with torch.inference_mode():
        embedded = encoder._embed(images, (4, 5))[:, 5:] - model.patch_embed.proj.bias
    assert torch.allclose(embedded.transpose(1, 2).reshape(1, 12, 4, 5), expected, atol=1e-6)


def test_what_is_no_vision_transformer_is_refused():
    with pytest.raises(DinoError, match="ResNet.*vit_small_patch8_224.dino"):
        DinoEncoder(timm.create_model("resnet18"), name="resnet18")
    with pytest.raises(DinoError, match="'vit_none'"):
        build_dino("vit_none")
    with pytest.raises(DinoError, match="no CLS"):
        DinoEncoder(vit(img_size=32, embed_dim=15, depth=1, class_token=False, global_pool="avg"), name="bare")
