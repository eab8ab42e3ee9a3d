"""LPOSS and LPOSS+ against their equations, in loops and double precision, on the solver that the paper names."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from support.plain_lposs import patch_matrix, pixel_matrix, plain_lab, solved
from wordmask.pictures.windows import SlidingWindows, Spread
from wordmask.refinement import lposs
from wordmask.refinement.lposs import LpossParameters, PatchGraph, PixelGraph, conjugate_gradients, lab, on_grid

PATCH = 8
PARAMETERS = LpossParameters(neighbours=7)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_patch(scores):
    """(n, Q, h, w) -> (n * h * w, Q)"""
    return scores.double().permute(0, 2, 3, 1).flatten(0, 2).numpy()


@pytest.mark.parametrize("size", [(32, 32), (32, 52), (45, 32)])
def test_patches_scores_equal_the_equations(size):
    plan = SlidingWindows(*size, 32, 16)
    values, scores = random(len(plan), 12, 4, 4) + 0.5, random(len(plan), 5, 4, 4, seed=1)
    expected = solved(
        patch_matrix(values, plan, PATCH, PARAMETERS),
        scores.double().numpy().swapaxes(0, 1).reshape(5, -1).T,
        PARAMETERS,
    )
    found = PatchGraph(values, plan, PATCH, PARAMETERS).solve(scores)
    assert np.abs(found.numpy().swapaxes(0, 1).reshape(5, -1).T - expected).max() < 1e-5
    assert np.abs(expected - scores.double().numpy().swapaxes(0, 1).reshape(5, -1).T).max() > 0.1


def test_a_picture_of_few_patches_has_all_of_them_for_neighbours():
    plan = SlidingWindows(32, 32, 32, 16)
    values, scores = random(1, 12, 4, 4), random(1, 2, 4, 4, seed=1)
    everyone = LpossParameters(neighbours=16)
    assert torch.equal(
        PatchGraph(values, plan, PATCH).solve(scores), PatchGraph(values, plan, PATCH, everyone).solve(scores)
    )


def test_ten_steps_are_taken_and_no_more():
    """The published code stops there, short of the solution: ten steps differ from fifty."""
    plan = SlidingWindows(64, 64, 64, 64)
    values, scores = random(1, 6, 8, 8) + 1, random(1, 1, 8, 8, seed=1)
    few, more = LpossParameters(falloff=0.2), LpossParameters(falloff=0.2, iterations=50)
    short, long = (PatchGraph(values, plan, PATCH, parameters).solve(scores) for parameters in (few, more))
    expected = solved(
        patch_matrix(values, plan, PATCH, LpossParameters(falloff=0.2)), scores.double().flatten()[:, None].numpy(), few
    )
    assert np.abs(short.flatten().numpy() - expected[:, 0]).max() < 1e-5
    assert (short - long).abs().max() > 1e-4


def test_no_name_s_scores_depend_on_the_others():
    plan = SlidingWindows(32, 32, 32, 16)
    graph, scores = PatchGraph(random(1, 12, 4, 4), plan, PATCH, PARAMETERS), random(1, 3, 4, 4, seed=1)
    scores[:, 1] *= 1e-9
    scores[:, 2] = 0
    together = graph.solve(scores)
    for name in range(3):
        assert torch.allclose(together[:, name], graph.solve(scores[:, name : name + 1])[:, 0], rtol=1e-9, atol=0)
    assert not together[:, 2].any()


def test_solving_stops_where_all_is_told():
    calls = []

    def matrix(maps):
        calls.append(1)
        return 2 * maps

    assert torch.allclose(conjugate_gradients(matrix, torch.ones(2, 4)), torch.full((2, 4), 0.5))
    assert len(calls) == 1


def test_scores_that_agree_everywhere_keep_their_scale():
    plan = SlidingWindows(32, 32, 32, 16)
    graph = PatchGraph(torch.ones(1, 12, 4, 4), plan, PATCH, LpossParameters(falloff=0.0))
    assert torch.allclose(graph.spread(torch.full((1, 2, 4, 4), 0.3), PATCH), torch.tensor(0.3), atol=1e-5)


def test_a_patch_unlike_all_others_keeps_what_it_has():
    values = torch.eye(4).view(1, 4, 2, 2)
    scores = random(1, 2, 2, 2)
    graph = PatchGraph(values, SlidingWindows(16, 16, 16, 16), PATCH)
    assert torch.allclose(graph.solve(scores).float(), scores)


def test_scores_of_another_grid_are_read_at_the_centres_of_the_graph_s_patches():
    maps = random(2, 3, 4, 6)
    halved = F.interpolate(maps, size=(8, 12), mode="bilinear")
    whole, cut = Spread((64, 96)), Spread((56, 80))
    assert torch.allclose(on_grid(maps, 16, (8, 12), whole), halved, atol=1e-5)
    assert torch.allclose(on_grid(maps, 16, (7, 10), cut), halved[..., :7, :10], atol=1e-5)  # windows were padded
    around = Spread((64, 96), (8, 16))  # on all sides
    assert torch.allclose(on_grid(maps, around, (6, 8), Spread((48, 64))), halved[..., 1:7, 2:10], atol=1e-5)
    assert torch.equal(on_grid(maps, whole, (4, 6), whole), maps)


def test_colours_are_those_of_cielab():
    image = torch.tensor([[1, 0, 0], [0, 1, 0], [0.01, 0.02, 0.03], [1, 1, 1], [0, 0, 0]]).T.reshape(3, 1, 5)
    expected = torch.tensor([plain_lab(pixel) for pixel in image[:, 0].T.tolist()]).T.reshape(3, 1, 5)
    assert torch.allclose(lab(image), expected, atol=1e-5)
    red = lab(image)[:, 0, 0] * torch.tensor([100, 128, 128])
    assert torch.allclose(red, torch.tensor([53.24, 80.09, 67.20]), atol=0.05)  # as colour tables have it


@pytest.mark.parametrize(("size", "reach"), [((9, 9), 6), ((5, 16), 6), ((11, 7), 2)])
def test_pixels_scores_equal_the_equations(size, reach):
    parameters = LpossParameters(reach=reach)
    image = (0.5 + 0.01 * random(3, *size)).clamp(0, 1)  # near enough for neighbours to weigh something
    image[:, 2:4, 3:5] = 0.9
    maps = random(3, *size, seed=1)
    expected = solved(pixel_matrix(image.double(), parameters), maps.double().flatten(1).T.numpy(), parameters)
    found = PixelGraph(image, parameters).solve(maps)
    assert np.abs(found.flatten(1).T.numpy() - expected).max() < 1e-4
    assert np.abs(expected - maps.flatten(1).T.numpy()).max() > 0.1


def test_pixels_are_worked_on_in_parts_without_a_seam(monkeypatch):
    image, maps = torch.rand(3, 12, 17, generator=torch.Generator().manual_seed(0)), random(11, 12, 17)
    graph = PixelGraph(image)
    whole = graph.solve(maps)
    monkeypatch.setitem(lposs.NUMBERS_TOGETHER, "cpu", 50)
    assert torch.allclose(graph.solve(maps), whole, atol=1e-6)
    assert torch.allclose(graph.solve(maps[3:4])[0], whole[3], atol=1e-6)
