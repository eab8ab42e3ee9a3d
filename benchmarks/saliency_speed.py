"""How long each saliency method takes for a picture, and how that grows with the picture.

    python benchmarks/saliency_speed.py [--sizes 128 256 512] [--patch 8] [--architecture world|paper] [--threads 1]

Random weights, as speed does not depend on them: the world's ViT (192 wide, 6 blocks) or the papers' ViT-S. Square
pictures, one at a time. "Outside" is the time in which the network does not run: clustering and voting, the solver,
resizing. "Growth" is the power of the number of pixels with which the whole time grew since the size before: 1 is in
step with the pixels, 2 with their square, as a transformer's attention is. Clustered points are what is left of the
features' grid after its limit; patches are limited too (`most_patches`), and larger pictures are looked at smaller.
"""

import argparse
import time
from math import inf, log
from typing import Any

import numpy as np
import torch

from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import build_dino
from wordmask.saliency.base import Saliency, size_for_patches
from wordmask.saliency.found import Found, FoundSettings, SeedSaliency, new_head
from wordmask.saliency.selfmask import SelfMask, SelfMaskSettings
from wordmask.saliency.selfmask_network import SelfMaskNetwork, SelfMaskShape
from wordmask.saliency.spectral_voting import VotedMasks, VotingSettings, clustering_grid
from wordmask_world import draw_scene

SHAPES = {"world": {"embed_dim": 192, "depth": 6, "num_heads": 3}, "paper": {}}
ENOUGH_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--patch", type=int, choices=[8, 16], default=8)
    parser.add_argument("--architecture", choices=sorted(SHAPES), default="world")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most-points", type=int, default=VotingSettings().most_points)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = build_dino(f"vit_small_patch{arguments.patch}_224.dino", **SHAPES[arguments.architecture])
    encoder = Timed(DinoEncoder(model, name="random"))
    shape = SelfMaskShape(
        patch=arguments.patch, width=encoder.width, blocks=len(model.blocks), heads=encoder.heads, mask_mlp=True
    )
    network = SelfMaskNetwork(shape)
    head = new_head(encoder.width)
    voting = VotingSettings(most_points=arguments.most_points)
    methods: dict[str, Saliency] = {
        "seed": SeedSaliency(encoder),
        "found": Found(encoder, head),
        "found + solver": Found(encoder, head, FoundSettings(refine="found")),
        "selfmask": SelfMask(network, device="cpu", precision="fp32"),
        "selfmask + solver": SelfMask(network, SelfMaskSettings(refine="solver"), device="cpu", precision="fp32"),
        "spectral": VotedMasks([encoder], voting),
    }
    print(f"{arguments.architecture}'s ViT, patches of {arguments.patch}, {arguments.threads} threads; ms a picture")
    print(f"{'method':18}  size  patches  points  whole  outside  growth  a second")
    before: dict[str, tuple[int, float]] = {}
    for size in arguments.sizes:
        image = np.asarray(draw_scene(3, (size, size)).image)
        side = -(-size_for_patches(size, size, arguments.patch, voting.most_patches)[0] // arguments.patch)
        _, grid = clustering_grid(torch.zeros(1, side, side), voting.most_points)
        for name, method in methods.items():
            timer = Timed(network) if name.startswith("selfmask") else encoder
            if isinstance(method, SelfMask):
                method.network = timer
            whole, inside = measure(method, image, timer)
            points = str(grid[0] * grid[1]) if name == "spectral" else ""
            growth = ""
            if name in before and before[name][0] != size:
                growth = f"{log(whole / before[name][1]) / log((size / before[name][0]) ** 2):.1f}"
            before[name] = (size, whole)
            print(
                f"{name:18}  {size:4}  {side * side:7}  {points:6}  {whole:5.0f}  {whole - inside:7.0f}  {growth:>6}  "
                f"{1000 / whole:8.2f}"
            )


def measure(method: Saliency, image: np.ndarray, timer: "Timed") -> tuple[float, float]:
    """Milliseconds for one picture, and how many of them inside the network: the best of a few, or the only one."""
    best, spent = (inf, inf), 0.0
    while spent < ENOUGH_SECONDS:
        timer.seconds = 0.0
        start = time.perf_counter()
        method.maps([image])
        whole = time.perf_counter() - start
        spent += whole
        best = min(best, (whole, timer.seconds))
    return 1000 * best[0], 1000 * best[1]


class Timed:
    """A network that adds up the time it takes; in all else it is itself."""

    def __init__(self, network: Any):
        self.network = network
        self.seconds = 0.0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        answer = self.network(*arguments, **options)
        self.seconds += time.perf_counter() - start
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


if __name__ == "__main__":
    main()
