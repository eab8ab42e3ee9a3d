"""What SelfMask learns from: every query should draw the voted mask, and the better it does the surer it should be."""

import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1.0
"""Added to both sides of the fraction, as in MaskFormer: an empty mask of an empty target costs nothing."""


def dice_losses(masks: Tensor, targets: Tensor) -> Tensor:
    """masks (..., P) and targets (..., P) in [0, 1] -> (...): 1 - Dice's coefficient."""
    shared = 2 * (masks * targets).sum(dim=-1) + SMOOTH
    return 1 - shared / (masks.sum(dim=-1) + targets.sum(dim=-1) + SMOOTH)


def ranking_loss(scores: Tensor, dice: Tensor) -> Tensor:
    """scores (..., Q) and Dice losses (..., Q) -> (...): over all pairs of queries in which the one with the better
    mask has the lower score, how much lower. A hinge without a margin; equal masks are in no order.
    """
    better = dice[..., :, None] < dice[..., None, :]  # (..., Q, Q) the first draws better than the second
    lag = scores[..., None, :] - scores[..., :, None]  # by how much the second is surer than the first
    return (lag.clamp(min=0) * better).sum(dim=(-2, -1))


def selfmask_losses(masks: Tensor, objectness: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """masks (L, B, Q, h, w) in [0, 1], objectness (L, B, Q) logits, targets (B, H, W) of 0 and 1.

    Both parts are summed over layers and queries and averaged over the pictures, of which those with an empty target
    teach nothing. Masks are compared at the targets' size; the ranking does not move the masks.
    """
    layers, pictures = objectness.shape[:2]
    large = F.interpolate(masks.flatten(0, 1), targets.shape[-2:], mode="bilinear", align_corners=False)
    large = large.flatten(2).unflatten(0, (layers, pictures))  # (L, B, Q, P)
    taught = targets.flatten(1).any(dim=1).to(masks.dtype)  # (B,)
    dice = dice_losses(large, targets.flatten(1).to(masks.dtype)[None, :, None])  # (L, B, Q)
    ranking = ranking_loss(objectness.sigmoid(), dice.detach())  # (L, B)
    return {
        "dice": (dice.sum(dim=(0, 2)) * taught).sum() / pictures,
        "ranking": (ranking.sum(dim=0) * taught).sum() / pictures,
    }
