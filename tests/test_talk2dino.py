"""Talk2DINO against slow loops written from its equations, on random weights."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import wordmask
from support import plain_vit
from support.plain_pamr import pamr as plain_pamr
from support.plain_saliency import BLOCKS, HEADS, NATIVE, PATCH, WIDTH, tiny_dino
from support.plain_windows import TOLERANCE, bilinear, picture, starts
from support.small_clip import small_clip
from wordmask.benchmarks.protocols import settings_under
from wordmask.methods import settings_of
from wordmask.names.prompts import templates
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.talk2dino import (
    MappedText,
    Talk2Dino,
    Talk2DinoSettings,
    TextMapper,
    cleaned,
    cls_logits,
    embed_mapped,
    load_mapper,
)
from wordmask.weights.loading import WeightsError

TEXT, SQUARE, WINDOW, STRIDE = 24, 48, 40, 24
NAMES = ["dog", "grass", "sky"]


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def dino():
    return tiny_dino()


@pytest.fixture(scope="module")
def mapper():
    torch.manual_seed(3)
    return TextMapper(TEXT, WIDTH)


def settings(**changes):
    usual = {"shorter_side": None, "window": WINDOW, "stride": STRIDE, "square": SQUARE, "pamr": False}
    return Talk2DinoSettings(**{**usual, **changes})


def words(clip, mapper, names):
    """The mean of seven raw embeddings, mapped, of length 1: in double precision."""
    p = {name: value.detach().double().numpy() for name, value in mapper.state_dict().items()}
    found = []
    for name in names:
        raw = [clip.encode_text([s.format(name)], unit=False)[0].double().numpy() for s in SENTENCES]
        hidden = np.tanh(p["linear_layer.weight"] @ np.mean(raw, axis=0) + p["linear_layer.bias"])
        mapped = p["linear_layer2.weight"] @ hidden + p["linear_layer2.bias"]
        found.append(mapped / np.linalg.norm(mapped))
    return np.array(found)


SENTENCES = [
    *("itap of a {}.", "a bad photo of a {}.", "a origami {}.", "a photo of the large {}."),
    *("a {} in a video game.", "art of the {}.", "a photo of the small {}."),
]


def dino_by_the_book(dino, image):
    """Tokens (C, N), CLS's logits (heads, N) and the grid of one picture (3, H, W) in [0, 1]."""
    pixels = dino.statistics.normalise(image[None])[0].double().numpy()
    shape = {"patch": PATCH, "native": (NATIVE, NATIVE), "heads": HEADS, "layers": BLOCKS}
    read = dict(zip(plain_vit.READ_OUTS, plain_vit.dino(plain_vit.arrays_of(dino.model), pixels, **shape), strict=True))
    tokens = read["tokens"]
    return tokens.reshape(len(tokens), -1), read["cls_logits"], tokens.shape[1:]


def masks_by_the_book(dino, image, text, amount):
    """One window's soft masks (K, h, w), section 3.4 in loops."""
    tokens, logits, grid = dino_by_the_book(dino, image)
    count = tokens.shape[1]
    masks = np.zeros((len(text), count))
    for k in range(len(text)):
        for i in range(count):
            masks[k, i] = 1 / (1 + np.exp(-(text[k] @ tokens[:, i]) / np.linalg.norm(tokens[:, i])))
    if not amount:
        return masks.reshape(-1, *grid)
    weights = np.zeros((len(logits), len(text)))
    for h in range(len(logits)):
        head = np.mean([logits[h, i] * tokens[:, i] for i in range(count)], axis=0)
        weights[h] = plain_vit.softmax(text @ (head / np.linalg.norm(head)))
    maps = []
    for k in range(len(text)):
        own = sum(weights[h, k] * logits[h] for h in range(len(logits))) / weights[:, k].sum()
        maps.append(plain_vit.softmax(own))
    maps = np.array(maps)
    most = max(maps.max(), maps.max() - maps.min())
    maps = (maps - maps.min()) / most * (masks.max() - masks.min()) + masks.min()
    return ((masks + amount * maps) / (1 + amount)).reshape(-1, *grid)


def corners_aligned(plane, size):
    """(h, w, K) -> (H, W, K): the slow way."""
    for axis in (0, 1):
        old, new = plane.shape[axis], size[axis]
        weights = np.zeros((new, old))
        for i in range(new):
            at = i * (old - 1) / (new - 1)
            base = min(int(at), old - 1)
            weights[i, base] += 1 - (at - base)
            weights[i, min(base + 1, old - 1)] += at - base
        plane = np.moveaxis(np.tensordot(weights, np.moveaxis(plane, axis, 0), axes=1), 0, axis)
    return plane


def by_the_book(clip, dino, mapper, image, names=NAMES, *, amount=0.2, refined=False):
    """Soft masks (H, W, K) of the whole picture."""
    text, (height, width) = words(clip, mapper, names), image.shape[:2]
    total, times = np.zeros((height, width, len(names))), np.zeros((height, width, 1))
    tall, wide = min(WINDOW, height), min(WINDOW, width)
    for top in starts(height, tall, STRIDE):
        for left in starts(width, wide, STRIDE):
            piece = image[top : top + tall, left : left + wide]
            square = bilinear(piece.astype(float) / 255, (SQUARE, SQUARE))  # windows are never larger here
            grid = masks_by_the_book(dino, torch.tensor(square).permute(2, 0, 1).float(), text, amount)
            masks = corners_aligned(grid.transpose(1, 2, 0), (tall, wide))
            if refined:
                masks = plain_pamr(piece.astype(float), masks.transpose(2, 0, 1)).transpose(1, 2, 0)
            total[top : top + tall, left : left + wide] += masks
            times[top : top + tall, left : left + wide] += 1
    return total / times


def soft_masks(segmenter, image, names=NAMES, background=True):
    """What names score, (K, H, W), and the seen picture."""
    [seen] = segmenter.look_many([image], ["picture"])
    text = dataclasses.replace(segmenter.embed(Vocabulary.of(names)), has_background=background)
    scores = segmenter.merge(seen._plan, seen._score(text), segmenter.lie(seen._plan), text, seen._guide)
    return scores.of(range(len(names)), image.shape[:2]).numpy(), seen


def test_names_are_the_mapped_mean_of_raw_prompts(clip, mapper):
    found = embed_mapped(MappedText(clip, mapper), NAMES, templates("sub-imagenet-7")).double().numpy()
    assert np.abs(found - words(clip, mapper, NAMES)).max() < TOLERANCE


def test_a_mean_of_unit_prompts_would_be_another(clip, mapper):
    """Raw embeddings differ in length, so that normalising them first is no small thing."""
    text = MappedText(clip, mapper)
    prompts = [s.format("dog") for s in SENTENCES]
    unit = text.mapped(clip.encode_text(prompts).mean(dim=0)[None])
    assert (unit - embed_mapped(text, ["dog"], templates("sub-imagenet-7"))).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(40, 40), (61, 87), (29, 64)])
@pytest.mark.parametrize("amount", [0.2, 0.0])
def test_masks_equal_the_equations(clip, dino, mapper, size, amount):
    image = picture(*size)
    ours, _ = soft_masks(Talk2Dino(clip, dino, mapper, settings(background_clean=amount)), image)
    expected = by_the_book(clip, dino, mapper, image, amount=amount)
    assert np.abs(ours - expected.transpose(2, 0, 1)).max() < TOLERANCE
    assert amount == 0 or np.abs(expected - by_the_book(clip, dino, mapper, image, amount=0)).max() > 1e-3


@pytest.mark.slow
def test_pamr_refines_the_masks_of_every_window(clip, dino, mapper):
    image = picture(42, 60)
    ours, _ = soft_masks(Talk2Dino(clip, dino, mapper, settings(pamr=True)), image)
    expected = by_the_book(clip, dino, mapper, image, refined=True)
    assert np.abs(ours - expected.transpose(2, 0, 1)).max() < TOLERANCE


def test_pamr_of_one_small_window(clip, dino, mapper):
    image = picture(20, 26)
    ours, _ = soft_masks(Talk2Dino(clip, dino, mapper, settings(pamr=True)), image, NAMES[:2])
    expected = by_the_book(clip, dino, mapper, image, NAMES[:2], refined=True)
    assert np.abs(ours - expected.transpose(2, 0, 1)).max() < TOLERANCE


def test_maps_are_divided_by_their_largest_value_not_by_their_range():
    """The published code's own: the map of the attention does not reach the masks' largest value."""
    torch.manual_seed(0)
    masks, tokens, logits = torch.rand(1, 2, 3, 4), torch.randn(1, WIDTH, 3, 4), torch.randn(1, HEADS, 3, 4)
    text = words_of(torch.nn.functional.normalize(torch.randn(2, WIDTH), dim=1))
    laid = (cleaned(masks, tokens, logits, text, 0.2) * 1.2 - masks) / 0.2
    assert torch.allclose(laid.min(), masks.min(), atol=1e-5)
    assert laid.max() < masks.max() - 0.01


def words_of(vectors):
    from wordmask.names.text_embeddings import TextEmbeddings

    names = [f"name {i}" for i in range(len(vectors))]
    return TextEmbeddings(Vocabulary.of(names), vectors, torch.arange(len(vectors)), has_background=True)


def test_windows_clean_by_themselves(clip, dino, mapper):
    """Least and largest values are those of one window, whatever else is in the batch."""
    segmenter = Talk2Dino(clip, dino, mapper, settings())
    large, small = picture(61, 87, seed=1), picture(40, 40, seed=2)
    alone = segmenter.look(large).segment(NAMES)
    together = segmenter.look_many([small, large, small], ["a", "b", "c"])[1].segment(NAMES)
    assert (alone.labels == together.labels).mean() > 0.999
    assert np.abs(alone.scores - together.scores).max() < 1e-5


def test_background_is_where_no_mask_has_as_much_as_the_constant(clip, dino, mapper):
    image, names = picture(61, 87), [*NAMES, "background"]
    masks = by_the_book(clip, dino, mapper, image)
    threshold = float(np.quantile(masks.max(axis=2), 0.4))
    result = Talk2Dino(clip, dino, mapper, settings(background_threshold=threshold)).segment(image, names)
    channels = np.concatenate([np.full((61, 87, 1), threshold), masks], axis=2)  # background first, as published
    expected = (channels.argmax(axis=2) - 1) % 4
    assert (result.labels == expected).mean() > 0.999
    assert 0.2 < (expected == 3).mean() < 0.6


def test_background_cleaning_waits_for_a_background(clip, dino, mapper):
    image = picture(40, 40)
    cleans, plain = (Talk2Dino(clip, dino, mapper, settings(background_clean=a)) for a in (0.2, 0.0))
    assert np.array_equal(cleans.segment(image, NAMES, fill=True).scores, plain.segment(image, NAMES, fill=True).scores)
    assert not np.array_equal(cleans.segment(image, NAMES).scores, plain.segment(image, NAMES).scores)


def test_names_that_are_all_grounds_may_fill_a_picture(clip, dino, mapper):
    """No ground is left to race, and there is no background for what it would win."""
    segmenter, names = Talk2Dino(clip, dino, mapper, settings()), list(clip.grounds)
    result = segmenter.segment(picture(40, 40), names, fill=True)
    assert (result.names, result.labels.shape) == (names, (40, 40))


def test_names_go_through_in_turns_of_any_size(clip, dino, mapper, monkeypatch):
    from wordmask.segmenters import text_aligned

    segmenter, image = Talk2Dino(clip, dino, mapper, settings(pamr=True)), picture(40, 40)
    names = [*NAMES, "cat", "sofa"]
    at_once = segmenter.segment(image, names, fill=True)
    monkeypatch.setattr(text_aligned, "MAPS_BYTES", 2 * 4 * 40 * 40)
    monkeypatch.setattr("wordmask.segmenters.talk2dino.REFINED_TOGETHER", 1)
    in_turns = segmenter.segment(image, names, fill=True)
    assert (at_once.labels != in_turns.labels).mean() < 0.002  # ties, which some processors round differently
    assert len(np.unique(at_once.labels)) > 2
    np.testing.assert_allclose(at_once.scores, in_turns.scores, atol=1e-6)


def test_other_names_of_a_thing_are_its_own(clip, dino, mapper):
    segmenter = Talk2Dino(clip, dino, mapper, settings())
    features = segmenter.read(to_tensor(picture(40, 40))[None])
    both, alone = (
        segmenter.score(features, segmenter.embed(Vocabulary.of(names)))[0]
        for names in ({"dog": ["puppy"], "grass": ["lawn"]}, ["dog", "puppy", "grass", "lawn"])
    )
    assert torch.equal(both, torch.maximum(alone[::2], alone[1::2]))


def test_logits_are_scaled_by_the_heads_width(dino):
    pixels = torch.rand(1, 3, 40, 40)
    features = dino(pixels)
    assert torch.allclose(cls_logits(features), features.cls_logits, atol=1e-5)  # this DINO has no rotary code


PUBLISHED = {
    "linear_layer.weight": (768, 512),
    "linear_layer.bias": (768,),
    "linear_layer2.weight": (768, 768),
    "linear_layer2.bias": (768,),
}


def test_the_published_layouts_load(tmp_path):
    state = {name: torch.randn(*shape) for name, shape in PUBLISHED.items()}
    torch.save(state, tmp_path / "vitb_mlp_infonce.pth")
    later = {name.replace("linear_layer2.", "hidden_layers.0."): value for name, value in state.items()}
    torch.save(later, tmp_path / "later.pth")
    whole = {f"proj.{name}": value for name, value in state.items()} | {"model.cls_token": torch.zeros(1, 1, 768)}
    torch.save(whole, tmp_path / "whole.pth")
    for file in ("vitb_mlp_infonce.pth", "later.pth", "whole.pth"):
        found = load_mapper(tmp_path / file)
        assert all(torch.equal(found.state_dict()[name], value) for name, value in state.items())


def test_the_paper_has_a_million_parameters_and_the_published_settings():
    usual = settings_of("segmenter", "talk2dino")
    assert sum(p.numel() for p in TextMapper(512, 768).parameters()) == 984_576
    assert (usual.shorter_side, usual.window, usual.stride, usual.square) == (448, 448, 224, 448)
    assert (usual.background_clean, usual.background_threshold, usual.pamr) == (0.2, 0.55, True)
    assert list(templates(usual.templates).sentences) == SENTENCES


def test_context_is_not_cleaned_as_published():
    assert settings_under("own", "talk2dino", "context") == {"background_clean": 0.0}
    assert settings_under("own", "talk2dino", "voc") == settings_under("own", "talk2dino", "coco-object") == {}
    assert settings_under("talk2dino", "talk2dino", "ade20k")["stride"] == 224


def test_a_file_without_a_mapper_or_of_another_shape_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(SegmenterError, match="no mapper of Talk2DINO"):
        load_mapper(tmp_path / "other.pth")
    torch.save({**TextMapper(4, 6).state_dict(), "linear_layer2.weight": torch.zeros(5, 6)}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"linear_layer2\.weight"):
        load_mapper(tmp_path / "odd.pth")


def test_towers_that_do_not_meet_are_refused(clip, dino):
    with pytest.raises(SegmenterError, match="text embeddings of 25"):
        Talk2Dino(clip, dino, TextMapper(25, WIDTH))
    with pytest.raises(SegmenterError, match="patches of 40"):
        Talk2Dino(clip, dino, TextMapper(TEXT, 40))
    with pytest.raises(SegmenterError, match="square=50"):
        Talk2Dino(clip, dino, TextMapper(TEXT, WIDTH), Talk2DinoSettings(square=50))


def test_another_mapper_is_another_space(clip):
    """Or words of one mapper would be taken from the cache for those of another."""
    torch.manual_seed(0)
    first, second = (MappedText(clip, TextMapper(TEXT, WIDTH)) for _ in range(2))
    assert len({first.text_fingerprint, second.text_fingerprint, clip.text_fingerprint}) == 3


def test_it_moves_and_names_its_networks(clip, dino, mapper):
    segmenter = Talk2Dino(clip, dino, mapper, settings())
    assert set(segmenter.networks) == {"dino", "clip", "mapper"}
    assert all(isinstance(network, nn.Module) for network in segmenter.networks.values())
    assert wordmask.list_methods("segmenter")
