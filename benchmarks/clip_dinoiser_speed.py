"""What CLIP-DINOiser costs beside bare MaskCLIP, beside running DINO and FOUND as well, and beside a plain forward.

    python benchmarks/clip_dinoiser_speed.py [--pictures 4] [--threads 2] [--rounds 3]

ViT-B/16 with random weights (speed does not depend on them), one window of 448 x 448, 21 names with background. The
plain way is a forward of open_clip's whole tower in fp32, then the last block's value path on top of it, then the
N x N affinity and a loop over the patches; it makes the last block twice. Every way runs in a process of its own, one
after the other, in several rounds, and the best round counts: what else a machine does can only make a way slower.
"""

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from maskclip_speed import NAMES, processor

SIDE = 448
WAYS = {
    "MaskCLIP, fp32": ("maskclip", "fp32"),
    "CLIP-DINOiser, fp32": ("trained", "fp32"),
    "with DINO and FOUND, fp32": ("dino", "fp32"),
    "plain forward, fp32": ("plain", "fp32"),
    "MaskCLIP, bf16": ("maskclip", "bf16"),
    "CLIP-DINOiser, bf16": ("trained", "bf16"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{processor()}, {arguments.threads} threads, {arguments.pictures} pictures of {SIDE} x {SIDE}")
    context = multiprocessing.get_context("spawn")
    seconds: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for label, way in WAYS.items():
            with ProcessPoolExecutor(1, mp_context=context) as alone:
                took = alone.submit(measure, *way, arguments).result()
            seconds[label] = min(took, seconds.get(label, took))
    for label, best in seconds.items():
        print(f"{label:26} {best:7.3f} s/picture")
    for precision in ("fp32", "bf16"):
        over = seconds[f"CLIP-DINOiser, {precision}"] / seconds[f"MaskCLIP, {precision}"] - 1
        print(f"CLIP-DINOiser over MaskCLIP, {precision}: {over:+.1%}")
    ours, plain = seconds["CLIP-DINOiser, fp32"], seconds["plain forward, fp32"]
    print(f"times as fast as with DINO and FOUND: {seconds['with DINO and FOUND, fp32'] / ours:.2f}")
    print(
        f"times as fast as the plain forward: {plain / ours:.2f}, in bf16 {plain / seconds['CLIP-DINOiser, bf16']:.2f}"
    )


def measure(way: str, precision: Any, arguments: argparse.Namespace) -> float:
    import numpy as np
    import torch
    from PIL import Image
    from random_clip import random_clip

    from wordmask.encoders.dino import DinoEncoder
    from wordmask.encoders.timm_building import build_dino
    from wordmask.names.vocabulary import Vocabulary
    from wordmask.saliency.found import Found, new_head
    from wordmask.segmenters.clip_dinoiser import ClipDinoiser, ClipDinoiserSettings, DinoiserHeads
    from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    encoder = random_clip("ViT-B-16", precision)
    heads, names = DinoiserHeads(768).eval().requires_grad_(False), Vocabulary.of(NAMES)
    text = torch.nn.functional.normalize(torch.randn(len(NAMES), 512), dim=-1)
    segmenter: Any
    if way == "maskclip":
        segmenter = MaskClip(encoder, MaskClipSettings(templates="plain"))
    elif way == "dino":
        dino = DinoEncoder(build_dino("vit_base_patch16_224.dino"), name="random")
        small = DinoEncoder(build_dino("vit_small_patch8_224.dino"), name="random")
        chosen = ClipDinoiserSettings(templates="plain", affinity="dino", background="found")
        segmenter = ClipDinoiser(encoder, None, chosen, dino=dino, objectness=Found(small, new_head(384)).maps)
    else:
        segmenter = ClipDinoiser(encoder, heads, ClipDinoiserSettings(templates="plain"))
    generator = np.random.default_rng(0)
    coarse = [generator.integers(0, 256, (24, 24, 3), dtype=np.uint8) for _ in range(arguments.pictures)]
    pictures = [np.asarray(Image.fromarray(own).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for own in coarse]
    with tempfile.TemporaryDirectory() as folder:
        segmenter.embed.cache.path = Path(folder) / "text.sqlite"
        segmenter.embed._seen = dict(zip(names.all_phrases, text, strict=True))

        def segment(image: np.ndarray) -> None:
            if way == "plain":
                plain_forward(encoder, heads, text, image)
            else:
                segmenter.segment(image, names)

        segment(pictures[0])  # warm up
        start = time.perf_counter()
        for picture in pictures:
            segment(picture)
        return (time.perf_counter() - start) / len(pictures)


def plain_forward(encoder: Any, heads: Any, text: Any, image: Any) -> Any:
    """The whole tower, the value path of its last block again, pooling patch by patch."""
    import torch
    import torch.nn.functional as F

    tower, taken = encoder.model.visual, {}
    blocks = tower.transformer.resblocks
    hooks = [
        blocks[-1].register_forward_pre_hook(lambda _, inputs: taken.update(last=inputs[0])),
        blocks[-3].ln_2.register_forward_hook(lambda _, __, output: taken.update(guiding=output)),
    ]
    positions = tower.positional_embedding
    side = SIDE // 16
    with torch.inference_mode():
        grid = positions[1:].T.view(1, -1, 14, 14)
        grid = F.interpolate(grid, size=(side, side), mode="bicubic")[0].flatten(1).T
        pixels = torch.from_numpy(image.copy()).to(encoder.device).permute(2, 0, 1)[None].float() / 255
        x = tower.conv1(encoder.statistics.normalise(pixels)).flatten(2).transpose(1, 2)
        x = torch.cat([tower.class_embedding.expand(1, 1, -1), x], dim=1) + torch.cat([positions[:1], grid])
        tower.transformer(tower.ln_pre(x))
        for hook in hooks:
            hook.remove()
        block, x = blocks[-1], taken["last"]
        width = x.shape[-1]
        values = F.linear(block.ln_1(x), block.attn.in_proj_weight[-width:], block.attn.in_proj_bias[-width:])
        x = x + block.attn.out_proj(values)
        x = x + block.mlp(block.ln_2(x))
        features = (tower.ln_post(x) @ tower.proj)[0, 1:]  # (N, D)
        guiding = taken["guiding"][0, 1:].T.view(1, width, side, side)
        guide = F.normalize(heads.guide(guiding)[0].flatten(1), dim=0)
        affinity = guide.T @ guide
        affinity[affinity < 0.2] = 0
        pooled = torch.stack([(row[:, None] * features).sum(dim=0) / row.sum() for row in affinity])
        probabilities = (100 * F.normalize(pooled, dim=1) @ text.T).softmax(dim=1)
        unsure = (probabilities.amax(dim=1) < 0.99) & (heads.objectness(guiding).sigmoid().flatten() <= 0.5)
        probabilities[unsure] = 0
        probabilities[unsure, 0] = 1
        maps = F.interpolate(probabilities.T.view(1, -1, side, side), size=(SIDE, SIDE), mode="bilinear")
        return maps[0].argmax(dim=0)


if __name__ == "__main__":
    main()
