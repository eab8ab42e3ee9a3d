"""The training of CLIP-DINOiser's heads, small enough for a test."""

import torch
from torch import nn

from support import plain_saliency
from wordmask.saliency.found import Found
from wordmask.training.clip_dinoiser import DinoiserTraining, Teachers


def teachers(*, shared=True):
    """Patches of 8 pixels, as the small CLIP's."""
    dino = plain_saliency.tiny_dino()
    torch.manual_seed(3)
    head = nn.Conv2d(plain_saliency.WIDTH, 1, 1)
    return Teachers(dino, Found(dino if shared else plain_saliency.tiny_dino(), head))


def settings(folder, out, **changes):
    options = {"crop": 32, "batch": 4, "steps": 4, "decay_after": 2, "device": "cpu", "most_pictures": None}
    return DinoiserTraining(pictures=folder, out=out, **{**options, "log_every": 1, **changes})
