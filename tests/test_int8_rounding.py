"""Rounding of weights that makes up for its errors: against the paper's equations in loops, and never worse than the
nearest whole numbers.
"""

import numpy as np
import pytest
import torch

from wordmask.encoders.int8_rounding import DAMPING, LAZY, compensated, to_nearest


def layer(outputs, inputs, count=60, seed=0):
    """A weight, scales, and what it reads: numbers that go together, some of them large, with a mean."""
    chance = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=chance)
    mixing = torch.randn(inputs, inputs, generator=chance) * torch.linspace(0.05, 3, inputs)
    read = torch.randn(count, inputs, generator=chance) @ mixing + 0.5
    return weight, weight.abs().amax(dim=1) / 127, read


def plain(weight, scales, read):
    """Optimal brain quantisation of one row at a time, with an inverse from which rounded inputs are eliminated
    (Equations 2 and 3 of the paper), in double precision.
    """
    weight, scales, read = (value.double().numpy() for value in (weight, scales, read))
    hessian = 2 * read.T @ read
    order = np.argsort(-np.diag(hessian))
    damped = hessian + DAMPING * np.diag(hessian).mean() * np.eye(len(hessian))
    found = np.zeros_like(weight)
    for row, own in enumerate(weight):
        left, inverse = own.copy(), np.linalg.inv(damped)
        for column in order:
            found[row, column] = np.clip(np.rint(left[column] / scales[row]), -127, 127)
            error = left[column] - found[row, column] * scales[row]
            left = left - error / inverse[column, column] * inverse[:, column]
            inverse = inverse - np.outer(inverse[:, column], inverse[column]) / inverse[column, column]
            inverse[column, :] = inverse[:, column] = 0
    return found


def changed(weight, whole, scales, read):
    return (((weight - whole * scales[:, None]) @ read.T) ** 2).sum(dim=1)


@pytest.mark.parametrize(("outputs", "inputs"), [(7, 2 * LAZY + 5), (40, 9)])
def test_it_is_the_paper_s(outputs, inputs):
    weight, scales, read = layer(outputs, inputs, count=3 * inputs)
    found, wanted = compensated(weight, scales, read), torch.from_numpy(plain(weight, scales, read)).float()
    nearest = to_nearest(weight, scales, read)
    takes_nearest = changed(weight, nearest, scales, read) < changed(weight, wanted, scales, read)
    assert takes_nearest.float().mean() < 0.3
    assert torch.equal(found[~takes_nearest], wanted[~takes_nearest])
    assert torch.equal(found[takes_nearest], nearest[takes_nearest])
    assert not torch.equal(wanted, nearest)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [5, 200])
def test_outputs_change_no_more_than_by_the_nearest(seed, count):
    """Also where there are fewer tokens than inputs."""
    weight, scales, read = layer(30, 50, count, seed)
    read[:, 7] = 0  # is never read
    found, nearest = (way(weight, scales, read) for way in (compensated, to_nearest))
    ours, theirs = (changed(weight, whole, scales, read) for whole in (found, nearest))
    assert (ours <= theirs * (1 + 1e-4)).all()
    assert ours.sum() < 0.7 * theirs.sum()
    assert found.abs().max() <= 127
    assert torch.equal(found, found.round())


def test_inputs_that_have_nothing_in_common_are_rounded_to_the_nearest():
    weight, scales, _ = layer(12, 20)
    read = 3 * torch.eye(20)
    assert torch.equal(compensated(weight, scales, read), to_nearest(weight, scales, read))


@pytest.mark.parametrize("read", [torch.zeros(4, 6), torch.full((4, 6), 1e-30)])
def test_what_is_never_read_is_rounded_all_the_same(read):
    weight, scales, _ = layer(3, 6)
    assert compensated(weight, scales, read).isfinite().all()
