"""ProxyCLIP against its equations, on a small CLIP and small proxies with random weights."""

import numpy as np
import pytest
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from support import plain_patch_cosines, plain_vit
from support.plain_windows import TOLERANCE, bilinear, picture
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, small_clip
from support.small_dino import HEADS as DINO_HEADS
from support.small_dino import LAYERS as DINO_LAYERS
from support.small_dino import small_dino, stirred
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.statistics import IMAGENET
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.proxyclip import ProxyClip, ProxyClipSettings, proxy_attention

PHRASES = ["sky", "wall", "tree", "person", "bus", "traffic light"]
OWNER = [0, 0, 0, 1, 1, 2]
NAMES = Vocabulary.of(
    {"background": {"instead": ["sky", "wall", "tree"]}, "person": ["bus"], "traffic light": None},
)
SMALL = {"templates": "photo", "shorter_side": None, "window": 32, "stride": 16}
BETA, GAMMA = 1.2, 3.0


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def attention(features):
    """Equation 5 in loops: features (D, h, w) -> (N, N)."""
    vectors = features.reshape(len(features), -1).T
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    count = len(vectors)
    likeness = np.array([[vectors[i] @ vectors[j] for j in range(count)] for i in range(count)])
    mean = likeness.sum() / count**2
    weights = np.zeros_like(likeness)
    for i, row in enumerate(likeness):
        kept = [(j, np.exp(GAMMA * (s - BETA * mean))) for j, s in enumerate(row) if s >= BETA * mean]
        total = sum(weight for _, weight in kept)
        for j, weight in kept:
            weights[i, j] = weight / total
    return weights


def plain_features(clip, proxy):
    """What is found in a window that is normalised for CLIP: (3, h, w) -> (D, H, W)."""
    tower = plain_vit.arrays_of(clip.model.visual)
    mean, std = (np.array(part)[:, None, None] for part in (clip.statistics.mean, clip.statistics.std))
    other_mean, other_std = (np.array(part)[:, None, None] for part in (IMAGENET.mean, IMAGENET.std))

    def read(image):
        pieces = [side // PATCH * PATCH for side in image.shape[1:]]
        x, grid = embedded(tower, image[:, : pieces[0], : pieces[1]])
        for n in range(LAYERS - 1):
            x, _ = plain_vit.clip_block(tower, n, x, HEADS, plain_vit.gelu)
        at = f"transformer.resblocks.{LAYERS - 1}."
        normed = plain_vit.layer_norm(x, tower[at + "ln_1.weight"], tower[at + "ln_1.bias"], 1e-5)
        qkv = normed @ tower[at + "attn.in_proj_weight"].T + tower[at + "attn.in_proj_bias"]
        values = np.split(qkv, 3, axis=1)[2][1:].reshape(*grid, -1)
        size = proxy.patch_size
        colours = (image * std + mean - other_mean) / other_std
        whole = [side // size * size for side in image.shape[1:]]
        alike = plain_vit.dino(
            plain_vit.arrays_of(proxy.model),
            colours[:, : whole[0], : whole[1]],
            patch=size,
            native=(32 // size, 32 // size),
            heads=DINO_HEADS,
            layers=DINO_LAYERS,
        )[plain_vit.READ_OUTS.index("tokens")]
        mixed = attention(alike) @ bilinear(values, alike.shape[1:]).reshape(alike[0].size, -1)
        out = mixed @ tower[at + "attn.out_proj.weight"].T + tower[at + "attn.out_proj.bias"]
        out = plain_vit.layer_norm(out, tower["ln_post.weight"], tower["ln_post.bias"], 1e-5) @ tower["proj"]
        return plain_vit.to_map(out, alike.shape[1:])

    return read


def embedded(tower, image):
    """CLIP's tokens, its positions resized with 0.1 on the grid, which moves them by a hair."""
    h, w = (side // PATCH for side in image.shape[1:])
    positions = tower["positional_embedding"]
    plane = positions[1:].reshape(*NATIVE, -1)
    if (h, w) != NATIVE:
        scale = [old / (new + 0.1) for old, new in zip(NATIVE, (h, w), strict=True)]
        plane = plain_vit.bicubic(plane, (h, w), scale)
    kernel = tower["conv1.weight"].reshape(len(tower["conv1.weight"]), -1)
    tokens = plain_vit.patches_of(image, PATCH) @ kernel.T + plane
    x = np.concatenate([(tower["class_embedding"] + positions[0])[None], tokens.reshape(h * w, -1)])
    return plain_vit.layer_norm(x, tower["ln_pre.weight"], tower["ln_pre.bias"], 1e-5), (h, w)


@pytest.mark.parametrize("size", [(32, 32), (40, 72), (90, 33), (20, 26)])
@pytest.mark.parametrize(("patch", "multiple"), [(4, 8), (8, 8), (16, 16), (4, 28)])
def test_labels_and_probabilities_equal_the_method_by_the_book(clip, size, patch, multiple):
    """Proxies with finer patches than CLIP's, with the same, with coarser; 28 is no multiple of CLIP's 8, so that CLIP
    looks at whole patches alone."""
    proxy, image = small_dino(patch, 32 // patch), picture(*size)
    settings = ProxyClipSettings(**SMALL, pad_multiple=multiple, background_threshold=0.4)
    found = ProxyClip(clip, proxy, settings).segment(image, NAMES)
    own = plain_patch_cosines.cosines(clip, image, PHRASES, plain_features(clip, proxy), multiple=multiple)
    labels, names = plain_patch_cosines.decide(own, OWNER, threshold=0.4)
    ordered = np.sort(names, axis=-1)
    clear = (ordered[..., -1] - ordered[..., -2] > 1e-4) & (np.abs(ordered[..., -1] - 0.4) > 1e-4)
    assert clear.mean() > 0.5
    assert np.array_equal(found.labels[clear], labels[clear])
    sure = clear & (ordered[..., -1] >= 0.4)
    assert np.abs(found.scores - names.max(axis=-1))[sure].max(initial=0) < TOLERANCE


def test_the_mean_likeness_is_a_window_s_own_whatever_its_company(clip):
    one = ProxyClip(clip, small_dino(4, 8), ProxyClipSettings(**SMALL, pad_multiple=8))
    images = [picture(32, 32), picture(48, 64, 1), np.full((32, 32, 3), 90, np.uint8), picture(20, 26, 2)]
    alone = [one.segment(image, NAMES) for image in images]
    for own, other in zip(alone, one.segment_many(images, NAMES, batch_size=4), strict=True):
        assert np.abs(own.scores - other.scores).max() < TOLERANCE


def test_patches_less_alike_than_most_are_not_attended_to():
    features = torch.tensor([[1.0, 1.0, 0.1, 0.1], [0.0, 0.2, 1.0, 1.0]]).view(2, 2, 2)
    weights = proxy_attention(features, BETA, GAMMA)
    assert torch.allclose(weights.double(), torch.from_numpy(attention(features.double().numpy())), atol=1e-6)
    assert torch.equal(weights > 0, torch.block_diag(torch.ones(2, 2), torch.ones(2, 2)) > 0)


def test_a_picture_of_one_colour_has_an_answer():
    """All likenesses are 1, and none is 1.2 times their mean: the formula alone would divide by nothing."""
    assert torch.equal(proxy_attention(torch.ones(3, 2, 2), BETA, GAMMA), torch.eye(4))


def with_registers():
    return VisionTransformer(
        img_size=28, patch_size=7, embed_dim=24, depth=2, num_heads=2, num_classes=0, dynamic_img_size=True,
        reg_tokens=4, no_embed_class=True, init_values=1e-1,
    )  # fmt: skip


def with_rotary_positions():
    return Eva(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0, dynamic_img_size=True,
        use_abs_pos_emb=False, use_rot_pos_emb=True, rope_type="dinov3", rope_rotate_half=True, num_reg_tokens=4,
        qkv_bias=False, init_values=1e-1, global_pool="token",
    )  # fmt: skip


@pytest.mark.parametrize("family", [with_registers, with_rotary_positions])
def test_any_self_supervised_transformer_serves(clip, family):
    torch.manual_seed(0)
    model = stirred(family())
    model.pretrained_cfg = {}
    proxy = DinoEncoder(model, name=family.__name__)
    one = ProxyClip(clip, proxy, ProxyClipSettings(**SMALL, pad_multiple=56))
    image = picture(40, 72)
    assert one.segment(image, NAMES).labels.shape == (40, 72)
    features = one.features(torch.rand(2, 3, 56, 56))
    assert features.shape == (2, 24, 56 // proxy.patch_size, 56 // proxy.patch_size)


def test_the_papers_settings_are_the_default():
    settings = ProxyClipSettings()
    assert (settings.clip, settings.proxy) == ("ViT-B-16/openai", "vit_base_patch8_224.dino")
    assert (settings.shorter_side, settings.window, settings.stride, settings.pad_multiple) == (336, 336, 112, 56)
    assert (settings.beta, settings.gamma, settings.scale, settings.templates) == (1.2, 3.0, 40.0, "imagenet-80")
    assert (settings.background_threshold, settings.refine, settings.pamr) == (None, "none", False)
