"""CLIP's read-outs against the papers' formulas in NumPy, on small models with random weights."""

import numpy as np
import open_clip
import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet

from support import plain_vit
from support.small_clip import CONTEXT, HEADS, LAYERS, NATIVE, PATCH, small_clip
from wordmask.encoders.clip import ClipEncoder, ClipError
from wordmask.encoders.clip_building import build_clip
from wordmask.encoders.clip_dense import CLEARCLIP, CLIP_DINOISER, MASKCLIP, NotDenseError, key_affinity

SIZES = [(32, 32), (40, 72), (29, 50)]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return small_clip()


def pictures(size, count=2, seed=1):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def normalised(encoder, image):
    return encoder.statistics.normalise(image).double().numpy()


def plain(encoder, image, formula=plain_vit.maskclip_vit, **options):
    grid = {"patch": PATCH, "native": NATIVE, "heads": HEADS, "layers": LAYERS}
    return formula(plain_vit.arrays_of(encoder.model.visual), normalised(encoder, image), **grid, **options)


def theirs_of(encoder, images):
    with torch.inference_mode():
        return encoder.model.encode_image(encoder.statistics.normalise(images), normalize=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("residual", [True, False])
def test_dense_features_equal_the_formula(encoder, size, residual):
    images = pictures(size)
    read = encoder.dense(images, reading=CLIP_DINOISER if residual else MASKCLIP, keys=True, ln_2=range(LAYERS))
    for i, image in enumerate(images):
        values, keys, seconds = plain(encoder, image, residual=residual)
        ours = (read.values[i], read.keys[i], *(read.ln_2[n][i] for n in range(LAYERS)))
        for own, expected in zip(ours, (values, keys, *seconds), strict=True):
            assert np.abs(own.numpy() - expected).max() < TOLERANCE


def test_quick_gelu_is_used_where_the_model_has_it():
    encoder, image = small_clip(quick_gelu=True), pictures((40, 72))[:1]
    quick, exact = (
        plain(encoder, image[0], residual=True, act=act)[0] for act in (plain_vit.quick_gelu, plain_vit.gelu)
    )
    ours = encoder.dense(image).values[0].numpy()
    assert np.abs(ours - quick).max() < TOLERANCE
    assert np.abs(ours - exact).max() > 100 * TOLERANCE


@pytest.mark.parametrize("size", SIZES)
def test_global_embedding_equals_the_formula_at_any_size(encoder, size):
    images = pictures(size)
    ours = encoder.encode_image(images)
    for own, image in zip(ours.numpy(), images, strict=True):
        assert np.abs(own - plain(encoder, image, plain_vit.clip_global)).max() < TOLERANCE
    if size == (32, 32):
        assert torch.allclose(ours, theirs_of(encoder, images), atol=TOLERANCE), "open_clip, at the native size"


def test_key_affinity_is_the_cosine_of_every_pair(encoder):
    keys = encoder.dense(pictures((32, 40)), keys=True).keys
    flat = keys.flatten(2).double()
    expected = torch.nn.functional.cosine_similarity(flat[:, :, :, None], flat[:, :, None], dim=1)
    assert (key_affinity(keys) - expected).abs().max() < TOLERANCE


def test_results_do_not_depend_on_the_batch_or_on_earlier_calls(encoder):
    images = pictures((40, 72), count=5)
    alone = torch.cat([encoder.dense(image[None]).values for image in images])
    encoder.dense(pictures((64, 24)))
    encoder.encode_image(pictures((88, 88)))
    together = encoder.dense(images).values
    assert torch.allclose(alone, together, atol=TOLERANCE)


def test_reading_changes_nothing_in_the_model(encoder):
    before = {key: value.clone() for key, value in encoder.model.state_dict().items()}
    encoder.dense(pictures((40, 72)), keys=True, ln_2=[-3])
    encoder.encode_image(pictures((56, 24)))
    after = encoder.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_blocks_count_from_the_end_and_what_cannot_be_read_is_refused(encoder):
    images = pictures((32, 32))
    read = encoder.dense(images, ln_2=[-3, 1])
    assert torch.equal(read.ln_2[-3], read.ln_2[1])
    with pytest.raises(ValueError, match="4 blocks"):
        encoder.dense(images, ln_2=[4])
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        encoder.dense(images[0])
    with pytest.raises(ClipError, match="longer than the 77 tokens that small reads: '犬犬"):
        encoder.encode_text(["a dog", "犬" * 150])


def test_bf16_reads_nearly_the_same(encoder):
    half = small_clip()
    open_clip.convert_weights_to_lp(half.model, dtype=torch.bfloat16)
    half = ClipEncoder(half.model, half.tokenizer, name="half")
    assert half.dtype == torch.bfloat16
    a, b = (each.dense(pictures((40, 72))).values for each in (encoder, half))
    assert b.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(a, b, dim=1).min() > 0.999


def test_text_equals_open_clip_though_the_context_is_cut_short(encoder):
    prompts = ["a dog", "", "a photo of a very small traffic light in the far corner of a busy street"]
    with torch.inference_mode():
        theirs = encoder.model.encode_text(encoder.tokenizer(prompts), normalize=True)
    assert torch.allclose(encoder.encode_text(prompts, batch_size=2), theirs, atol=TOLERANCE)
    assert encoder.encode_text([]).shape == (0, 24)


def test_text_fingerprint_follows_the_text_tower_its_activation_and_tokenizer_alone():
    one, same, weights, quick, tokenizer = (
        *(small_clip(), small_clip(), small_clip(seed=3), small_clip(quick_gelu=True), small_clip()),
    )
    tokenizer.tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT - 1)
    assert len({each.text_fingerprint for each in (one, weights, quick, tokenizer)}) == 4
    assert one.text_fingerprint == same.text_fingerprint
    with torch.no_grad():
        same.model.visual.proj.add_(1)
    del same.text_fingerprint
    assert one.text_fingerprint == same.text_fingerprint


# ResNets -----------------------------------------------------------------------------------------------------------


TEXT = {"context_length": CONTEXT, "width": 32, "heads": 2, "layers": 1}


def encoder_of(name, kind=open_clip.CLIP, text=TEXT, **vision):
    torch.manual_seed(0)
    tokenizer = open_clip.SimpleTokenizer(context_length=text["context_length"])
    return ClipEncoder(kind(embed_dim=24, vision_cfg=vision, text_cfg=text).eval(), tokenizer, name=name)


@pytest.fixture(scope="module")
def resnet() -> ClipEncoder:
    encoder = encoder_of("small resnet", image_size=64, layers=[1, 1, 1, 1], width=16, head_width=64)
    assert isinstance(encoder.model.visual, ModifiedResNet)
    return encoder


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (70, 50)])
def test_resnet_values_are_the_pool_s_projections_without_positions(resnet, size):
    image = pictures(size, count=1)
    read = resnet.dense(image, keys=True)
    tower, p = resnet.model.visual, plain_vit.arrays_of(resnet.model.visual.attnpool)
    padded = torch.nn.functional.pad(resnet.statistics.normalise(image), (0, -size[1] % 32, 0, -size[0] % 32))
    with torch.inference_mode():
        x = tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.stem(padded)))))[0].double().numpy()
    assert read.values.shape[-2:] == x.shape[1:] == (-(-size[0] // 32), -(-size[1] // 32))
    for i, j in np.ndindex(x.shape[1:]):
        v, key = (p[f"{part}_proj.weight"] @ x[:, i, j] + p[f"{part}_proj.bias"] for part in "vk")
        value = p["c_proj.weight"] @ v + p["c_proj.bias"]
        assert np.abs(read.values[0, :, i, j].numpy() - value).max() < TOLERANCE
        assert np.abs(read.keys[0, :, i, j].numpy() - key).max() < TOLERANCE


def test_resnet_global_embedding_equals_open_clip_at_the_native_size(resnet):
    images = pictures((64, 64))
    assert torch.allclose(resnet.encode_image(images), theirs_of(resnet, images), atol=TOLERANCE)
    assert resnet.encode_image(pictures((96, 128))).shape == (2, 24)


def test_resnet_refuses_what_only_transformers_have(resnet):
    for asked, told in (
        ({"ln_2": [-3]}, "no transformer blocks"),
        ({"reading": CLIP_DINOISER}, "no residual"),
        ({"reading": CLEARCLIP}, "clearclip reads"),
    ):
        with pytest.raises(NotDenseError, match=told):
            resnet.dense(pictures((64, 64)), **asked)
    with pytest.raises(NotDenseError, match="small resnet is a ResNet"):
        resnet.run(pictures((64, 64)))


# Towers that are not dense -----------------------------------------------------------------------------------------


def test_a_timm_tower_gives_global_embeddings_and_says_why_no_masks():
    tower = {"timm_model_name": "resnet18", "image_size": 64, "timm_pool": "avg", "timm_proj": "linear"}
    encoder, images = encoder_of("resnet18 tower", **tower), pictures((64, 64))
    assert encoder.encode_image(images).shape == encoder.encode_text(["a", "b"]).shape == (2, 24)
    with pytest.raises(NotDenseError, match="resnet18 tower.*TimmModel.*ViT-B-16"):
        encoder.dense(images)
    with pytest.raises(ClipError, match="64x64 only, not 32x64"):
        encoder.encode_image(pictures((32, 64)))


VIT = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 1, "head_width": 12}


def test_an_attentional_pool_is_refused_with_its_reason():
    encoder = encoder_of("pooled", **VIT, attentional_pool=True, attn_pooler_heads=4)
    with pytest.raises(NotDenseError, match="learnt query"):
        encoder.dense(pictures((32, 32)))


def test_siglip_s_text_tower_is_read_whole():
    """SigLIP's text tower is not causal, so nothing may be cut; its last token is what counts."""
    text = {**TEXT, "context_length": 16, "no_causal_mask": True, "pool_type": "last", "vocab_size": 49408}
    encoder = encoder_of("siglip-like", open_clip.CustomTextCLIP, text, **VIT)
    prompts = ["a dog", "a photo of a cat"]
    with torch.inference_mode():
        theirs = encoder.model.encode_text(encoder.tokenizer(prompts), normalize=True)
    assert torch.allclose(encoder.encode_text(prompts), theirs, atol=TOLERANCE)


def test_unknown_architectures_and_precisions_are_named():
    with pytest.raises(ClipError, match="'ViT-Z-3'.*ViT-B-16"):
        build_clip("ViT-Z-3")
    with pytest.raises(ClipError, match="'fp8'.*bf16"):
        build_clip("ViT-B-32", precision="fp8")
