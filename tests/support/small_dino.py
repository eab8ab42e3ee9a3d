"""A small DINO with random weights."""

import torch
from timm.models.vision_transformer import VisionTransformer

from support.plain_saliency import stirred
from wordmask.encoders.dino import DinoEncoder

HEADS, LAYERS, WIDTH = 3, 2, 24


def small_dino(patch=8, native=4, seed=0) -> DinoEncoder:
    torch.manual_seed(seed)
    model = VisionTransformer(
        img_size=patch * native,
        patch_size=patch,
        embed_dim=WIDTH,
        depth=LAYERS,
        num_heads=HEADS,
        num_classes=0,
        dynamic_img_size=True,
    )
    model.pretrained_cfg = {}
    return DinoEncoder(stirred(model), name="small")
