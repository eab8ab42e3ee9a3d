"""ResCLIP (Yang et al., "Residual Attention for Training-free Dense Vision-Language Inference", CVPR 2025).

NACLIP's reading of the last block, with two things blended into its attention. What patches attend to in CLIP's middle
blocks, where queries meet keys as they were trained to, is nearer to places than what they do in the last one. And
what a first answer takes for one thing should attend to itself: names are asked for once, and the answer guides the
attention of a second reading. So the last block is read anew for every question; the blocks before it are not.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveFloat
from pydantic.dataclasses import dataclass
from torch import Tensor

from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_dense import NACLIP, in_projection, nearness_of
from wordmask.encoders.grid import DINO_POSITIONS, Grid, to_maps
from wordmask.encoders.heads import merge_heads, split_heads
from wordmask.names.text_embeddings import TextEmbeddings
from wordmask.refinement.pamr import PixelAffinity
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.patch_cosines import PAMR, PatchCosines, PatchCosineSettings

BLUR = NACLIP.nearness or 0.0
"""The deviation of the blur of what belongs together, in patches as they are counted row by row; the published code
takes that of NACLIP's window."""
TINY = 1e-8
"""Added to the sums by which rows are divided; the published code's."""
PAIRS_AT_ONCE = 2**21
"""Of patches and steps between them that are looked at together: some 100 MB."""

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class ResClipSettings(PatchCosineSettings):
    """middle_blocks: the first block whose attention is blended in, and the first whose is no longer; counted from 0,
    for 12 blocks. middle_share: how much of it. middle_scale: what the blend is multiplied by.
    feedback_share: how much a first answer guides the attention; 0 leaves it out. feedback_scale: what that blend is
    multiplied by, before the softmax. feedback_threshold: where the best phrase of the first answer is less probable,
    it is taken for background, or for the first name where that is not asked for.
    """

    middle_blocks: tuple[NonNegativeInt, NonNegativeInt] = (5, 9)
    middle_share: Share = 0.3
    middle_scale: PositiveFloat = 2.0
    feedback_share: Share = 0.7
    feedback_scale: PositiveFloat = 2.1
    feedback_threshold: Share = 0.25


def _published(threshold: float, middle: float, feedback: tuple[float, float], **more: Any) -> dict[str, Any]:
    return {
        **{"feedback_threshold": threshold, "middle_share": middle},
        **{"feedback_scale": feedback[0], "feedback_share": feedback[1]},
        **more,
    }


PRESETS = {"paper": ResClipSettings()}
PUBLISHED: dict[str, dict[str, Any]] = {
    "voc": _published(0.5, 0.3, (2.2, 0.7), window=None, background_threshold=0.1),
    "voc20": _published(0.1, 0.6, (2.1, 0.6), window=None),
    "context": _published(0.3, 0.3, (1.8, 0.7), background_threshold=0.1),
    "context59": _published(0.25, 0.4, (1.8, 0.7)),
    "coco-object": _published(0.11, 0.4, (1.8, 0.7), background_threshold=0.1),
    "coco-stuff": _published(0.11, 0.4, (1.8, 0.7)),
    "cityscapes": _published(0.1, 0.2, (2.1, 0.6), shorter_side=560),
}
"""What the authors set for single benchmarks, by their names. ADE20K, the most varied of them, has the defaults."""


class ResClip(PatchCosines):
    method = "resclip"
    Settings = ResClipSettings
    presets = PRESETS
    settings: ResClipSettings
    whole_in_one_step = False
    hears_grounds = False

    def __init__(self, clip: ClipEncoder, settings: ResClipSettings | None = None):
        super().__init__(clip, settings)
        settings = self.settings
        blocks, (first, stop) = len(clip.vit.blocks), settings.middle_blocks
        if not 0 < first < stop < blocks:
            raise SegmenterError(
                f"{clip.name} has {blocks} blocks, and ResCLIP reads some between the first and the last: "
                f"middle_blocks {settings.middle_blocks} do not fit"
            )

    def features(self, windows: Tensor) -> Tensor:
        """Windows (n, 3, H, W) in [0, 1] -> what the last block says without an answer to guide it, (n, D, h, w)."""
        *tokens, grid = self._run(windows)
        each = zip(*tokens, strict=True)
        return torch.stack([self._last(x, self._of_middle(middle), grid=grid) for x, *middle in each])

    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        """Return what enters the last block (n, 1 + N, C) and the middle ones; and windows, which guide the answer."""
        if not self.settings.feedback_share:
            return super().read(windows)
        padded = self.padded(windows)
        *tokens, _ = self._run(padded)
        return *tokens, padded.mul(255).round_().byte()

    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        """Run the last block, twice, window by window: cosines with every phrase (n, P, h, w)."""
        if not self.settings.feedback_share:
            return super().score(features, text)
        return torch.stack([self._guided(own, text) for own in zip(*features, strict=True)])

    def _run(self, windows: Tensor) -> tuple[Any, ...]:
        first, stop = self.settings.middle_blocks
        tokens = self.clip.run(windows, keep=range(first - 1, stop - 1), positions=DINO_POSITIONS)
        return tokens.x, *tokens.kept.values(), tokens.grid

    def _guided(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        """One window -> cosines with every phrase (P, h, w)."""
        settings = self.settings
        x, *middle, window = features
        grid = (window.shape[-2] // self.patch_size, window.shape[-1] // self.patch_size)

        def cosines(read: Tensor) -> Tensor:
            return super(ResClip, self).score((F.normalize(read[None].float(), dim=1),), text)[0]

        background = text.vocabulary.background
        instead = 0 if background is None else int((text.owner == background).nonzero()[0])
        asked = self._of_middle(middle)
        first = cosines(self._last(x, asked, grid=grid))
        answer = first_answer(first, window, settings.scale, settings.feedback_threshold, instead)
        return cosines(self._last(x, asked, grid=grid, belonging=together(of_patches(answer, grid, self.patch_size))))

    def _last(
        self, x: Tensor, middle: Sequence[tuple[Tensor, Tensor]], *, grid: Grid, belonging: Tensor | None = None
    ) -> Tensor:
        """One window's tokens (1 + N, C), and queries and keys of the middle blocks -> features (D, h, w)."""
        settings, vit = self.settings, self.clip.vit
        normed = vit.last.ln_1(x)[None]
        keys, values = vit.split_heads(vit.keys(normed))[0], vit.split_heads(vit.values(normed))[0]  # (heads, N, d)
        near = nearness_of(grid, BLUR).to(keys)
        mixed = []
        for head, (key, value) in enumerate(zip(keys, values, strict=True)):  # one head's N x N at a time
            logits = key @ key.T * key.shape[-1] ** -0.5
            if belonging is not None:
                share = settings.feedback_share
                logits = settings.feedback_scale * ((1 - share) * logits + share * belonging.to(logits.dtype))
            weights, share = (logits + near).softmax(dim=-1), settings.middle_share
            weights = settings.middle_scale * ((1 - share) * weights + share * attention_of(middle, head))
            mixed.append(weights @ value)
        return to_maps(vit.to_text(vit.project(merge_heads(torch.stack(mixed)[None])))[:, 1:], grid)[0]

    def _of_middle(self, middle: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return the queries and keys (heads, 1 + N, d) of the middle blocks, from what enters each (1 + N, C)."""
        asked = []
        for block, x in zip(self.clip.vit.blocks[slice(*self.settings.middle_blocks)], middle, strict=True):
            normed, count = block.ln_1(x)[None], block.attn.num_heads
            query, key = (split_heads(in_projection(block.attn, normed, which), count)[0] for which in (0, 1))
            asked.append((query, key))
        return asked


def attention_of(blocks: Sequence[tuple[Tensor, Tensor]], head: int) -> Tensor:
    """Return the mean attention of a head of some blocks, from their queries and keys (heads, N, d): (N, N)."""
    each = ((query[head] @ key[head].T * key.shape[-1] ** -0.5).softmax(dim=-1) for query, key in blocks)
    return sum(each, torch.zeros(())) / len(blocks)


def first_answer(cosines: Tensor, window: Tensor, scale: float, threshold: float, instead: int) -> Tensor:
    """Return every pixel's best phrase in a window (3, H, W) uint8, by cosines (P, h, w) that PAMR refines: (H, W).
    Where it is not probable enough, another stands instead.
    """
    pixels = F.interpolate(cosines[None], size=window.shape[-2:], mode="bilinear")[0]
    logits = PixelAffinity(window.float() / 255, PAMR).refine(pixels).mul_(scale)
    best, phrases = logits.max(dim=0)
    return torch.where((best - logits.logsumexp(dim=0)).exp() < threshold, instead, phrases)


def of_patches(labels: Tensor, grid: Grid, patch: int) -> Tensor:
    """Return the label that most pixels of each patch have, the least where several are as many: (H, W) -> (h, w)."""
    whole = labels[: grid[0] * patch, : grid[1] * patch]
    return whole.unflatten(1, (grid[1], patch)).unflatten(0, (grid[0], patch)).transpose(1, 2).flatten(2).mode(dim=2)[0]


def together(labels: Tensor) -> Tensor:
    """Return how much every two patches belong together by their labels (h, w): (1 + N, 1 + N), at most 1, 0 for CLS.

    Patches of one label do, and less so where the straight line from one to the other leaves it, by exp(-steps / most
    steps). Rows are blurred, patch after patch as they are counted, and divided by their sums; all by the largest.
    """
    height, width = labels.shape
    count = labels.numel()
    y, x = torch.meshgrid(*(torch.arange(side, device=labels.device) for side in labels.shape), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=1)  # (N, 2)
    longest = max(height, width) - 1
    flat = labels.flatten()
    share = torch.linspace(0, 1, longest + 1, device=labels.device)  # of the way, whatever its length
    belonging = torch.empty(count, count, device=labels.device)
    rows = max(1, PAIRS_AT_ONCE // (count * (longest + 1)))
    for start in range(0, count, rows):
        own = places[start : start + rows]
        steps = (places - own[:, None]).abs().amax(dim=2)  # (r, N)
        way = own[:, None, None] * (1 - share[:, None]) + places[None, :, None] * share[:, None]  # (r, N, s, 2)
        way = way.round_().long()
        same = labels[way[..., 0], way[..., 1]] == flat[start : start + rows, None, None]
        # As in the published code, of the points on the way as many are looked at as there are steps.
        looked = torch.arange(longest + 1, device=labels.device) <= steps[..., None]
        straight = (same | ~looked).all(dim=2)
        fading = torch.exp(-steps / max(longest, 1))
        alike = (flat[start : start + rows, None] == flat).float()
        belonging[start : start + rows] = torch.where(straight, alike, alike * fading)
    blurred = _blurred(belonging)
    blurred /= blurred.sum(dim=1, keepdim=True) + TINY
    return F.pad(blurred / blurred.max(), (1, 0, 1, 0))


def _blurred(rows: Tensor) -> Tensor:
    """Blur each row of (N, N), with nothing beyond its ends."""
    size = min(len(rows), int(6 * BLUR + 1)) | 1
    kernel = torch.exp(-((torch.arange(size, device=rows.device) - size // 2) ** 2) / (2 * BLUR**2))
    return F.conv1d(rows[:, None], (kernel / kernel.sum())[None, None], padding=size // 2)[:, 0]
