"""The published architectures at full size: random weights, written in the published formats, loaded back through the
front door, and read against the formulas. What passes here passes with the real files."""

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

import wordmask
from support import plain_vit
from wordmask.compute import Compute
from wordmask.encoders.clip import ClipError
from wordmask.encoders.clip_building import build_clip, load_clip
from wordmask.encoders.timm_building import load_dino
from wordmask.pictures.images import to_tensor
from wordmask.weights.loading import WeightsError

pytestmark = pytest.mark.slow
TOLERANCE = 1e-5


def picture(height, width):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def saved(state, file):
    """As on the hub: safetensors."""
    safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, file)
    return file


def pickled(state, file):
    torch.save(state, file)
    return file


def activation(clip):
    return type(clip.transformer.resblocks[0].mlp.gelu).__name__


def nearly_the_same(read):
    """What is read in bf16 and in fp32."""
    full, half = (read(Compute("cpu", precision)) for precision in ("fp32", "bf16"))
    return torch.nn.functional.cosine_similarity(full, half, dim=1).min() > 0.99


@pytest.fixture(scope="module")
def vit_b_16():
    torch.manual_seed(0)
    return build_clip("ViT-B-16").eval()


@pytest.fixture(scope="module")
def vit_b_16_file(vit_b_16, tmp_path_factory):
    return saved(vit_b_16.state_dict(), tmp_path_factory.mktemp("clip") / "open_clip_model.safetensors")


@pytest.mark.parametrize("size", [(224, 224), (150, 260)])
def test_vit_b_16_reads_as_the_formula_says(vit_b_16_file, vit_b_16, size):
    encoder = load_clip("ViT-B-16", vit_b_16_file)
    image = picture(*size)
    read = encoder.dense(image, keys=True, ln_2=[-3])
    values, keys, seconds = plain_vit.maskclip_vit(
        plain_vit.arrays_of(vit_b_16.visual),
        encoder.statistics.normalise(image[0]).double().numpy(),
        patch=16,
        native=(14, 14),
        heads=12,
        layers=12,
        residual=True,
    )
    for ours, expected in ((read.values, values), (read.keys, keys), (read.ln_2[-3], seconds[9])):
        assert np.abs(ours[0].numpy() - expected).max() < TOLERANCE


def test_clip_loads_from_open_clip_s_training_checkpoints(vit_b_16, tmp_path):
    """{"epoch", "state_dict"} with the "module." of a data-parallel run, as a pickle."""
    state = {f"module.{key}": value for key, value in vit_b_16.state_dict().items()}
    encoder = load_clip("ViT-B-16", pickled({"epoch": 32, "state_dict": state}, tmp_path / "epoch_32.pt"))
    for key, value in encoder.model.state_dict().items():
        assert torch.equal(value, vit_b_16.state_dict()[key])


def test_openai_s_extra_numbers_and_half_precision_are_understood(vit_b_16, tmp_path):
    state = {key: value.half() if value.ndim > 1 else value for key, value in vit_b_16.state_dict().items()}
    state |= {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(9)}
    visual = load_clip("ViT-B-16", saved(state, tmp_path / "openai.safetensors")).model.visual
    assert activation(visual) == "QuickGELU"  # nobody said so, but the extra numbers are OpenAI's alone
    assert visual.proj.dtype == torch.float32
    assert torch.equal(visual.proj, vit_b_16.visual.proj.half().float())


def test_bf16_halves_the_weights_and_says_nearly_the_same(vit_b_16_file):
    assert nearly_the_same(lambda how: load_clip("ViT-B-16", vit_b_16_file, how).dense(picture(224, 160)).values)
    half = load_clip("ViT-B-16", vit_b_16_file, Compute("cpu", "bf16"))
    assert half.model.visual.conv1.weight.dtype == torch.bfloat16


def test_weights_of_another_architecture_are_refused_with_their_keys(vit_b_16_file):
    with pytest.raises(WeightsError, match=r"(?s)CLIP ViT-B-32.*visual\.conv1\.weight"):
        load_clip("ViT-B-32", vit_b_16_file)


def test_the_whole_segmenter_runs_from_a_file_of_weights(vit_b_16_file, tmp_path):
    chosen = {"clip": "ViT-B-16", "templates": "photo", "device": "cpu", "precision": "fp32"}
    segmenter = wordmask.load("maskclip", clip_weights=vit_b_16_file, **chosen)
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    result = segmenter.segment(image, ["dog", "grass", "background"])
    assert result.labels.shape == (300, 400)
    left = segmenter.clip.dense(to_tensor(image, (448, 597))[None, :, :, :448]).values
    text = segmenter.embed(wordmask.Vocabulary.of(["dog", "grass", "background"]))
    probabilities = (100 * text.cosines(left)).softmax(dim=1)
    at_the_left_edge = torch.nn.functional.interpolate(probabilities, size=(448, 448), mode="bilinear")[0, :, 224, 5]
    row, column = int(224.5 * 300 / 448), int(5.5 * 400 / 597)
    assert abs(at_the_left_edge.max() - result.scores[row, column]) < 0.02


def test_catalogue_names_bring_what_is_known_of_them(vit_b_16_file, monkeypatch):
    monkeypatch.setattr("wordmask.encoders.clip_building.resolve", lambda source: vit_b_16_file)
    for name, known in (("clip-vit-b-16-openai", "QuickGELU"), ("clip-vit-b-16-laion2b", "GELU")):
        assert activation(load_clip("ViT-B-16", name).model.visual) == known
    with pytest.raises(ClipError, match="clip-vit-b-16-openai is not made for ViT-B-32"):
        load_clip("ViT-B-32", "clip-vit-b-16-openai")


def test_large_clips_have_the_published_shapes():
    """L/14 at both sizes: quick GELU, 16 and 24 patches a side, 24 blocks; built without memory."""
    with torch.device("meta"):
        for name, side in (("ViT-L-14", 16), ("ViT-L-14-336", 24)):
            tower = build_clip(name, quick_gelu=True, device="meta").visual
            assert (tower.grid_size, len(tower.transformer.resblocks)) == ((side, side), 24)
            assert activation(tower) == "QuickGELU"


@pytest.mark.parametrize(("name", "width", "size"), [("RN50", 1024, 224), ("RN50x16", 768, 384)])
def test_clip_resnets_load_and_read_as_their_pool_says(tmp_path, name, width, size):
    torch.manual_seed(0)
    model = build_clip(name, quick_gelu=True).eval()
    encoder = load_clip(name, saved(model.state_dict(), tmp_path / "open_clip_model.safetensors"), quick_gelu=True)
    image = picture(size, size)
    read = encoder.dense(image)
    assert read.values.shape == (1, width, size // 32, size // 32)
    tower, p = model.visual, plain_vit.arrays_of(model.visual.attnpool)
    with torch.inference_mode():
        x = encoder.statistics.normalise(image)
        x = tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.stem(x)))))[0].double().numpy()
        theirs = model.encode_image(encoder.statistics.normalise(image), normalize=True)
    v = np.einsum("oc,chw->ohw", p["v_proj.weight"], x) + p["v_proj.bias"][:, None, None]
    values = np.einsum("oc,chw->ohw", p["c_proj.weight"], v) + p["c_proj.bias"][:, None, None]
    assert np.abs(read.values[0].numpy() - values).max() < TOLERANCE * max(1, np.abs(values).max())
    assert torch.allclose(encoder.encode_image(image), theirs, atol=TOLERANCE)


@pytest.fixture(scope="module")
def dino_s_8():
    torch.manual_seed(0)
    return VisionTransformer(img_size=224, patch_size=8, embed_dim=384, depth=12, num_heads=6, num_classes=0).eval()


def test_dino_s_8_loads_from_its_authors_file_and_reads_as_the_formula_says(dino_s_8, tmp_path):
    """dino_deitsmall8_300ep_pretrain.pth: a bare backbone, pickled; its names are the ones `timm` took over."""
    encoder = load_dino("vit_small_patch8_224.dino", pickled(dino_s_8.state_dict(), tmp_path / "dino.pth"))
    image = picture(96, 120)
    normalised = encoder.statistics.normalise(image[0]).double().numpy()
    arrays, shape = plain_vit.arrays_of(dino_s_8), {"patch": 8, "native": (28, 28), "heads": 6, "layers": 12}
    assert plain_vit.farthest_from_dino(encoder(image), 0, arrays, normalised, **shape) < TOLERANCE


def test_dino_in_bf16_says_nearly_the_same(dino_s_8, tmp_path):
    file = pickled(dino_s_8.state_dict(), tmp_path / "dino.pth")
    assert nearly_the_same(lambda c: load_dino("vit_small_patch8_224.dino", file, c)(picture(96, 120)).key_maps())


def test_dino_loads_from_a_full_training_checkpoint_and_from_timm_s_file(dino_s_8, tmp_path):
    """{"student", "teacher", ...}: the teacher is what is used, its projection head is not."""
    backbone = {f"backbone.{key}": value for key, value in dino_s_8.state_dict().items()}
    head = {"head.mlp.0.weight": torch.zeros(4, 4), "head.last_layer.weight_v": torch.zeros(4, 4)}
    student = {f"module.{key}": torch.zeros_like(value) for key, value in (backbone | head).items()}
    checkpoint = {"student": student, "teacher": backbone | head, "epoch": 300}
    for file in (
        pickled(checkpoint, tmp_path / "dino_deitsmall8_300ep_pretrain_full_checkpoint.pth"),
        saved(dino_s_8.state_dict(), tmp_path / "model.safetensors"),
    ):
        model = load_dino("vit_small_patch8_224.dino", file).model
        assert torch.equal(model.pos_embed, dino_s_8.pos_embed)
        assert torch.equal(model.blocks[11].attn.qkv.weight, dino_s_8.blocks[11].attn.qkv.weight)


def test_dinov2_loads_from_its_authors_file(tmp_path):
    """dinov2_vits14_pretrain.pth carries a mask token and full-size positions."""
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch14_dinov2.lvd142m", pretrained=False, num_classes=0)
    file = pickled({**model.state_dict(), "mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2_vits14_pretrain.pth")
    encoder = load_dino("vit_small_patch14_dinov2.lvd142m", file)
    image = picture(518, 518)
    with torch.inference_mode():
        theirs = model.eval().forward_features(encoder.statistics.normalise(image))
    read = encoder(image)
    assert read.grid == (37, 37)
    assert torch.allclose(read.cls, theirs[:, 0], atol=TOLERANCE)


def test_dinov3_loads_from_its_authors_file(tmp_path):
    """DINOv3's own names: storage_tokens, qkv with a masked bias, ls1.gamma, rope_embed.periods."""
    torch.manual_seed(0)
    name = "vit_small_patch16_dinov3.lvd1689m"
    model = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    state = {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.zeros(16)}
    for key, value in model.state_dict().items():
        key = key.replace("reg_token", "storage_tokens").replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        state[key] = value
        if key.endswith("attn.qkv.weight"):
            for kind in ("bias", "bias_mask"):
                state[key.replace("weight", kind)] = torch.zeros(len(value))
    encoder = load_dino(name, pickled(state, tmp_path / "dinov3_vits16_pretrain.pth"))
    image = picture(64, 96)
    with torch.inference_mode():
        expected = model.forward_features(encoder.statistics.normalise(image))
    assert torch.allclose(encoder(image).cls, expected[:, 0], atol=TOLERANCE)
