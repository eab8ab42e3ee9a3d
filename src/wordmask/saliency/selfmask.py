"""SelfMask (Shin, Albanie and Xie, CVPRW 2022): the mask of the query that is surest of its object.

The network is in `selfmask_network`; here are its weights, its maps, and the masks that NamedMask starts from.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from wordmask.compute import PLAIN, Compute, Precision
from wordmask.encoders.int8_agreement import Host
from wordmask.encoders.int8_blocks import Stack
from wordmask.encoders.precision import Sample, confirmed, settled
from wordmask.encoders.samples import transformer_sample
from wordmask.encoders.timm_building import dino_at
from wordmask.pictures.images import size_with_shorter_side, to_tensor
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.refinement.clean_up import THRESHOLD
from wordmask.saliency.base import Saliency, SaliencyError, SaliencySettings, network_maps, size_for_patches
from wordmask.saliency.selfmask_network import FINER, STATISTICS, SelfMaskNetwork, network_of, to_published
from wordmask.text_files import shown
from wordmask.weights.addresses import Address, is_brought, resolve
from wordmask.weights.loading import fingerprint, read_metadata, read_state_dict, write_state_dict

ENCODER = "encoder."
NETWORK = "network"
"""The role of the network among a plug-in's addresses."""


@dataclass(frozen=True)
class SelfMaskSettings(SaliencySettings):
    """network: the address of its weights. archive_side: what `archive_mask` resizes a picture's shorter side to."""

    network: Address = "selfmask-nq20"
    archive_side: PositiveInt = 512


PRESETS = {"paper": SelfMaskSettings()}


class SelfMask(Saliency):
    method = "selfmask"
    Settings = SelfMaskSettings
    presets = PRESETS
    has_weights = True

    def __init__(
        self,
        network: SelfMaskNetwork,
        settings: SelfMaskSettings | None = None,
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
        compute: Compute | None = None,
    ):
        """compute: in place of `device` and `precision`."""
        compute = compute or Compute(str(device), precision)

        def sample() -> Sample:
            return transformer_sample("SelfMask", network.encoder, last_in_fp32=False)

        def make(chosen: Compute) -> SelfMaskNetwork:
            self.dtype = chosen.dtype
            return network.eval().requires_grad_(False).to(chosen.device, self.dtype)

        chosen = settled(compute, sample)
        self.network = confirmed(make(chosen), int8_host, chosen, sample if compute.is_open else None, make)
        self.precision: Precision = "bf16" if self.dtype == torch.bfloat16 else "fp32"
        if self.network.stack is not None:
            self.precision = "int8"
        self.settings: SelfMaskSettings = settings or SelfMaskSettings()

    @classmethod
    def build(cls, settings: SelfMaskSettings, compute: Compute, *, weights: str | Path | None = None) -> Self:
        """weights: of the network."""
        network = load_network(weights or settings.network)
        return cls(network, settings, compute=compute)

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
        """Return the pseudo-mask (H, W) bool that NamedMask starts from: the picture (H, W, 3) at a fixed shorter side,
        its mask through the bilateral solver, and back to the picture's own size by nearest neighbour.
        """
        height, width = image.shape[:2]
        size = size_with_shorter_side(height, width, self.settings.archive_side)
        size = size_for_patches(*size, self.network.shape.patch, self.settings.most_patches)
        seen = to_tensor(image, size)  # (3, h, w)
        mask = self.read(seen[None])[0].cpu().numpy() > THRESHOLD
        levels = (seen * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        solved = BilateralGrid(levels).solve(mask.astype(np.float64)) > THRESHOLD
        back = F.interpolate(torch.from_numpy(solved)[None, None].float(), (height, width), mode="nearest-exact")
        return back[0, 0].numpy() > THRESHOLD


def int8_host(network: SelfMaskNetwork) -> Host:
    """Return where its encoder's blocks can be put in int8."""

    def place(stack: Stack | None) -> None:
        network.stack = stack

    def features(pictures: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            return [network.patch_tokens(STATISTICS.normalise(pictures))[0]]

    known = fingerprint(network.encoder)
    return Host("SelfMask", list(network.encoder.blocks), f"{known} {network.encoder!r}", features, place)


def load_network(weights: str | Path) -> SelfMaskNetwork:
    """Return the network of the published file, its state dict bare or under "model", or of one of `write_network`."""
    path = resolve(weights, NETWORK)
    state = read_state_dict(path, unwrap=("model",), strip=("module.",))
    metadata = read_metadata(path) if path.suffix == ".safetensors" else {}
    if encoder := metadata.get("encoder"):
        if not is_brought(encoder):  # nothing is fetched because a file says so
            raise SaliencyError(f"{path} was trained on {shown(encoder)}, which no package of this installation brings")
        dino = dino_at(encoder, None, PLAIN)
        if fingerprint(dino.model) != metadata.get("encoder_fingerprint"):
            raise SaliencyError(f"{path} was trained on another DINO than the {encoder} that is installed here")
        state = {**state, **{f"{ENCODER}{name}": value for name, value in dino.model.state_dict().items()}}
    heads = None
    if "heads" in metadata:
        if not re.fullmatch(r"[1-9]\d{0,5}", metadata["heads"]):
            raise SaliencyError(f"{path} is damaged: its number of attention heads is {shown(metadata['heads'])}")
        heads = int(metadata["heads"])
    return network_of(state, heads=heads, what=f"SelfMask {path}")


def write_network(
    path: str | Path, network: SelfMaskNetwork, metadata: dict[str, Any] | None = None, *, encoder: str | None = None
) -> None:
    """Write the network as safetensors in half precision, under the published file's names.

    metadata: how it came about. encoder: the address of the DINO of a plug-in that the network's encoder is, untouched;
    it is named then, and not written again.
    """
    state = {to_published(name): value.half() for name, value in network.state_dict().items()}
    written = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (metadata or {}).items()}
    if encoder is not None:
        state = {name: value for name, value in state.items() if not name.startswith(ENCODER)}
        written |= {"encoder": encoder, "encoder_fingerprint": fingerprint(network.encoder)}
    write_state_dict(path, state, {**written, "heads": str(network.shape.heads)})
