"""Muon for the matrices inside a network, AdamW for the rest: the same models in about half the pictures.

Muon (Jordan et al. 2024) gives every direction of a matrix's update the same length. Updates are scaled to the size of
AdamW's (Liu et al. 2025), so that one learning rate serves both. `torch.optim.Muon` takes no kernels, and both it and
timm's take queries, keys and values for one matrix and halve the precision before a matrix is scaled: ten steps at a
rate of 0.01 end 0.001 and more apart, and these models would be others.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan's coefficients: singular values come near 1 in few rounds."""
ROUNDS = 5
ADAM_LENGTH = 0.2
"""The usual root mean square of AdamW's update."""
_INSIDE = re.compile(r"(^|\.)(resblocks|blocks|layer[1-4])\.")
_FUSED = re.compile(r"(in_proj_weight|qkv\.weight)$")
"""Queries, keys and values in one matrix: three matrices to Muon."""

Group = dict[str, Any]


def orthogonalised(matrices: Tensor) -> Tensor:
    """(..., m, n) -> the same with all singular values near 1, by Newton and Schulz's iteration."""
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    x = x.bfloat16()
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    x = x.float()
    return x.mT if tall else x


class Muon(Optimizer):
    """For parameters of two or more dimensions; kernels are matrices of outputs by everything else.

    A group's `parts` says how many matrices are stacked in each of its parameters.
    """

    def __init__(self, groups: list[Group]):
        super().__init__(groups, {"lr": 1e-3, "weight_decay": 0.0, "parts": 1})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum: Tensor = state["momentum"]
                momentum.lerp_(parameter.grad, 1 - MOMENTUM)
                ahead = parameter.grad.lerp(momentum, MOMENTUM)  # Nesterov's
                matrices = ahead.reshape(group["parts"], ahead.shape[0] // group["parts"], -1)
                update = orthogonalised(matrices).reshape(parameter.shape)
                length = ADAM_LENGTH * max(matrices.shape[-2:]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * length)


class Optimisers:
    """Both as one."""

    def __init__(self, model: nn.Module, *, weight_decay: float):
        groups: dict[tuple[str, float, int], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            inside = parameter.ndim > 1 and _INSIDE.search(name) is not None
            parts = 3 if inside and _FUSED.search(name) else 1
            decay = weight_decay if parameter.ndim > 1 else 0.0  # biases, norms and scales do not decay
            groups.setdefault(("muon" if inside else "adamw", decay, parts), []).append(parameter)

        def of(kind: str) -> list[Group]:
            return [
                {"params": parameters, "weight_decay": decay, "parts": parts}
                for (owner, decay, parts), parameters in groups.items()
                if owner == kind
            ]

        self.all: list[Optimizer] = []
        if matrices := of("muon"):
            self.all.append(Muon(matrices))
        if rest := of("adamw"):
            self.all.append(AdamW(rest, betas=(0.9, 0.98)))

    def set_learning_rate(self, rate: float) -> None:
        for optimiser in self.all:
            for group in optimiser.param_groups:
                group["lr"] = rate

    def zero_grad(self) -> None:
        for optimiser in self.all:
            optimiser.zero_grad(set_to_none=True)

    def step(self) -> None:
        for optimiser in self.all:
            optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        return {type(optimiser).__name__: optimiser.state_dict() for optimiser in self.all}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for optimiser in self.all:
            optimiser.load_state_dict(state[type(optimiser).__name__])
