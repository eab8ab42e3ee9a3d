"""FOUND's training: a 1x1 convolution learns the seed mask, then, from its own sharpened answers, to do better."""

from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.console.progress import Progress
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.refinement.clean_up import THRESHOLD, found_mask
from wordmask.saliency.base import SaliencyError
from wordmask.saliency.found import background_mask, new_head
from wordmask.training.claim import claimed_run
from wordmask.training.loop import Crops, Objective, PicturesTraining, Scale, Share, train
from wordmask.training.pictures import Pictures
from wordmask.weights.loading import fingerprint, write_state_dict

VERB, HEAD_FILE = "train-found", "found.safetensors"


@dataclass(frozen=True)
class FoundTraining(PicturesTraining):
    """Figures are FOUND's. seed_steps: how long the seed mask teaches; after that the head's own answer does.

    decay, decay_every: the learning rate is multiplied by `decay` after so many steps.
    """

    verb: ClassVar[str] = VERB

    dino: str = "vit_small_patch8_224.dino"
    dino_weights: str | None = None
    scale: Scale | None = (0.1, 3.0)
    flip: Share = 0.5
    blur: Share = 0.5
    batch: PositiveInt = 50
    learning_rate: PositiveFloat = 5e-2
    steps: PositiveInt = 500
    decay: NonNegativeFloat = 0.95
    decay_every: PositiveInt = 50
    seed_steps: NonNegativeInt = 100
    solved_weight: NonNegativeFloat = 1.5
    own_weight: NonNegativeFloat = 4.0
    similarity: Annotated[float, Field(ge=-1, le=1)] = 0.3


def solved_masks(grids: list[BilateralGrid], masks: Tensor) -> Tensor:
    """Masks (B, h, w) bool on the patches -> what the bilateral solver makes of each in its picture, on the patches
    again, where FOUND would believe it; the mask itself elsewhere.
    """
    out = masks.clone()
    for place, (grid, mask) in enumerate(zip(grids, masks, strict=True)):
        large = F.interpolate(mask[None, None].float().cpu(), grid.size, mode="bilinear", align_corners=False)
        soft = large[0, 0].double().numpy()
        kept = soft > THRESHOLD
        refined = found_mask(grid.solve(soft), kept)
        if refined is not kept:
            share = F.adaptive_avg_pool2d(torch.from_numpy(refined)[None].float(), mask.shape)[0]
            out[place] = (share > THRESHOLD).to(masks.device)
    return out


class FoundObjective(Objective):
    """Only the head is a part of it; the DINO that it reads is frozen."""

    def __init__(self, encoder: DinoEncoder, settings: FoundTraining):
        super().__init__()
        if settings.crop % encoder.patch_size:
            raise SaliencyError(f"crop={settings.crop} is no multiple of {encoder.name}'s patch, {encoder.patch_size}")
        self.head = new_head(encoder.width)
        self.settings = settings
        self.teachers = (fingerprint(encoder.model),)
        self._encoder = [encoder]  # in a list, so that its tensors are none of this module's

    def losses(self, crops: Crops, step: int) -> dict[str, Tensor]:
        settings = self.settings
        features = self._encoder[0](crops.images.to(self.head.weight.device).float() / 255)
        logits = self.head(features.key_maps().clone())[:, 0]  # (B, h, w); the clone may take part in a gradient
        grids = [BilateralGrid(np.ascontiguousarray(image.permute(1, 2, 0).numpy())) for image in crops.images]
        own = logits.detach() > 0  # (B, h, w) probability above one half
        parts = {"solved": settings.solved_weight * _cross_entropy(logits, solved_masks(grids, own))}
        if step < settings.seed_steps:
            foreground = ~background_mask(features, settings.similarity)
            parts["seed"] = _cross_entropy(logits, solved_masks(grids, foreground))
        else:
            parts["own"] = settings.own_weight * _cross_entropy(logits, own)
        return parts


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))


def train_found(settings: FoundTraining, progress: Progress | None = None) -> nn.Conv2d:
    """Run, or go on with, a training; the head, which also lies in `out` as found.safetensors."""
    encoder = dino_at(settings.dino, settings.dino_weights, Compute(settings.device, settings.precision))
    return train_head(encoder, settings, settings.open_pictures(), progress)


def train_head(
    encoder: DinoEncoder, settings: FoundTraining, pictures: Pictures, progress: Progress | None = None
) -> nn.Conv2d:
    """`train_found` with an encoder and pictures at hand."""
    torch.manual_seed(settings.seed)
    objective = FoundObjective(encoder, settings)
    with claimed_run(settings.out, VERB, FoundTraining.__name__):
        train(
            objective,
            settings,
            pictures,
            steps=settings.steps,
            rate=lambda step: settings.decay ** (step // settings.decay_every),
            progress=progress,
        )
        told = {"dino": encoder.name, "settings": settings.identity(pictures), "steps": str(settings.steps)}
        write_state_dict(settings.out / HEAD_FILE, objective.head.state_dict(), told)
    return objective.head
