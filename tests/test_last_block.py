"""SCLIP, ClearCLIP and NACLIP as whole methods, by the book; readings of the last block alone are in test_readings."""

import numpy as np
import open_clip
import pytest
import torch

from support import plain_last_block, plain_patch_cosines, plain_vit
from support.plain_windows import TOLERANCE, picture
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, small_clip
from wordmask.benchmarks.readers import READERS
from wordmask.encoders.clip_dense import NotDenseError
from wordmask.methods import methods_of, settings_of
from wordmask.names.vocabulary import Vocabulary
from wordmask.plugins import named
from wordmask.segmenters import clearclip, naclip, resclip, sc_clip, sclip
from wordmask.segmenters.sclip import Sclip

SHAPE = {"patch": PATCH, "native": NATIVE, "heads": HEADS, "layers": LAYERS}
PHRASES, OWNER = ["sky", "wall", "person", "bus", "traffic light"], [0, 0, 1, 1, 2]
NAMES = Vocabulary.of({"background": {"instead": ["sky", "wall"]}, "person": ["bus"], "traffic light": None})
SMALL = {"templates": "photo", "shorter_side": 40, "window": 32, "stride": 16}
FAMILY = {"sclip": sclip, "clearclip": clearclip, "naclip": naclip, "sc-clip": sc_clip, "resclip": resclip}
THREE = ["sclip", "clearclip", "naclip"]


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def built(clip, name, **changes):
    chosen = named(methods_of("segmenter")[name].at)
    return chosen(clip, chosen.Settings(**{**SMALL, **changes}))


@pytest.mark.parametrize("name", THREE)
def test_a_method_equals_its_steps_by_the_book(clip, name):
    image, tower = picture(30, 47), plain_vit.arrays_of(clip.model.visual)
    options = {"scale": 4.0, "background_threshold": 0.21}
    own = built(clip, name, **options)
    cosines = plain_patch_cosines.cosines(
        clip,
        image,
        PHRASES,
        lambda window: plain_last_block.read(name, tower, whole_patches(window), **SHAPE),
        resized=(40, 63),
        multiple=PATCH if name == "clearclip" else None,
        refined=name == "naclip",
    )
    labels, names = plain_patch_cosines.decide(cosines, OWNER, scale=4.0, threshold=0.21)
    found = own.segment(image, NAMES)
    best = names.max(axis=-1)
    expected = np.where((labels == 0) & (names.argmax(axis=-1) != 0), 1 - best, best)
    sure = np.abs(best - 0.21) > 1e-4
    assert np.abs(found.scores - expected)[sure].max() < TOLERANCE
    assert (found.labels == labels)[sure].mean() > 0.99


def whole_patches(image):
    return image[:, : image.shape[1] // PATCH * PATCH, : image.shape[2] // PATCH * PATCH]


def test_their_papers_settings_are_the_defaults():
    size = ("shorter_side", "longest_side", "window", "stride")
    for name, told in {
        "sclip": ((336, 2048, 224, 112), 40.0, None, False),
        "clearclip": ((448, 2048, 448, 224), 50.0, "patch", False),
        "naclip": ((336, 2048, 224, 112), 40.0, None, True),
        "sc-clip": ((336, 2048, 224, 112), 40.0, None, False),
        "resclip": ((336, 2048, 224, 112), 40.0, None, False),
    }.items():
        own = settings_of("segmenter", name)
        found = tuple(getattr(own, key) for key in size)
        assert (found, own.scale, own.pad_multiple, own.pamr) == told, name
        assert (own.clip, own.templates, own.refine) == ("ViT-B-16/openai", "imagenet-80", "none")


def test_openai_s_weights_are_read_with_the_quick_gelu():
    """An architecture's name says nothing of it: `open_clip` knows by the tag."""
    assert open_clip.get_pretrained_cfg("ViT-B-16", "openai")["quick_gelu"]


@pytest.mark.parametrize("name", FAMILY)
def test_what_is_published_for_a_benchmark_is_a_change_of_settings(name):
    for benchmark, settings in FAMILY[name].PUBLISHED.items():
        assert benchmark in READERS
        assert settings_of("segmenter", name, **settings) != settings_of("segmenter", name)


@pytest.mark.parametrize("name", THREE)
def test_a_window_does_not_depend_on_the_others_of_a_batch(clip, name):
    own, windows = built(clip, name), torch.rand(3, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        together = own.features(windows)
        alone = torch.cat([own.features(window[None]) for window in windows])
    assert torch.allclose(together, alone, atol=TOLERANCE)


SHALLOW = {
    "sc-clip": {"middle_block": 1, "low_block": 0, "levels": (0, 3), "anomalies": 0.0},
    "resclip": {"middle_blocks": (1, 3), "feedback_share": 0.0},
}
"""Of a tower with four blocks; and nothing that may turn over with a rounding, as which patches are anomalies."""


@pytest.mark.parametrize("name", FAMILY)
def test_bf16_reads_nearly_the_same(clip, name):
    half = small_clip()
    open_clip.convert_weights_to_lp(half.model, dtype=torch.bfloat16)
    half = type(half)(half.model, half.tokenizer, name="half")
    windows = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        a, b = (built(each, name, **SHALLOW.get(name, {})).read(windows)[0] for each in (clip, half))
    assert b.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(a, b, dim=1).min() > 0.99


def test_a_resnet_is_refused(clip):
    tower = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64}
    model = open_clip.CLIP(24, tower, {"context_length": 77, "width": 32, "heads": 2, "layers": 1})
    resnet = type(clip)(model, clip.tokenizer, name="small resnet")
    with pytest.raises(NotDenseError, match="small resnet is a ResNet"):
        Sclip(resnet, sclip.SclipSettings(**SMALL)).segment(picture(64, 64), ["dog"])
