"""CorrCLIP against its equations, on a small CLIP and a small DINO with random weights."""

import numpy as np
import pytest
import torch

from support import plain_corrclip, plain_patch_cosines, plain_vit
from support.plain_saliency import BLOCKS, tiny_dino
from support.plain_saliency import HEADS as DINO_HEADS
from support.plain_saliency import NATIVE as DINO_NATIVE
from support.plain_saliency import PATCH as DINO_PATCH
from support.plain_windows import TOLERANCE, picture, starts
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, small_clip
from wordmask.encoders.clip_regions import run_in_regions
from wordmask.encoders.grid import DINO_POSITIONS
from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.windows import SlidingWindows
from wordmask.regions.correction import correct
from wordmask.segmenters.corrclip import PADDING, PUBLISHED, CorrClip, CorrClipSettings, spatial_blocks
from wordmask.segmenters.region_correlations import listen, merge_regions, no_region, on_grid

SMALL = {"templates": "photo", "shorter_side": None, "window": 32, "stride": 16, "pad_multiple": 8}
NAMES = ["dog", "traffic light", "grass"]
WORDED = Vocabulary.of({"background": {"instead": ["sky", "wall"]}, "dog": None, "person": ["bus"]})
PHRASES, OWNER = ["sky", "wall", "dog", "person", "bus"], [0, 0, 1, 2, 2]


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def dino():
    return tiny_dino()


def regions_of(height, width, seed=0):
    """Rectangles over a ground of no region."""
    rng = np.random.default_rng(seed)
    found = np.zeros((height, width), np.int32)
    for number in range(1, 6):
        top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
        found[top : top + rng.integers(8, height), left : left + rng.integers(8, width)] = number
    found[: height // 3, : width // 3] = 0
    return found


def made(clip, dino, maker=lambda image: regions_of(*image.shape[:2]), **changes):
    return CorrClip(clip, maker, CorrClipSettings(**{**SMALL, **changes}), dino=dino)


def features_of(segmenter, window, regions):
    """A window (1, 3, H, W) and its regions (H, W) -> (1, D, h, w)"""
    plan = SlidingWindows(*window.shape[-2:], tuple(window.shape[-2:]), 8)
    return segmenter.window_features(plan, window[0], regions)


def plain_guides(dino, window):
    """Queries and keys of DINO's last block side by side, summed, unit (N, C), of a window (3, H, W) in [0, 1]."""
    mean, std = (np.array(told)[:, None, None] for told in (dino.statistics.mean, dino.statistics.std))
    shape = {"patch": DINO_PATCH, "native": (DINO_NATIVE, DINO_NATIVE), "heads": DINO_HEADS, "layers": BLOCKS}
    q, k, *_ = plain_vit.dino(plain_vit.arrays_of(dino.model), (window - mean) / std, **shape)
    both = np.concatenate(list(q), axis=1) + np.concatenate(list(k), axis=1)
    return plain_corrclip.unit(both), (window.shape[1] // DINO_PATCH, window.shape[2] // DINO_PATCH)


def plain_features(clip, dino, window, regions, **changes):
    """A window (3, H, W) in [0, 1] whose sides are whole patches."""
    mean, std = (np.array(told)[:, None, None] for told in (clip.statistics.mean, clip.statistics.std))
    guides, grid = plain_guides(dino, window)
    return plain_corrclip.features(
        plain_vit.arrays_of(clip.model.visual),
        (window - mean) / std,
        guides,
        grid,
        regions,
        **{"patch": PATCH, "native": NATIVE, "heads": HEADS, "layers": LAYERS, "lower": [1], **changes},
    )


@pytest.mark.parametrize("size", [(32, 32), (40, 24), (24, 56)])
@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({}, {}),
        ({"merge_distance": None}, {"distance": None}),
        ({"merge_distance": 0.02, "sharpness": 9.0}, {"distance": 0.02, "tau": 9.0}),
        ({"spatial": 0.3, "semantic": 2.0}, {"spatial": 0.3, "semantic": 2.0}),
        ({"least_is_none": False}, {"none": 0}),
    ],
)
def test_a_windows_features_equal_the_equations(clip, dino, size, settings, plain):
    window = torch.from_numpy(picture(*size)).permute(2, 0, 1).float() / 255
    for regions in (regions_of(*size), regions_of(*size, seed=3) + 2):  # and without a pixel of no region
        ours = features_of(made(clip, dino, **settings), window[None], torch.from_numpy(regions).long())[0]
        expected = plain_features(clip, dino, window.double().numpy(), regions, **plain)
        assert ours.shape == expected.shape
        assert np.abs(ours.numpy() - expected).max() < TOLERANCE * np.abs(expected).max()


def test_the_least_number_stands_for_no_region_unless_only_zero_does(clip, dino):
    """The published quirk: of a window that is all regions, one is looked at without bounds."""
    window = torch.from_numpy(picture(32, 32)).permute(2, 0, 1).float()[None] / 255
    regions = torch.from_numpy(regions_of(32, 32)).long() + 1
    as_published, mended = made(clip, dino), made(clip, dino, least_is_none=False)
    assert not torch.allclose(features_of(as_published, window, regions), features_of(mended, window, regions))
    assert torch.equal(features_of(as_published, window, regions), features_of(as_published, window, regions - 1))
    assert torch.equal(features_of(as_published, window, regions - 1), features_of(mended, window, regions - 1))
    assert no_region(regions, least=True) == 1
    assert no_region(regions, least=False) == 0


@pytest.mark.parametrize("size", [(48, 72), (37, 90), (20, 26)])
def test_scores_equal_the_protocol_by_the_book(clip, dino, size):
    """Windows, padding that is a region of its own, cosines put together, a threshold, and regions of one name."""
    image, maker = picture(*size), lambda image: regions_of(*image.shape[:2])
    segmenter = made(clip, dino, maker, background_threshold=0.36, map_correction=False)
    result = segmenter.segment(image, WORDED)
    regions = regions_of(*size)
    places = iter([(top, left) for top in starts(size[0], 32, 16) for left in starts(size[1], 32, 16)])

    def read(normal):
        """plain_patch_cosines hands in normalised, padded windows in order."""
        top, left = next(places)
        cut = regions[top : top + 32, left : left + 32]
        down, across = normal.shape[1] - cut.shape[0], normal.shape[2] - cut.shape[1]
        cut = np.pad(cut, [(down // 2, down - down // 2), (across // 2, across - across // 2)], constant_values=10000)
        mean, std = (np.array(told)[:, None, None] for told in (clip.statistics.mean, clip.statistics.std))
        return plain_features(clip, dino, normal * std + mean, cut)

    own = plain_patch_cosines.cosines(clip, image, PHRASES, read, multiple=8)
    labels, names = plain_patch_cosines.decide(own, OWNER, threshold=0.36)
    ordered = np.sort(names, axis=-1)
    clear = (ordered[..., -1] - ordered[..., -2] > 1e-4) & (np.abs(ordered[..., -1] - 0.36) > 1e-4)
    assert clear.mean() > 0.5
    assert np.array_equal(result.labels[clear], labels[clear])
    assert (labels != names.argmax(axis=-1)).any()  # the threshold has something to do
    sure = clear & (ordered[..., -1] > 0.36)
    assert np.abs(result.scores - ordered[..., -1])[sure].max() < TOLERANCE
    corrected = made(clip, dino, maker, background_threshold=0.36).segment(image, WORDED)
    assert np.array_equal(corrected.labels, correct(result, regions).labels)


def test_the_pictures_own_tokens_are_what_they_are_without_copies(clip):
    image = torch.from_numpy(picture(32, 40)).permute(2, 0, 1).float()[None] / 255
    members = torch.zeros(3, 20, dtype=torch.bool)
    members[0, :7], members[1, 7:], members[2, 3] = True, True, True
    plain = clip.run(image, keep=[0, 1], positions=DINO_POSITIONS)
    tokens, copies = clip.run_in_regions(image, members, keep=[0, 1], positions=DINO_POSITIONS)
    torch.testing.assert_close(tokens.x, plain.x, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.kept[1], plain.kept[1], atol=1e-5, rtol=0)
    assert copies.shape == (3, plain.x.shape[-1])
    # a region of all patches differs from CLS in one thing: it does not see itself
    alone = run_in_regions(clip.vit, clip.statistics.normalise(image), members[:1], positions=DINO_POSITIONS)[1]
    torch.testing.assert_close(alone[0], copies[0], atol=1e-5, rtol=0)


def test_a_picture_and_a_window_do_not_depend_on_others(clip, dino):
    segmenter = made(clip, dino)
    images = [picture(48, 40), picture(32, 64, seed=1)]
    together = [seen.segment(NAMES) for seen in segmenter.see(images, ["a", "b"])]
    for image, found in zip(images, together, strict=True):
        alone = segmenter.segment(image, NAMES)
        assert np.array_equal(alone.labels, found.labels)
        assert np.array_equal(alone.scores, found.scores)


def test_regions_that_look_alike_are_one_and_so_are_chains_of_them():
    unit = torch.tensor([[1.0, 0.0], [0.95, 0.3122], [0.8, 0.6], [0.0, 1.0], [0.6, -0.8], [1.0, 0.0]])
    regions = torch.tensor([[1, 2, 3], [4, 5, 0]])
    merged = merge_regions(regions, torch.nn.functional.normalize(unit, dim=1), 0, 0.1)
    assert merged[0, 0] == merged[0, 1] == merged[0, 2]  # 1 and 3 are not alike, 2 is like both
    assert len({int(merged[0, 0]), int(merged[1, 0]), int(merged[1, 1]), int(merged[1, 2])}) == 4
    assert merged[1, 2] == 0
    two = torch.tensor([[0, 0, 3], [3, 3, 3]])
    assert merge_regions(two, unit, 0, 2.0) is two


def test_patches_that_are_all_the_same_hear_themselves():
    weights = listen(torch.ones(5, 1), torch.zeros(5, dtype=torch.int64), 0)
    torch.testing.assert_close(weights, torch.eye(5))


def test_a_picture_of_one_colour_has_finite_scores(clip, dino):
    image = np.full((40, 48, 3), 127, np.uint8)
    assert np.isfinite(made(clip, dino, lambda image: np.zeros((40, 48), int)).segment(image, NAMES).scores).all()


def test_numbers_on_another_grid_are_the_nearest_ones():
    regions = torch.arange(35).view(5, 7) + PADDING
    for grid in ((3, 4), (5, 7), (9, 12)):
        assert np.array_equal(on_grid(regions, grid).numpy(), plain_corrclip.nearest(regions.numpy(), grid))


def test_the_spatial_branch_takes_the_published_blocks():
    assert [spatial_blocks(count) for count in (12, 24, 32)] == [range(5, 10), range(10, 22), range(2, 30)]
    assert spatial_blocks(16) == range(2, 14)
    assert list(spatial_blocks(4)) == [1]


def test_the_defaults_and_the_benchmarks_settings_are_the_published_ones():
    settings = CorrClipSettings()
    assert (settings.shorter_side, settings.window, settings.stride, settings.pad_multiple) == (336, 336, 112, 56)
    assert (settings.scale, settings.sharpness, settings.merge_distance) == (40, 4, 0.2)
    assert (settings.spatial, settings.semantic) == (1.0, 0.5)
    assert settings.clip == "ViT-B-16-quickgelu/metaclip_fullcc"
    assert {name: told.get("background_threshold") for name, told in PUBLISHED.items()} == {
        **dict.fromkeys(("voc20", "context59", "coco-stuff", "cityscapes", "ade20k")),
        **{"voc": 0.2, "context": 0.15, "coco-object": 0.25},
    }
    for changes in PUBLISHED.values():
        CorrClipSettings(**changes)


def test_the_map_is_made_once_a_picture(clip, dino):
    asked = []

    def maker(image):
        asked.append(image.shape)
        return regions_of(*image.shape[:2])

    seen = made(clip, dino, maker).look(picture(48, 40))
    for names in (["dog"], ["cat", "sofa"]):
        assert isinstance(seen.segment(names), Segmentation)
    assert len(asked) == 1
