"""The bilateral solver against the published equations, one pixel and one cell at a time."""

import numpy as np
import pytest

from support import plain_bilateral
from wordmask.refinement.bilateral_solver import BilateralGrid, BilateralSolverError, SolverParameters, solve
from wordmask.refinement.clean_up import found_mask, intersection_over_union, refine
from wordmask_world import draw_scene

TOLERANCE = 1e-4


def picture(height, width, seed=0):
    """Two soft shades and some noise."""
    chance = np.random.default_rng(seed)
    image = np.linspace(60, 110, width)[None, :, None] + np.zeros((height, 1, 3))
    image[height // 4 : height // 2, width // 4 : width // 2] += [90, 40, 10]
    return (image + chance.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


def square(height, width):
    target = np.zeros((height, width))
    target[height // 5 : height // 2, width // 5 : width // 2] = 1
    return target


def grain(*size):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(40, 56), (17, 31), (1, 40), (40, 1), (1, 1), (2, 3), (16, 16)])
def test_the_result_is_that_of_the_equations(size):
    image, target = picture(*size), square(*size)
    assert np.abs(solve(image, target) - plain_bilateral.solve_plain(image, target)).max() < TOLERANCE


def test_a_confidence_for_every_pixel_counts_as_in_the_equations():
    image, target = picture(33, 47), square(33, 47)
    confidence = np.random.default_rng(1).uniform(0, 1, target.shape)
    confidence[:16, :16] = 0
    expected = plain_bilateral.solve_plain(image, target, confidence)
    assert np.abs(solve(image, target, confidence) - expected).max() < TOLERANCE


def test_a_large_picture_equals_the_usual_sparse_reading():
    image, target = np.asarray(draw_scene(3, (384, 512)).image), square(384, 512)
    assert np.abs(solve(image, target) - plain_bilateral.solve_sparse(image, target)).max() < TOLERANCE


def test_cells_are_exact_beyond_the_range_of_a_floating_point_hash():
    """A picture wider than 255 cells, the first and the last of which would collide in base 255."""
    image = grain(2, 300 * 16)
    columns = np.broadcast_to(np.arange(image.shape[1]) // 16, image.shape[:2])
    cells = zip(columns.ravel(), *(channel.ravel() for channel in plain_bilateral.yuv_of(image)), strict=True)
    expected = {(int(a), *(int(np.floor(round(c / 64, 9))) for c in colour)) for a, *colour in cells}
    assert BilateralGrid(image, SolverParameters(luma=64, chroma=64)).cells == len(expected)


def test_greys_have_exactly_no_chroma():
    """0.5 - 0.418688 - 0.081312 is not 0 in floating point, and 128 lies on a cell's border."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert BilateralGrid(ramp, SolverParameters(spatial=256)).cells == 256 // 16


def test_neighbours_never_reach_around_an_axis():
    """The last luma of one chroma is no neighbour of the first luma of the next, nor a row's end of the next row."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:16, 16:] = 255
    image[16:, :16] = 255
    grid = BilateralGrid(image)
    assert grid.cells == 4
    assert np.array_equal(grid.blur.toarray(), 10 * np.eye(4))


def test_one_grid_serves_any_number_of_maps_whether_cells_are_looked_up_or_sorted(monkeypatch):
    image, target = picture(48, 64), square(48, 64)
    looked_up = BilateralGrid(image)
    looked_up.solve(1 - target)
    assert np.array_equal(looked_up.solve(target), solve(image, target))
    monkeypatch.setattr("wordmask.refinement.bilateral_solver.TABLE_SPAN", 0)
    by_sorting = BilateralGrid(image)
    assert np.array_equal(looked_up.cell_of_pixel, by_sorting.cell_of_pixel)
    assert np.array_equal(looked_up.solve(target), by_sorting.solve(target))


def test_a_picture_of_one_colour_within_one_cell_gets_the_mean_and_a_constant_map_comes_back_as_it_is():
    assert np.allclose(solve(np.full((10, 12, 3), 77, np.uint8), square(10, 12)), square(10, 12).mean())
    for value in (0.0, 1.0, 0.25):
        assert np.allclose(solve(grain(40, 30), np.full((40, 30), value)), value)


def test_pure_noise_gives_numbers_near_the_range():
    solved = solve(grain(64, 48), square(64, 48))
    assert np.isfinite(solved).all()
    assert -0.05 < solved.min() <= solved.max() < 1.05


def test_an_edge_of_the_picture_stops_the_spread():
    image = np.full((64, 64, 3), 30, np.uint8)
    image[:, 29:] = 220
    target = np.zeros((64, 64))
    target[:, 34:] = 1  # five pixels short of the edge
    solved = solve(image, target) > 0.5
    assert solved[:, 29:].all()
    assert not solved[:, :29].any()


@pytest.mark.parametrize(
    ("image", "target", "confidence", "told"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4)), 1, "must be"),
        (np.zeros((4, 4, 3)), np.zeros((4, 4)), 1, "uint8"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4)), 1, "must be"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5)), 1, "resize"),
        (np.zeros((4, 4, 3), np.uint8), np.full((4, 4), np.nan), 1, "finite"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), 0, "confidence"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), -1, "confidence"),
    ],
)
def test_what_cannot_be_solved_is_said(image, target, confidence, told):
    with pytest.raises(BilateralSolverError, match=told):
        solve(image, target, confidence)
    with pytest.raises(BilateralSolverError, match="above 0"):
        SolverParameters(luma=0)


def disc(size, centre, radius):
    y, x = np.mgrid[:size, :size]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def test_found_fills_holes():
    ring = disc(40, (20, 20), 12) & ~disc(40, (20, 20), 3)
    assert np.array_equal(found_mask(ring.astype(float), ring), disc(40, (20, 20), 12))


def test_found_keeps_the_input_where_the_solver_departs_from_it():
    mask = disc(40, (20, 20), 6)
    assert found_mask(disc(40, (20, 20), 18).astype(float), mask) is mask
    assert found_mask(np.zeros((40, 40)), mask) is mask


def test_found_keeps_all_components_and_empty_masks_empty():
    parts = disc(60, (20, 20), 9) | disc(60, (50, 50), 5)
    assert np.array_equal(found_mask(parts.astype(float), disc(60, (21, 21), 9)), parts)
    nothing = np.zeros((20, 20), bool)
    assert not found_mask(np.zeros((20, 20)), nothing).any()
    assert intersection_over_union(nothing, nothing) == 1


@pytest.mark.parametrize("how", ["none", "solver", "found"])
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (23, 34)])
def test_refined_maps_stay_between_0_and_1(how, size):
    refined = refine(picture(*size), np.random.default_rng(0).uniform(0, 1, size).astype(np.float32), how)
    assert (refined.shape, refined.dtype) == (size, np.float32)
    assert 0 <= refined.min() <= refined.max() <= 1
