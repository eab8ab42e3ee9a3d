"""CLIP-DINOiser against slow loops written from the paper's formulas, on random weights."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

import wordmask
from support import plain_vit
from support.plain_windows import TOLERANCE, picture, text_vectors
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, WIDTH, small_clip
from support.small_dino import stirred
from wordmask.encoders.dino import DinoEncoder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.clip_dinoiser import (
    ClipDinoiser,
    ClipDinoiserSettings,
    DinoiserHeads,
    filter_background,
    guided_pooling,
    load_heads,
)
from wordmask.weights.loading import WeightsError, write_state_dict
from wordmask_world import models
from wordmask_world.models import WorldModelError

NAMES, PARTS = ["dog", "background", "grass"], ("weight", "bias")


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def heads():
    torch.manual_seed(1)
    heads = DinoiserHeads(WIDTH, 16)
    with torch.no_grad():
        heads.bkg_decoder.weight.mul_(20)
        heads.bkg_decoder.bias.zero_()
    return heads


@pytest.fixture(scope="module")
def dino():
    torch.manual_seed(2)
    model = VisionTransformer(img_size=32, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=0)
    model.pretrained_cfg = {}
    return DinoEncoder(stirred(model), name="small")


def settings(**changes):
    return ClipDinoiserSettings(
        **{"templates": "photo", "shorter_side": None, "window": None, "affinity_threshold": 0.2, **changes}
    )


def convolved_3x3(features, weight, bias):
    """(C, h, w) -> (O, h, w), borders repeated: one output at a time."""
    _, h, w = features.shape
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1)), mode="edge")
    out = np.zeros((len(weight), h, w))
    for i, j in np.ndindex(h, w):
        out[:, i, j] = np.tensordot(weight, padded[:, i : i + 3, j : j + 3], axes=3) + bias
    return out


def unit(maps):
    """(C, h, w) -> (C, h * w), each of length 1."""
    flat = maps.reshape(len(maps), -1)
    return flat / np.linalg.norm(flat, axis=0, keepdims=True)


def by_the_book(clip, heads, image, names=NAMES, *, affinity="trained", filtered=True, dino=None):
    """Probabilities (h, w, K) on the grid of patches, equations 1 and 2 and section 3.5 in loops."""
    pixels = clip.statistics.normalise(to_tensor(image)).double().numpy()
    grid = {"patch": PATCH, "native": NATIVE, "heads": HEADS, "layers": LAYERS, "residual": True}
    values, keys, seconds = plain_vit.maskclip_vit(plain_vit.arrays_of(clip.model.visual), pixels, **grid)
    d, h, w = values.shape
    guiding, p = seconds[LAYERS - 3], plain_vit.arrays_of(heads)
    trained = convolved_3x3(guiding, p["obj_proj.weight"], p["obj_proj.bias"])
    guide = unit({"trained": trained, "clip-keys": keys, "dino": dino}[affinity])
    cosines = guide.T @ guide
    flat, pooled = values.reshape(d, -1), np.zeros((d, h * w))
    for a in range(h * w):
        total, weight = np.zeros(d), 0.0
        for b in range(h * w):
            if cosines[a, b] >= 0.2:
                total += cosines[a, b] * flat[:, b]
                weight += cosines[a, b]
        pooled[:, a] = total / (weight + 1e-6)
    probabilities = plain_vit.softmax(100 * unit(pooled).T @ text_vectors(clip, names).T)
    if filtered:
        logits = p["bkg_decoder.weight"].reshape(-1) @ unit(guiding) + p["bkg_decoder.bias"]
        for a in range(h * w):
            if probabilities[a].max() < 0.99 and 1 / (1 + np.exp(-logits[a])) <= 0.5:
                probabilities[a] = np.eye(len(names))[names.index("background")]
    return probabilities.reshape(h, w, -1)


def grid_probabilities(segmenter, image, names=NAMES, features=None):
    features = segmenter.read(to_tensor(image)[None]) if features is None else features
    return segmenter.score(features, segmenter.embed(Vocabulary.of(names)))[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(32, 32), (40, 72), (29, 50)])
@pytest.mark.parametrize("affinity", ["trained", "clip-keys"])
def test_pooling_and_filtering_equal_the_equations(clip, heads, size, affinity):
    image = picture(*size)
    ours = grid_probabilities(ClipDinoiser(clip, heads, settings(affinity=affinity)), image)
    expected = by_the_book(clip, heads, image, affinity=affinity)
    assert 0.05 < (expected[..., 1] == 1).mean() < 0.95  # the filter does something, and not everything
    assert np.abs(ours - expected).max() < 10 * TOLERANCE  # 100 x cosine in the exponent


def test_dino_values_guide_where_they_are_asked_to(clip, heads, dino):
    """A patch of 4 pixels against CLIP's 8: the picture is resized so that the grids agree."""
    image = picture(32, 40)
    segmenter = ClipDinoiser(clip, heads, settings(affinity="dino", background="none"), dino=dino)
    small = torch.nn.functional.interpolate(to_tensor(image)[None], size=(16, 20), mode="bicubic", antialias=True)
    values = dino(small.clamp(0, 1)).value_maps()[0].double().numpy()
    expected = by_the_book(clip, heads, image, affinity="dino", filtered=False, dino=values)
    assert np.abs(grid_probabilities(segmenter, image) - expected).max() < 10 * TOLERANCE


def test_background_is_filtered_only_where_it_is_named(clip, heads):
    image, names = picture(32, 40), ["dog", "grass"]
    expected = by_the_book(clip, heads, image, names, filtered=False)
    ours = grid_probabilities(ClipDinoiser(clip, heads, settings()), image, names)
    assert np.abs(ours - expected).max() < 10 * TOLERANCE


def left_half(images):
    """A saliency that anybody can compute."""
    return [np.tile(np.arange(i.shape[1]) < i.shape[1] / 2, (i.shape[0], 1)).astype(np.float32) for i in images]


@pytest.mark.parametrize(("background", "confidence"), [("found", 0.99), ("found-alone", 2.0)])
def test_found_filters_what_is_no_object_where_unsure_or_however_sure(clip, heads, background, confidence):
    """The picture is 29 x 50 and patches are 8: those at the border reach outside of it."""
    image = picture(29, 50)
    segmenter = ClipDinoiser(clip, heads, settings(background=background), objectness=left_half)
    [seen] = segmenter.look_many([image], ["picture"])
    expected, found = by_the_book(clip, heads, image, filtered=False), left_half([image])[0]
    for i, j in np.ndindex(expected.shape[:2]):
        own = found[8 * i : 8 * i + 8, 8 * j : 8 * j + 8]
        if own.mean() <= 0.5 and expected[i, j].max() < confidence:
            expected[i, j] = [0, 1, 0]
    assert np.abs(grid_probabilities(segmenter, image, features=seen._features) - expected).max() < 10 * TOLERANCE
    assert 0 < (expected[..., 1] == 1).mean() < 1


def test_found_looks_at_the_whole_picture_however_many_windows(clip, heads):
    sizes = []

    def noted(images):
        sizes.extend(image.shape for image in images)
        return left_half(images)

    chosen = settings(background="found-alone", window=32, stride=16)
    result = ClipDinoiser(clip, heads, chosen, objectness=noted).segment(picture(40, 64), NAMES, fill=True)
    assert sizes == [(40, 64, 3)]
    assert (result.labels[:, 40:] == 1).all()
    assert (result.labels[:, :24] != 1).any()


@pytest.mark.parametrize("affinity", ["trained", "dino", "clip-keys"])
@pytest.mark.parametrize("background", ["trained", "found", "found-alone", "none"])
def test_every_row_of_table_2_is_an_option(clip, heads, dino, affinity, background):
    needed = heads if "trained" in (affinity, background) else None
    chosen = settings(affinity=affinity, background=background)
    segmenter = ClipDinoiser(clip, needed, chosen, dino=dino, objectness=left_half)
    assert np.isfinite(segmenter.segment(picture(32, 40), NAMES, fill=True).scores).all()


def test_a_sure_patch_or_an_object_is_never_made_background():
    probabilities = torch.tensor([[0.999, 0.6, 0.6], [0.001, 0.4, 0.4]])[None, :, None]  # (1, 2, 1, 3)
    is_object = torch.tensor([False, True, False])[None, None, None]
    filtered = filter_background(probabilities, is_object, 1, 0.99)
    assert torch.equal(filtered[0, :, 0, :2], probabilities[0, :, 0, :2])
    assert filtered[0, :, 0, 2].tolist() == [0, 1]


def test_a_patch_without_friends_is_itself_or_nothing():
    values = torch.randn(4, 1, 3)
    alone = guided_pooling(values, torch.eye(3)[:, None], 0.2)
    assert torch.allclose(alone, values, atol=1e-5)
    assert torch.equal(guided_pooling(values, torch.zeros(3, 1, 3), 0.2), torch.zeros(4, 1, 3))


def test_a_pooling_made_row_by_row_is_the_same(monkeypatch):
    values, guide = torch.randn(7, 5, 9), torch.randn(6, 5, 9)
    whole = guided_pooling(values, guide, 0.2)
    monkeypatch.setattr("wordmask.segmenters.clip_dinoiser.AFFINITY_BYTES", 4 * 45 * 4)  # four rows of 45 x 45
    assert torch.allclose(guided_pooling(values, guide, 0.2), whole, atol=1e-6)


def test_results_do_not_depend_on_the_batch(clip, heads):
    segmenter = ClipDinoiser(clip, heads, settings(window=32, stride=16))
    images = [picture(40, 64, seed) for seed in range(3)]
    together = list(segmenter.segment_many(images, NAMES, batch_size=3, fill=True))
    for image, result in zip(images, together, strict=True):
        assert np.abs(segmenter.segment(image, NAMES, fill=True).scores - result.scores).max() < 10 * TOLERANCE


def test_the_published_checkpoint_s_layout_loads(tmp_path):
    """{"epoch", "model_state_dict"}: obj_proj (256, 768, 3, 3), bkg_decoder (1, 768, 1, 1), as a pickle."""
    published = DinoiserHeads(768)
    state = published.state_dict()
    layout = {"obj_proj": ((256, 768, 3, 3), (256,)), "bkg_decoder": ((1, 768, 1, 1), (1,))}
    shapes = {f"{name}.{part}": shape for name, two in layout.items() for part, shape in zip(PARTS, two, strict=True)}
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes
    torch.save({"epoch": 99, "model_state_dict": state}, tmp_path / "last.pt")
    heads, features = load_heads(tmp_path / "last.pt"), torch.randn(1, 768, 5, 6)
    assert torch.equal(heads.affinity(features), published.affinity(features))
    assert torch.equal(heads.objectness(features), published.objectness(features))


def test_heads_that_do_not_fit_are_named(tmp_path):
    state = DinoiserHeads(8).state_dict()
    del state["bkg_decoder.bias"]
    for content, error, told in (
        ({"decoder.weight": torch.zeros(1)}, SegmenterError, "no obj_proj.weight"),
        (state, WeightsError, "bkg_decoder.bias"),
    ):
        torch.save({"model_state_dict": content}, tmp_path / "heads.pt")
        with pytest.raises(error, match=told):
            load_heads(tmp_path / "heads.pt")


def test_networks_that_are_missed_are_named(clip, heads):
    for own, changed, told in (
        (None, {}, "need CLIP-DINOiser's heads"),
        (heads, {"background": "found"}, "needs FOUND's maps"),
        (heads, {"affinity": "dino"}, "needs a DINO"),
    ):
        with pytest.raises(SegmenterError, match=told):
            ClipDinoiser(clip, own, settings(**changed))
    assert ClipDinoiser(clip, None, settings(affinity="clip-keys", background="none")).heads is None


def test_the_world_s_heads_are_missed_with_the_way_to_have_them(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "_FILES", {})
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    with pytest.raises(WorldModelError, match="wordmask train-dinoiser --preset world"):
        wordmask.load("clip-dinoiser", preset="world", device="cpu")


def test_the_world_s_preset_takes_heads_of_one_s_own(tmp_path):
    """As `wordmask train-dinoiser` writes them: `weights` are the heads'."""
    heads = DinoiserHeads(192, 8)  # the channels of the small CLIP that ships with the package
    write_state_dict(tmp_path / "clip-dinoiser.safetensors", heads.state_dict(), {})
    segmenter = wordmask.load("clip-dinoiser", preset="world", weights=tmp_path / "clip-dinoiser.safetensors")
    assert segmenter.segment(picture(100, 140), ["dog", "background"], fill=True).labels.shape == (100, 140)
