"""Windows against slow loops that share no code with them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from wordmask.errors import WordmaskError
from wordmask.pictures import windows
from wordmask.pictures.windows import (
    WORKING_BYTES,
    SlidingWindows,
    Spread,
    merge_argmax,
    merge_logsumexp,
    merge_maps,
    upsample_argmax,
)

UNHURRIED = settings(deadline=None)  # a first call may wait for libraries to warm up

sides = st.integers(1, 60)

pytestmark = pytest.mark.usefixtures("one_thread")

KERNELS_APART = 1e-5
"""How far F.interpolate's kernels for small pictures and for three channels are from its others, on noise."""


@st.composite
def plans(draw, most=60):
    size = draw(st.tuples(st.integers(1, most), st.integers(1, most)))
    stride = (draw(st.integers(1, size[0])), draw(st.integers(1, size[1])))
    # Strides of a single pixel over a large picture are as right as any, and take minutes in the loops below.
    height = draw(st.integers(1, min(most, size[0] + 6 * stride[0])))
    width = draw(st.integers(1, min(most, size[1] + 6 * stride[1])))
    return SlidingWindows(height, width, size, stride)


def resized(maps, size):
    return interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def random_maps(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def step_by_step(plan, maps, patch, size):
    """(K, *size): what merge_argmax promises to equal, every map in full."""
    if not isinstance(patch, Spread):
        patch = Spread((maps.shape[2] * patch[0], maps.shape[3] * patch[1]))
    down, across = patch.start
    total = torch.zeros(maps.shape[1], plan.height, plan.width, dtype=torch.float64)
    count = torch.zeros(plan.height, plan.width, dtype=torch.float64)
    for (top, left, bottom, right), grid in zip(plan.boxes, maps, strict=True):
        pixels = resized(grid.float(), patch.size)[:, down:, across:]
        total[:, top:bottom, left:right] += pixels[:, : bottom - top, : right - left]
        count[top:bottom, left:right] += 1
    return resized((total / count).float(), size)


def assert_best(labels, scores, full, within=1e-6):
    """The scores are the best of `full` (K, H, W), and the labels its argmax but for ties within rounding."""
    best, index = full.max(dim=0)
    assert labels.shape == scores.shape == best.shape
    assert labels.dtype == torch.int64
    assert scores.dtype == torch.float32
    assert (scores - best).abs().max() <= within
    chosen = full.gather(0, labels[None])[0]
    assert ((labels == index) | (best - chosen <= within)).all()


def assert_upsampled(maps, size, within=1e-6):
    assert_best(*upsample_argmax(maps, size), resized(maps, size), within)


def assert_merged(plan, maps, patch, size, within=1e-6):
    labels, scores = merge_argmax(plan, maps, patch, size)
    assert_best(labels, scores, step_by_step(plan, maps, patch, size), within)
    return labels


# Where the windows lie


@UNHURRIED
@given(plans())
def test_windows_are_of_one_size_never_reach_outside_and_cover_every_pixel(plan):
    seen = np.zeros((plan.height, plan.width), bool)
    for top, left, bottom, right in plan.boxes:
        assert 0 <= top < bottom <= plan.height
        assert 0 <= left < right <= plan.width
        assert (bottom - top, right - left) == plan.window
        seen[top:bottom, left:right] = True
    assert seen.all()
    assert len(plan) == len(plan.boxes) == len(set(plan.boxes))


@UNHURRIED
@given(plans())
def test_windows_start_every_stride_and_only_the_last_is_moved_back(plan):
    tops = sorted({box.top for box in plan.boxes})
    assert tops[:-1] == [i * plan.stride[0] for i in range(len(tops) - 1)]
    assert tops[-1] == max(plan.height - plan.size[0], 0)
    assert len(tops) == 1 + math.ceil(max(plan.height - plan.size[0], 0) / plan.stride[0])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((448, 448), [(0, 0)]),
        ((448, 449), [(0, 0), (0, 1)]),
        ((448, 672), [(0, 0), (0, 224)]),
        ((448, 700), [(0, 0), (0, 224), (0, 252)]),
        ((100, 500), [(0, 0), (0, 52)]),
        ((500, 673), [(0, 0), (0, 224), (0, 225), (52, 0), (52, 224), (52, 225)]),
    ],
)
def test_the_papers_windows_of_448_every_224_pixels(shape, expected):
    assert [(box.top, box.left) for box in SlidingWindows(*shape, 448, 224).boxes] == expected


def test_size_and_stride_may_differ_from_axis_to_axis():
    plan = SlidingWindows(10, 30, (10, 8), (5, 8))
    assert plan.window == (10, 8)
    assert [box.left for box in plan.boxes] == [0, 8, 16, 22]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((10, 10, 4, 5), "stride 5 leaves gaps between windows of 4"),
        ((10, 10, (8, 4), (4, 5)), "leaves gaps"),
        ((10, 10, 4, 0), "at least 1"),
        ((10, 10, 0, 0), "at least 1"),
        ((10, 10, (4, -1), (2, -2)), "at least 1"),
        ((0, 10, 4, 2), "0 x 10 has no pixels"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(arguments, complaint):
    with pytest.raises(WordmaskError, match=complaint):
        SlidingWindows(*arguments)


# Cutting and merging


@UNHURRIED
@given(plans(most=30))
def test_cut_gives_the_pixels_inside_each_box_and_merging_them_gives_the_picture_back(plan):
    image = random_maps(3, plan.height, plan.width)
    cut = plan.cut(image)
    assert cut.shape == (len(plan), 3, *plan.window)
    for (top, left, bottom, right), window in zip(plan.boxes, cut, strict=True):
        assert torch.equal(window, image[:, top:bottom, left:right])
    torch.testing.assert_close(plan.merge(cut), image)


@settings(max_examples=30, deadline=None)
@given(plans(most=12))
def test_merge_is_the_mean_over_the_windows_of_each_pixel(plan):
    maps = random_maps(len(plan), 2, *plan.window)
    merged = plan.merge(maps)
    for y in range(plan.height):
        for x in range(plan.width):
            views = [
                maps[i, :, y - box.top, x - box.left].double()
                for i, box in enumerate(plan.boxes)
                if box.top <= y < box.bottom and box.left <= x < box.right
            ]
            torch.testing.assert_close(merged[:, y, x], torch.stack(views).mean(0).float(), rtol=0, atol=1e-6)


def test_a_single_window_is_neither_copied_nor_changed():
    plan = SlidingWindows(5, 7, 8, 4)
    image = random_maps(3, 5, 7)
    assert plan.cut(image).data_ptr() == image.data_ptr()
    assert plan.merge(image[None]).data_ptr() == image.data_ptr()


def test_half_precision_is_added_up_in_single():
    plan = SlidingWindows(1, 64, (1, 32), (1, 1))
    maps = random_maps(len(plan), 1, 1, 32, dtype=torch.bfloat16)
    merged = plan.merge(maps)
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged, plan.merge(maps.float()), rtol=0, atol=0)
    assert SlidingWindows(1, 32, 32, 32).merge(maps[:1]).dtype == torch.float32


def test_maps_and_pictures_of_another_size_are_refused():
    plan = SlidingWindows(10, 10, 8, 4)
    with pytest.raises(ValueError, match="for 10 x 10"):
        plan.cut(torch.zeros(3, 10, 11))
    for shape in ((3, 2, 8, 8), (4, 2, 8, 7)):
        with pytest.raises(ValueError, match="do not fit 4 windows"):
            plan.merge(torch.zeros(shape))
    for patch in (2, Spread((8, 7)), Spread((10, 10), (3, 0)), Spread((12, 12), (-1, 0))):
        with pytest.raises(ValueError, match="do not fit 4 windows"):
            merge_argmax(plan, torch.zeros(4, 2, 4, 3), patch, (10, 10))


# The best name of each pixel


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.integers(1, 300), st.integers(1, 300), st.integers(1, 40))
def test_upsample_argmax_is_interpolate_and_argmax(h, w, height, width, names):
    assert_upsampled(random_maps(names, h, w), (height, width))


@pytest.mark.parametrize(
    ("h", "w", "size"),
    [(448, 600, (375, 500)), (28, 28, (448, 448)), (28, 37, (375, 500)), (300, 400, (29, 3)), (3, 2, (1400, 1000))],
)
def test_upsample_argmax_at_the_sizes_of_the_protocols(h, w, size):
    assert_upsampled(random_maps(21, h, w, seed=1), size)


@pytest.mark.parametrize("names", [1, 2, 5])
@pytest.mark.parametrize("h", [3, 600])
def test_few_names_on_a_large_picture(names, h):
    assert_upsampled(random_maps(names, h, h), (1100, 1000), within=KERNELS_APART)


@st.composite
def merges(draw):
    """plan, maps, patch, size"""
    pairs = st.tuples(st.integers(1, 9), st.integers(1, 9))
    plan, patch, extra = draw(plans()), draw(pairs), draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    grid = [-(-side // p) + more for side, p, more in zip(plan.window, patch, extra, strict=True)]
    size = (draw(st.integers(1, 200)), draw(st.integers(1, 200)))
    return plan, random_maps(len(plan), draw(st.integers(1, 40)), *grid), patch, size


@settings(max_examples=40, deadline=None)
@given(merges())
def test_merge_argmax_is_all_its_steps_at_once(merge):
    assert_merged(*merge)


@settings(max_examples=60, deadline=None)
@given(merges(), st.sampled_from([7, 128]))
def test_merge_argmax_tile_by_tile_is_all_its_steps_at_once(merge, tile):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(windows, "_SMALL_BYTES", 0)
        patched.setitem(windows._TILE, "cpu", tile)
        assert_merged(*merge, within=KERNELS_APART)


@st.composite
def spread_merges(draw):
    plan = draw(plans(most=30))
    start = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    size = tuple(side + at + draw(st.integers(0, 9)) for side, at in zip(plan.window, start, strict=True))
    cells = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    return plan, random_maps(len(plan), 3, *cells), Spread(size, start), draw(st.tuples(sides, sides))


@settings(max_examples=60, deadline=None)
@given(spread_merges(), st.sampled_from([0, 2**23]))
def test_grids_may_lie_anywhere_over_their_windows(merge, small):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(windows, "_SMALL_BYTES", small)
        assert_merged(*merge, within=KERNELS_APART)
    torch.testing.assert_close(merge_maps(*merge), step_by_step(*merge), atol=KERNELS_APART, rtol=0)


@settings(max_examples=60, deadline=None)
@given(spread_merges(), st.floats(0.1, 65))
def test_merge_logsumexp_is_that_of_all_names(merge, scale):
    expected = (scale * step_by_step(*merge).double()).logsumexp(dim=0)
    torch.testing.assert_close(merge_logsumexp(*merge, scale).double(), expected, atol=1e-3, rtol=1e-5)


def test_merge_argmax_at_the_size_of_the_papers():
    plan = SlidingWindows(448, 598, 448, 224)
    assert_merged(plan, random_maps(len(plan), 21, 28, 28), (16, 16), (375, 500))


def test_neither_more_names_than_are_scored_together_nor_half_precision_make_a_difference():
    plan = SlidingWindows(40, 70, 40, 20)
    assert assert_merged(plan, random_maps(len(plan), 300, 5, 5), (8, 8), (150, 260)).max() > 256
    assert_merged(plan, random_maps(len(plan), 7, 5, 5, dtype=torch.bfloat16), (8, 8), (100, 100))


@pytest.mark.parametrize("names", [2, 5, 60, 250])
def test_names_that_cannot_win_in_a_tile_are_left_out_there_and_nothing_changes(names, monkeypatch):
    plan = SlidingWindows(64, 96, 64, 32)
    maps = (20 * random_maps(len(plan), names, 8, 8)).softmax(dim=1)
    maps[:, names // 2] = maps[:, 0]  # everywhere as good as the first, which wins
    labels, scores = merge_argmax(plan, maps, 8, (900, 1300), dtype=torch.uint8)
    assert labels.dtype == torch.uint8
    assert_best(labels.long(), scores, step_by_step(plan, maps, (8, 8), (900, 1300)), within=KERNELS_APART)
    assert not (labels == names // 2).any()
    monkeypatch.setattr(windows, "_HOPELESS", 1.0)  # none is left out
    all_labels, all_scores = merge_argmax(plan, maps, 8, (900, 1300))
    assert torch.equal(labels.long(), all_labels)
    # Some processors round products of fewer names differently.
    torch.testing.assert_close(scores, all_scores, atol=KERNELS_APART, rtol=KERNELS_APART)


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.integers(1, 200), st.integers(1, 200), st.integers(2, 40), st.sampled_from([0.01, 1.0, 100.0]))
def test_of_names_that_score_the_same_the_first_wins_everywhere(h, w, height, width, names, scale):
    maps = ((random_maps(1, h, w) - 0.5) * scale).repeat(names, 1, 1)
    assert not upsample_argmax(maps, (height, width))[0].any()
    assert not merge_argmax(SlidingWindows.whole((h, w)), maps[None], 1, (height, width))[0].any()


def test_the_maps_asked_about_stay_as_they_are():
    for size in ((40, 50), (41, 52), (400, 500)):
        maps = random_maps(3, 40, 50)
        upsample_argmax(maps, size)
        assert torch.equal(maps, random_maps(3, 40, 50))


def test_scores_that_are_not_numbers_stay_visible():
    maps = random_maps(3, 4, 4)
    maps[1, 0, 0] = torch.nan
    for size in ((4, 4), (64, 64)):
        assert upsample_argmax(maps, size)[1][0, 0].isnan()


def test_memory_stays_bounded_whatever_the_names_and_the_size():
    maps = random_maps(100, 28, 28)
    height, width = 1000, 1500  # all scores at once would take 600 MB
    upsample_argmax(maps[:20], (height // 4, width // 4))  # what torch sets up once
    before = peak_memory()
    labels, scores = upsample_argmax(maps, (height, width))
    assert peak_memory() - before < WORKING_BYTES + labels.nbytes + scores.nbytes


def peak_memory():
    resource = pytest.importorskip("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("size", [(40, 30), (300, 260)])
@pytest.mark.parametrize("spread", [1.0, 60.0])
def test_shares_are_those_of_the_softmax_of_all_names(size, spread):
    """Also where most names are too faint somewhere to be looked at."""
    torch.manual_seed(0)
    maps = spread * torch.randn(40, 9, 7)
    maps[5:] -= 2 * spread
    best = windows.upsample_argmax(maps, size)[1]
    whole = interpolate(maps[None].double(), size=size, mode="bilinear")[0].softmax(dim=0)
    torch.testing.assert_close(windows.upsample_shares(maps, best).double(), whole.amax(dim=0), rtol=1e-4, atol=1e-5)
