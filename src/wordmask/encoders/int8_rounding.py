"""Rounding of a layer's weights to whole numbers: each to the nearest, or so that what the layer gives changes least.

The second is GPTQ (Frantar et al., ICLR 2023): inputs are rounded one after the other, and what rounding one of them
changes is made up for by those that are still to come, by the least squares of what the layer reads on some pictures.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Rounding = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From a weight (out, in), a scale for each output (out,), and what the layer reads (n, in), to whole numbers (out, in)
from -127 to 127, as floats."""
LARGEST = 127
DAMPING = 0.01
"""Of the mean of the Hessian's diagonal, added to all of it: the paper's (its section 3.3)."""
LAZY = 32
"""Inputs whose corrections reach the others together: the paper's B, which changes no number."""


def to_nearest(weight: Tensor, scales: Tensor, read: Tensor) -> Tensor:
    """Return whole numbers that are nearest to `weight / scales`; `read` plays no part."""
    return (weight / scales[:, None]).round_().clamp_(-LARGEST, LARGEST)


def compensated(weight: Tensor, scales: Tensor, read: Tensor) -> Tensor:
    """Return whole numbers by GPTQ; for outputs that the nearest ones change less on `read`, those.

    The loudest inputs come first, while there are many left to make up for them (the authors' "act-order").
    """
    products = read.T @ read  # (in, in), half of the Hessian of every output's squared error
    order = products.diagonal().argsort(descending=True)
    inverse = _inverse_root(products[order][:, order])
    left = weight.T[order].contiguous()  # (in, out)
    whole = torch.empty_like(left)
    for first in range(0, len(left), LAZY):
        last = min(first + LAZY, len(left))
        numbers, errors = _group(left[first:last].numpy(), scales.numpy(), inverse[first:last, first:last].numpy())
        whole[first:last] = torch.from_numpy(numbers)
        left[last:].addmm_(inverse[first:last, last:].T, torch.from_numpy(errors), alpha=-1)
    found = torch.empty_like(weight)
    found[:, order] = whole.T
    nearest = to_nearest(weight, scales, read)
    better = _changed(weight, found, scales, products) < _changed(weight, nearest, scales, products)
    return torch.where(better[:, None], found, nearest)


def _group(left: np.ndarray, scales: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round inputs (B, out) one after the other, and return whole numbers, and errors that others have to make up for.

    In NumPy: torch would share each of the many small steps among its threads.
    """
    numbers, errors = np.empty_like(left), np.empty_like(left)
    for index, own in enumerate(left):
        numbers[index] = np.clip(np.rint(own / scales), -LARGEST, LARGEST)
        errors[index] = (own - numbers[index] * scales) / inverse[index, index]
        left[index + 1 :] -= inverse[index, index + 1 :, None] * errors[index]
    return numbers, errors


def _inverse_root(products: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the damped inverse (the paper's Algorithm 1, step 3)."""
    damped = products.double()
    damped.diagonal().add_((DAMPING * damped.diagonal().mean()).clamp(min=torch.finfo(torch.float32).tiny))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).to(products.dtype)


def _changed(weight: Tensor, whole: Tensor, scales: Tensor, products: Tensor) -> Tensor:
    """Return the squared change of each output, summed over what the products are of."""
    off = weight - whole * scales[:, None]
    return ((off @ products) * off).sum(dim=1)
