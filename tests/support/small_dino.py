"""A small DINO with random weights."""

import torch
from timm.models.vision_transformer import VisionTransformer

from wordmask.encoders.dino import DinoEncoder

HEADS, LAYERS, WIDTH = 3, 2, 24


def stirred(model, amount=0.1, seed=0):
    """Random weights large enough that every term counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=generator))
    return model


def small_dino(patch=8, native=4, seed=0, *, width=WIDTH, name="small") -> DinoEncoder:
    torch.manual_seed(seed)
    model = VisionTransformer(
        img_size=patch * native,
        patch_size=patch,
        embed_dim=width,
        depth=LAYERS,
        num_heads=HEADS,
        num_classes=0,
        dynamic_img_size=True,
    )
    model.pretrained_cfg = {}
    return DinoEncoder(stirred(model), name=name)
