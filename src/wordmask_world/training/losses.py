"""What captions teach: which belongs to which picture, and which names a picture deserves."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wordmask.encoders.grid import Grid
from wordmask_world.drawing.names import NAMES

Parameters = ParamSpec("Parameters")
NAMING_SCALE = 30.0
"""Of cosines before a softmax over the names: between what a CLIP begins with (14) and what it ends with (100)."""


def in_full_precision(loss: Callable[Parameters, Tensor]) -> Callable[Parameters, Tensor]:
    """Logits are cosines times a scale of up to 100: half precision would round them to a step of a half."""

    @wraps(loss)
    def precise(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Tensor:
        device = next(value.device.type for value in args if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*args, **kwargs)

    return precise


@in_full_precision
def contrastive_loss(images: Tensor, texts: Tensor, captions: list[str], scale: Tensor) -> Tensor:
    """CLIP's loss over normalised embeddings (B, D), both ways; equal captions are not told apart."""
    groups = {caption: place for place, caption in enumerate(captions)}
    group = torch.tensor([groups[caption] for caption in captions], device=images.device)
    target = (group[:, None] == group[None]).float()
    target = target / target.sum(dim=1, keepdim=True)
    logits = scale * images.float() @ texts.float().T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class NameLoss(nn.Module):
    """Every name is asked for alone: is it mentioned? (the sigmoid loss of SigLIP, with the names as captions)

    `peak` asks it of a map: the best of its cells answer for the whole, as a name holds of a part of the picture.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.3))  # exp -> 10, SigLIP's start
        self.bias = nn.Parameter(torch.full((len(NAMES),), -4.0))

    @in_full_precision
    def forward(self, embeddings: Tensor, names: Tensor, named: Tensor) -> Tensor:
        """Normalised (B, D) and (N, D); named (B, N)."""
        return self._loss(embeddings.float() @ names.float().T, named)

    @in_full_precision
    def peak(self, maps: Tensor, names: Tensor, named: Tensor, share: float) -> Tensor:
        """Normalised maps (B, D, h, w); the mean of the best `share` of the cells answers."""
        cosines = torch.einsum("bdn,kd->bkn", maps.flatten(2).float(), names.float())
        best = cosines.topk(max(1, round(share * cosines.shape[-1])), dim=-1).values
        return self._loss(best.mean(dim=-1), named)

    def _loss(self, cosines: Tensor, named: Tensor) -> Tensor:
        logits = self.scale.exp() * cosines + self.bias
        return F.binary_cross_entropy_with_logits(logits, named, reduction="none").sum(dim=1).mean()


@in_full_precision
def same_names_loss(student: Tensor, teacher: Tensor, names: Tensor) -> Tensor:
    """Cross-entropy between what teacher and student (..., D) would be called among all names (N, D); all normalised.

    Cosines alone are ruled by what fills pictures, the stuff; between names, a thing counts as much.
    """
    said = (NAMING_SCALE * student.float() @ names.float().T).log_softmax(dim=-1)
    told = (NAMING_SCALE * teacher.detach().float() @ names.float().T).softmax(dim=-1)
    return -(told * said).sum(dim=-1).mean()


def imitation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of (B, n, C) to the teacher's features, every channel brought to mean 0 and deviation 1."""
    flat = teacher.detach().float().flatten(0, 1)
    target = F.batch_norm(flat, None, None, training=True)
    return F.mse_loss(student.float().flatten(0, 1), target)


def alignment_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine along the last dimension."""
    return 1 - F.cosine_similarity(student.float(), teacher.detach().float(), dim=-1).mean()


def at_patches(maps: Tensor, grid: Grid, kept: Tensor | None = None) -> Tensor:
    """The teacher's map (B, C, h, w) at the student's patches: (B, n, C)."""
    if maps.shape[-2] > grid[0]:
        maps = F.adaptive_avg_pool2d(maps.float(), grid)
    else:
        maps = F.interpolate(maps.float(), grid, mode="bilinear", align_corners=False)
    places = maps.flatten(2).transpose(1, 2)
    return places if kept is None else places.gather(1, kept[..., None].expand(-1, -1, places.shape[-1]))
