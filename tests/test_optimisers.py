"""Muon turns matrices by the same length in every direction; everything else is AdamW's."""

import numpy as np
import pytest
import torch
from torch import nn

from wordmask_world.training.optimisers import MOMENTUM, Muon, Optimisers, orthogonalised


@pytest.mark.parametrize("shape", [(12, 12), (8, 30), (30, 8)])
def test_orthogonalised_keeps_the_directions_and_evens_the_lengths(shape):
    torch.manual_seed(0)
    matrix = torch.randn(3, *shape)
    for before, after in zip(matrix.numpy(), orthogonalised(matrix).numpy(), strict=True):
        left, _, right = np.linalg.svd(before, full_matrices=False)
        lengths = np.diag(left.T @ after @ right.T)
        assert 0.4 < lengths.min() <= lengths.max() < 1.4
        np.testing.assert_allclose(left @ np.diag(lengths) @ right, after, atol=0.05)


def test_a_step_is_the_published_one():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6, 4, 3, 3))
    muon = Muon([{"params": [weight], "lr": 0.1, "weight_decay": 0.5, "parts": 1}])
    expected, momentum = weight.detach().numpy().astype(float).copy(), np.zeros((6, 36))
    for _ in range(3):
        gradient = torch.randn_like(weight)
        weight.grad = gradient.clone()
        muon.step()
        flat = gradient.numpy().reshape(6, 36).astype(float)
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * flat
        ahead = (1 - MOMENTUM) * flat + MOMENTUM * momentum
        turned = orthogonalised(torch.tensor(ahead, dtype=torch.float32)).numpy()
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 6 * turned.reshape(6, 4, 3, 3)
    np.testing.assert_allclose(weight.detach().numpy(), expected, atol=0.02)  # rounds are in half precision


def test_stacked_matrices_turn_on_their_own():
    torch.manual_seed(0)
    gradient = torch.randn(12, 4) * torch.tensor([1.0, 10.0, 100.0]).repeat_interleave(4)[:, None]
    together, alone = nn.Parameter(torch.zeros(12, 4)), [nn.Parameter(torch.zeros(4, 4)) for _ in range(3)]
    together.grad = gradient.clone()
    for parameter, part in zip(alone, gradient.chunk(3), strict=True):
        parameter.grad = part.clone()
    Muon([{"params": [together], "parts": 3}]).step()
    Muon([{"params": alone}]).step()
    torch.testing.assert_close(together.detach(), torch.cat([parameter.detach() for parameter in alone]))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.blocks = nn.Linear(4, 4), nn.ModuleList([nn.Linear(4, 4)])
        self.still = nn.Parameter(torch.zeros(4, 4), requires_grad=False)


def test_matrices_inside_go_to_muon_the_rest_to_adamw():
    model = Small()
    both = Optimisers(model, weight_decay=0.3)
    both.set_learning_rate(1.0)
    seen = {
        id(parameter): (type(optimiser).__name__, group["lr"], group["weight_decay"])
        for optimiser in both.all
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    assert seen == {
        id(model.first.weight): ("AdamW", 1.0, 0.3),
        id(model.first.bias): ("AdamW", 1.0, 0.0),
        id(model.blocks[0].weight): ("Muon", 1.0, 0.3),
        id(model.blocks[0].bias): ("AdamW", 1.0, 0.0),
    }


def test_a_saved_state_goes_on_as_if_never_stopped():
    def run(stop_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        model = Small()
        both = Optimisers(model, weight_decay=0.1)
        for step in range(6):
            if step == stop_at:
                state, weights = both.state_dict(), model.state_dict()
                model = Small()
                model.load_state_dict(weights)
                both = Optimisers(model, weight_decay=0.1)
                both.load_state_dict(state)
            both.set_learning_rate(0.01 * (step + 1))
            both.zero_grad()
            data = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            model.blocks[0](model.first(data)).square().sum().backward()
            both.step()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    torch.testing.assert_close(run(3), run(None), rtol=0, atol=0)
