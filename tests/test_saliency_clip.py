"""SelfMask + CLIP: the mask is the saliency's, the name is CLIP's, and both are what their formulas say."""

import numpy as np
import pytest
import torch
from PIL import Image

from support.plain_windows import picture, text_vectors
from support.small_clip import small_clip
from wordmask.pictures.images import centre_view
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.refinement.pamr import pamr
from wordmask.segmenters import load
from wordmask.segmenters.saliency_clip import SaliencyClip, SaliencyClipSettings

NAMES = ["dog", "background", "grass", "traffic light"]
SIDE = 32


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def blob(images):
    """Salient in a box of the left half, and 0.9 sure of it."""
    maps = [np.full(image.shape[:2], 0.2, np.float32) for image in images]
    for soft in maps:
        height, width = soft.shape
        soft[height // 4 : height // 2, width // 8 : width // 2] = 0.9
    return maps


def nothing(images):
    return [np.zeros(image.shape[:2], np.float32) for image in images]


def segmenter(clip, salient=blob, **changes):
    return SaliencyClip(clip, salient, SaliencyClipSettings(**{"templates": "photo", "refine": "none", **changes}))


def chances(clip, view, names=("dog", "grass", "traffic light")):
    """Softmax of 100 cosines, of one picture (h, w, 3) that Pillow resizes to CLIP's size."""
    embedding = clip.encode_image(torch.from_numpy(view).permute(2, 0, 1)[None].float() / 255)[0].double().numpy()
    powers = 100 * text_vectors(clip, names) @ embedding
    powers = np.exp(powers - powers.max())
    return powers / powers.sum()


def resized(image, width=SIDE, height=SIDE):
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def test_the_salient_part_bears_clip_s_name_for_the_picture_and_all_else_is_background(clip):
    image = picture(40, 60)
    result = segmenter(clip).segment(image, NAMES, fill=True)
    chance = chances(clip, resized(image, 48, 32)[:, 8:40])  # the shorter side resized, the middle cut out
    mask = blob([image])[0] > 0.5
    assert np.array_equal(result.labels, np.where(mask, [0, 2, 3][chance.argmax()], 1))
    assert np.abs(result.scores - np.where(mask, 0.9 * chance.max(), 0.8)).max() < 2e-3  # Pillow's rounding of bytes
    whole = segmenter(clip).segment(image, ["dog", "grass", "traffic light"], fill=True)
    assert (whole.labels == chance.argmax()).all()  # without background the whole picture bears its best name
    assert (segmenter(clip).segment(image, ["background"], fill=True).labels == 0).all()


@pytest.mark.parametrize("named_by", ["crop", "masked"])
def test_a_name_may_be_given_to_the_mask_s_own_box(clip, named_by):
    image = picture(80, 160)
    result = segmenter(clip, named_by=named_by, margin=0.25).segment(image, NAMES, fill=True)
    seen = image.copy()
    if named_by == "masked":
        seen[blob([image])[0] <= 0.5] = np.rint(255 * np.array(clip.statistics.mean))
    chance = chances(clip, resized(seen[20 - 5 : 40 + 5, 20 - 15 : 80 + 15]))
    assert set(np.unique(result.labels)) == {1, [0, 2, 3][chance.argmax()]}
    assert abs(result.scores.max() - max(0.9 * chance.max(), 0.8)) < 2e-3
    # the box's room ends at the picture's border
    result = segmenter(clip, named_by="crop", margin=5).segment(picture(40, 60), NAMES, fill=True)
    assert [0, 2, 3][chances(clip, resized(picture(40, 60))).argmax()] in result.labels


@pytest.mark.parametrize("named_by", ["image", "crop", "masked"])
def test_where_nothing_is_salient_all_is_background(clip, named_by):
    result = segmenter(clip, nothing, named_by=named_by).segment(picture(40, 60), NAMES, fill=True)
    assert (result.labels == 1).all()


def test_the_paper_s_mask_is_the_bilateral_solver_s(clip):
    image = picture(40, 60)
    result = segmenter(clip, refine="solver").segment(image, NAMES, fill=True)
    solved = BilateralGrid(image).solve((blob([image])[0] > 0.5).astype(float)) > 0.5
    assert np.array_equal(result.labels != 1, solved)
    assert SaliencyClipSettings().refine == "solver"


def test_pamr_refines_the_mask_too(clip):
    image = picture(40, 60)
    result = segmenter(clip, refine="pamr").segment(image, NAMES, fill=True)
    soft = torch.from_numpy(blob([image])[0])
    refined = pamr(torch.from_numpy(image).permute(2, 0, 1) / 255, torch.stack([1 - soft, soft]))
    assert np.array_equal(result.labels != 1, (refined[1] > refined[0]).numpy())
    assert ((result.labels != 1) != (soft.numpy() > 0.5)).any()


def test_new_names_cost_no_network(clip, monkeypatch):
    seen = segmenter(clip).look(picture(40, 60))
    monkeypatch.setattr(clip, "encode_image", None)
    assert seen.segment(["cat", "sofa", "background"], fill=True).names == ["cat", "sofa", "background"]


def test_results_do_not_depend_on_the_company_a_picture_keeps(clip, monkeypatch):
    monkeypatch.setattr("wordmask.segmenters.saliency_clip.PICTURES_PER_PASS", 2)
    images = [picture(40, 60), picture(33, 20, 1), picture(1, 1, 2), picture(16, 300, 3), picture(40, 60, 4)]
    method = segmenter(clip)
    alone = [method.segment(image, NAMES, fill=True) for image in images]
    together = list(method.segment_many(images, NAMES, batch_size=5, fill=True))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.labels, other.labels)
        assert np.abs(one.scores - other.scores).max() < 1e-5


def test_a_whole_picture_is_looked_at_as_clip_does():
    image = picture(50, 90)
    view = centre_view(image, (SIDE, SIDE))
    expected = resized(image, 58, 32)[:, 13:45]
    assert view.shape == (3, SIDE, SIDE)
    assert np.abs(255 * view.permute(1, 2, 0).numpy() - expected).max() <= 1


def test_the_method_is_registered_with_both_presets(monkeypatch):
    seen = {}

    class Objects:
        maps = staticmethod(blob)

    def load_method(kind, method, **given):
        seen.update(given, kind=kind, method=method)
        return Objects

    monkeypatch.setattr("wordmask.saliency.load_method", load_method)
    monkeypatch.setattr("wordmask.segmenters.saliency_clip.clip_at", lambda *chosen: small_clip())
    loaded = load("selfmask-clip", preset="world", saliency="found", device="cpu", precision="fp32")
    assert (loaded.method, loaded.preset, loaded.settings.saliency) == ("selfmask-clip", "world", "found")
    assert (seen["kind"], seen["method"], seen["preset"], seen["weights"]) == ("saliency", "found", "world", None)
    assert (str(seen["compute"].device), seen["compute"].precision) == ("cpu", "fp32")
