"""SelfMask (Shin, Albanie and Xie, CVPRW 2022): the mask of the query that is surest of its object.

The network is in `selfmask_network`; here are its weights, its maps, and the masks that NamedMask starts from.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from wordmask.encoders.clip import Precision
from wordmask.pictures.images import size_with_shorter_side, to_tensor
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.refinement.clean_up import THRESHOLD
from wordmask.saliency.base import Saliency, SaliencyError, SaliencySettings, network_maps, size_for_patches
from wordmask.saliency.found import WORLD, load_encoder, shipped
from wordmask.saliency.selfmask_network import FINER, SelfMaskNetwork, network_of, to_published
from wordmask.text_files import shown
from wordmask.weights.loading import fingerprint, read_metadata, read_state_dict, resolve, write_state_dict
from wordmask_world.weights import WEIGHTS as WORLD_WEIGHTS

WORLD_DINO = "world/dino"
"""The encoder of a file that brings none of its own."""
ENCODER = "encoder."
WORLD_NETWORK = WORLD_WEIGHTS / "selfmask.safetensors"


@dataclass(frozen=True)
class SelfMaskSettings(SaliencySettings):
    """network: a catalogue name, a file or a URL; "world" for the one that ships with the package.

    archive_side: what `archive_mask` resizes a picture's shorter side to.
    """

    network: str = "selfmask-nq20"
    archive_side: PositiveInt = 512


PRESETS = {"paper": SelfMaskSettings(), "world": SelfMaskSettings(network=WORLD, zoom=2, archive_side=256)}


class SelfMask(Saliency):
    method = "selfmask"

    def __init__(
        self,
        network: SelfMaskNetwork,
        settings: SelfMaskSettings | None = None,
        *,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
    ):
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(precision)
        if dtype is None:
            raise SaliencyError(f"precision {precision!r} is unknown: choose fp32 or bf16")
        self.network = network.eval().requires_grad_(False).to(device, dtype)
        self.settings: SelfMaskSettings = settings or SelfMaskSettings()
        self.device, self.dtype, self.precision = torch.device(device), dtype, precision

    @classmethod
    def load(
        cls,
        preset: str = "paper",
        *,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        **changes: Any,
    ) -> Self:
        """With a preset's network, or with `weights` (a catalogue name, a file or a URL)."""
        settings = replace(PRESETS[preset], **changes)
        return cls(load_network(weights or settings.network), settings, device=device, precision=precision)

    def raw_maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return network_maps(images, self.read, patch=self.network.shape.patch, settings=self.settings)

    @torch.inference_mode()
    def read(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H, W): the surest query's mask, blown up to pixels and cut to the picture."""
        best = self.network(images.to(self.device, self.dtype)).best().float()  # (B, 2h, 2w)
        pixels = self.network.shape.patch / FINER
        large = F.interpolate(best[:, None], scale_factor=pixels, mode="bilinear", align_corners=False)
        return large[:, 0, : images.shape[2], : images.shape[3]]

    def archive_mask(self, image: np.ndarray) -> np.ndarray:
        """The pseudo-mask (H, W) bool that NamedMask starts from: the picture (H, W, 3) at a fixed shorter side, its
        mask through the bilateral solver, and back to the picture's own size by nearest neighbour."""
        height, width = image.shape[:2]
        size = size_with_shorter_side(height, width, self.settings.archive_side)
        size = size_for_patches(*size, self.network.shape.patch, self.settings.most_patches)
        seen = to_tensor(image, size)  # (3, h, w)
        mask = self.read(seen[None])[0].cpu().numpy() > THRESHOLD
        levels = (seen * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        solved = BilateralGrid(levels).solve(mask.astype(np.float64)) > THRESHOLD
        back = F.interpolate(torch.from_numpy(solved)[None, None].float(), (height, width), mode="nearest-exact")
        return back[0, 0].numpy() > THRESHOLD


def load_network(weights: str | Path) -> SelfMaskNetwork:
    """The published file, its state dict bare or under "model", or a file of `write_network`."""
    path = world_network() if str(weights) == WORLD else resolve(weights)
    state = read_state_dict(path, unwrap=("model",), strip=("module.",))
    told = read_metadata(path) if path.suffix == ".safetensors" else {}
    if told.get("encoder") == WORLD_DINO:
        dino = load_encoder(WORLD, None, "cpu")
        if fingerprint(dino.model) != told.get("encoder_fingerprint"):
            raise SaliencyError(f"{path} was trained on another DINO of the world than this installation carries")
        state = {**state, **{f"{ENCODER}{name}": value for name, value in dino.model.state_dict().items()}}
    heads = None
    if "heads" in told:
        if not re.fullmatch(r"[1-9]\d{0,5}", told["heads"]):
            raise SaliencyError(f"{path} is damaged: its number of attention heads is {shown(told['heads'])}")
        heads = int(told["heads"])
    return network_of(state, heads=heads, what=f"SelfMask {path}")


def write_network(
    path: str | Path, network: SelfMaskNetwork, metadata: dict[str, Any] | None = None, *, encoder: str | None = None
) -> None:
    """As safetensors in half precision, under the published file's names. metadata: how it came about.

    encoder: WORLD_DINO where the network's encoder is that, untouched; it is named then, and not written again."""
    state = {to_published(name): value.half() for name, value in network.state_dict().items()}
    told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (metadata or {}).items()}
    if encoder is not None:
        state = {name: value for name, value in state.items() if not name.startswith(ENCODER)}
        told |= {"encoder": encoder, "encoder_fingerprint": fingerprint(network.encoder)}
    write_state_dict(path, state, {**told, "heads": str(network.shape.heads)})


def world_network() -> Path:
    return shipped(WORLD_NETWORK, "SelfMask", "train-selfmask")
