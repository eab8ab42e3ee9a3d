"""Spectral clusters and their votes, against the dense matrices of the papers."""

import numpy as np
import pytest
import torch

from support import plain_saliency
from wordmask import saliency
from wordmask.saliency.base import SaliencyError
from wordmask.saliency.spectral_voting import (
    VotedMasks,
    VotingSettings,
    candidate_masks,
    cluster,
    clustering_grid,
    pairwise_iou,
    spans,
    spectral_embedding,
    vote,
)

TOLERANCE = 1e-5


def points(count, width, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (count, width))


@pytest.mark.parametrize(("count", "width", "shift"), [(40, 6, 0.0), (40, 6, 3.0), (10, 30, 0.0), (10, 30, 2.0)])
def test_the_embedding_is_that_of_the_dense_laplacian(count, width, shift):
    """Fewer points than features too, and cosines that are all positive."""
    data = points(count, width, shift=shift)
    ours, expected = spectral_embedding(data, 4), plain_saliency.normalised_eigenvectors(data, 4)
    signs = np.sign((ours * expected).sum(axis=0))
    assert np.abs(ours * signs - expected).max() < TOLERANCE


def test_features_that_are_all_alike_have_no_embedding():
    for alike in (np.ones((20, 5)), np.zeros((20, 5)), np.ones((1, 5))):
        assert spectral_embedding(alike, 2) is None


def test_two_groups_are_told_apart():
    groups = np.repeat([0, 1], 20)
    data = points(40, 8, seed=1) * 0.1 + np.eye(8)[groups]
    labels = cluster(spectral_embedding(data, 2), 2)
    assert len(set(labels[:20])) == len(set(labels[20:])) == 1
    assert labels[0] != labels[-1]


def test_equal_inputs_give_equal_clusters_and_fewer_points_fewer():
    embedding = spectral_embedding(points(60, 6), 4)
    assert np.array_equal(cluster(embedding, 4), cluster(embedding, 4))
    assert len(np.unique(cluster(np.repeat([[0.0, 1.0]], 9, axis=0), 3))) == 1


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [
        ((6, 9), 4096, (12, 18)),
        ((32, 32), 4096, (64, 64)),
        ((40, 60), 4096, (52, 78)),
        ((64, 64), 4096, (64, 64)),
        ((128, 128), 4096, (64, 64)),
        ((1, 5000), 4096, (1, 4096)),
        ((5000, 1), 4096, (4096, 1)),
        ((1, 1), 64, (2, 2)),
    ],
)
def test_the_grid_is_twice_as_fine_up_to_the_limit(size, most, expected):
    data, grid = clustering_grid(torch.rand(3, *size), most)
    assert grid == expected
    assert data.shape == (grid[0] * grid[1], 3)


def test_pooling_averages_what_it_joins():
    features = torch.rand(3, 32, 32)
    data, grid = clustering_grid(features, 64)
    assert grid == (8, 8)
    expected = features.double().numpy().reshape(3, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(3, -1).T
    assert np.allclose(data, expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("rows", "columns", "spanning"),
    [
        (slice(0, 9), slice(3, 5), True),
        (slice(3, 5), slice(0, 12), True),
        (slice(0, 8), slice(0, 11), False),
        (slice(1, 9), slice(1, 12), False),
    ],
)
def test_masks_that_reach_from_side_to_side_are_known(rows, columns, spanning):
    mask = np.zeros((1, 9, 12), bool)
    mask[0, rows, columns] = True
    assert spans(mask)[0] == spanning


@pytest.mark.parametrize("seed", range(8))
def test_the_vote_is_that_of_the_loops(seed):
    chance = np.random.default_rng(seed)
    masks = np.zeros((9, 14, 17), bool)
    for mask in masks:
        top, left = chance.integers(0, 8, 2)
        mask[top : top + chance.integers(2, 15), left : left + chance.integers(2, 17)] = True
    assert np.array_equal(vote(masks), masks[plain_saliency.vote(masks)])
    assert not vote(masks[:0]).any()  # without candidates nothing is foreground


def test_where_every_candidate_spans_the_picture_all_stay():
    masks = np.zeros((3, 6, 6), bool)
    masks[0, :, :3] = masks[1, :, :4] = masks[2, :2] = True
    assert spans(masks).all()
    assert np.array_equal(vote(masks), masks[plain_saliency.vote(masks)])


def test_overlaps_in_pieces_equal_overlaps_at_once(monkeypatch):
    masks = np.random.default_rng(0).random((5, 30, 30)) < 0.5
    whole = pairwise_iou(masks)
    monkeypatch.setattr("wordmask.saliency.spectral_voting.PIXELS_AT_ONCE", 77)
    assert np.array_equal(pairwise_iou(masks), whole)
    assert np.allclose(whole.diagonal(), 1)


def test_candidates_are_every_cluster_of_every_run():
    features = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0))
    masks = candidate_masks(features, (40, 56), (37, 50), (37, 50))
    assert masks.shape == (9, 37, 50)
    for run in (masks[:2], masks[2:5], masks[5:]):
        assert (run.sum(axis=0) == 1).all()


def halves(size, rows=slice(4), columns=slice(4)):
    """Candidates where some of four rows or columns of patches, the last half padding, differ from the others."""
    features = torch.zeros(2, 4, 4)
    features[0, rows, columns] = 1
    features[1] = 1 - features[0]
    return candidate_masks(features, (32, 32), (28, 32), size, clusters=(2,))


def test_padding_is_cut_off_before_the_filter():
    """A left half, in a picture whose last half-patch is padding, still reaches its bottom."""
    assert spans(halves((28, 32), columns=slice(2))).all()


@pytest.mark.parametrize("size", [(28, 32), (56, 64), (14, 16)])
def test_clusters_lie_where_their_patches_do(size):
    """The border is at 16 of 28 pixels, at any size."""
    masks = halves(size, rows=slice(2))
    top, border = masks[masks[:, 0, 0].argmax()], size[0] * 16 // 28
    assert top[:border].all()
    assert not top[border:].any()


def test_several_encoders_vote_together():
    encoders = [plain_saliency.tiny_dino(seed) for seed in (0, 1)]
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    settings = VotingSettings(clusters=(2, 3))
    both = VotedMasks(encoders, settings).maps([image])[0]
    parts = []
    for encoder in encoders:
        tokens = encoder(torch.from_numpy(image).permute(2, 0, 1)[None] / 255).tokens[0]
        parts.append(candidate_masks(tokens, (40, 48), (40, 48), (40, 48), clusters=(2, 3)))
    assert np.array_equal(both, vote(np.concatenate(parts)))


def test_a_vote_needs_a_voter_and_as_many_weights_as_encoders():
    with pytest.raises(SaliencyError, match="at least one"):
        VotedMasks([])
    with pytest.raises(SaliencyError, match="as many"):
        saliency.load("spectral", dinos=("a", "b"), dino_weights=("c",))
