"""CLIP's image tower with a CLS for every region of a picture (CorrCLIP's semantic branch).

Each region has a copy of the CLS token, from the first block to the last. A copy attends to the picture's own CLS and
to the patches of its region; nothing attends to a copy, so the picture's own tokens are what they are without any.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.encoders.clip_dense import DenseViT, Tokens, in_projection
from wordmask.encoders.grid import CLIP_POSITIONS, PositionRule
from wordmask.encoders.heads import merge_heads, split_heads


def run_in_regions(
    vit: DenseViT,
    image: Tensor,
    members: Tensor,
    *,
    keep: Collection[int] = (),
    positions: PositionRule = CLIP_POSITIONS,
) -> tuple[Tokens, Tensor]:
    """Run a normalised picture (1, 3, H, W) through all blocks but the last, as `DenseViT.run` does, and the copies of
    CLS through all of them: the picture's tokens, and the copies (R, C) as the last block gives them.

    Copies look at every block's keys and values, so that the blocks are computed here in the model's own numbers, also
    where `DenseViT.run` has them in int8.

    members: (R, h*w) bool, which patches are of each region. keep: blocks whose outputs are wanted too, from 0.
    """
    grid = (image.shape[-2] // vit.patch, image.shape[-1] // vit.patch)
    x = vit._embed(image, grid, positions)  # (1, 1 + h*w, C)
    copies = x[:, :1].expand(-1, len(members), -1)  # (1, R, C)
    seen = torch.cat([members.new_ones(len(members), 1), members], dim=1)  # (R, 1 + h*w)
    kept: dict[int, Tensor] = {}
    for number, block in enumerate(vit.blocks):
        attention, heads = block.attn, block.attn.num_heads
        q, k, v = (
            split_heads(part, heads)
            for part in F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        )  # (1, heads, 1 + h*w, d)
        asked = split_heads(in_projection(attention, block.ln_1(copies), 0), heads)
        looked = merge_heads(F.scaled_dot_product_attention(asked, k, v, attn_mask=seen))
        copies = copies + block.ls_1(attention.out_proj(looked))
        copies = copies + block.ls_2(block.mlp(block.ln_2(copies)))
        if block is vit.last:
            break
        x = x + block.ls_1(attention.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v))))
        x = x + block.ls_2(block.mlp(block.ln_2(x)))
        if number in keep:
            kept[number] = x
    return Tokens(x, grid, kept), copies[0]
