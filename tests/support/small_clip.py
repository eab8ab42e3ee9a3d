"""A small CLIP with random weights."""

import open_clip
import torch

from wordmask.encoders.clip import ClipEncoder

WIDTH, LAYERS, HEADS, PATCH, NATIVE, CONTEXT = 48, 4, 4, 8, (4, 4), 77


def small_clip(quick_gelu=False, precision="fp32", seed=0) -> ClipEncoder:
    torch.manual_seed(seed)
    model = open_clip.CLIP(
        embed_dim=24,
        vision_cfg={
            "image_size": 32,
            "patch_size": PATCH,
            "width": WIDTH,
            "layers": LAYERS,
            "head_width": 12,
        },
        text_cfg={"context_length": CONTEXT, "width": 32, "heads": 2, "layers": 2},
        quick_gelu=quick_gelu,
    )
    with torch.no_grad():  # small random models start almost linear; larger weights exercise every term
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return ClipEncoder(model, open_clip.get_tokenizer("ViT-B-32"), name="small")
