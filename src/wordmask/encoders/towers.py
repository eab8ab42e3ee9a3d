"""Frozen image towers by their addresses: whatever knows pictures patch by patch, as a module from pictures to maps.

CLIP's tower says what it says in the space of its text; DINO's gives its patch tokens. Neither learns.
"""

from math import ceil
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wordmask.compute import PLAIN, Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import CONFIG, clip_at
from wordmask.encoders.clip_dense import NotDenseError
from wordmask.encoders.clip_dense_resnet import dense_reader
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at
from wordmask.weights.addresses import find, folder_at, full, is_brought
from wordmask.weights.loading import fingerprint

ROLE = "dino"
"""What a plug-in's scheme alone stands for."""


class Tower(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1], of whole patches -> (B, channels, h, w), float32."""

    address: str
    patch: int
    channels: int

    @property
    def fingerprint(self) -> str:
        """Changes whenever a weight does."""
        return fingerprint(self)

    def cells(self, side: int, zoom: float = 1.0) -> int:
        """Return how many cells there are along a side of so many pixels, looked at by `look`."""
        return ceil(ceil(zoom * side) / self.patch)

    def look(self, images: Tensor, zoom: float = 1.0) -> Tensor:
        """Pictures of any size -> (B, channels, h, w), all over the picture: it is resized to whole patches, and to
        `zoom` times its size, so that a tower sees smaller things than it was trained on.
        """
        size = [(_times(side, zoom) + self.patch - 1) // self.patch * self.patch for side in images.shape[-2:]]
        if size != list(images.shape[-2:]):
            images = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=False)
        found: Tensor = self(images)
        return found


class ClipTower(Tower):
    def __init__(self, address: str, clip: ClipEncoder):
        super().__init__()
        reader = clip._dense_reader()
        self.address, self.patch, self.channels = address, reader.patch, clip.embedding_size
        self.visual, self._name, self._statistics = clip.model.visual, clip.name, clip.statistics

    def forward(self, images: Tensor) -> Tensor:
        reader = dense_reader(self.visual, self._name)
        if isinstance(reader, NotDenseError):
            raise reader
        values: Tensor = reader(_as(self.visual, self._statistics.normalise(images.float()))).values
        return values.float()


class DinoTower(Tower):
    def __init__(self, address: str, dino: DinoEncoder):
        super().__init__()
        self.address, self.patch, self.channels = address, dino.patch_size, dino.width
        self.model, self._name = dino.model, dino.name

    def forward(self, images: Tensor) -> Tensor:
        device = next(self.model.parameters()).device
        return DinoEncoder(self.model, name=self._name, device=device).read_patches(images)


def _times(side: Any, zoom: float) -> Any:
    """Return a side zoomed and rounded up: a number, or what stands for one while a graph is traced."""
    if zoom == 1:
        return side
    return torch.ceil(side * zoom).long() if isinstance(side, Tensor) else ceil(side * zoom)


def tower_at(address: str, compute: Compute = PLAIN) -> Tower:
    """Return the tower at an address of a CLIP ("ViT-B-16/openai", a folder in `open_clip`'s layout, `scheme:clip`) or
    of a DINO (a name of `timm`'s, a folder in its layout, `scheme:dino`), frozen.
    """
    if _is_clip(address):
        tower: Tower = ClipTower(address, clip_at(full(address, ROLE), None, compute))
    else:
        tower = DinoTower(address, dino_at(full(address, ROLE), None, compute))
    return tower.eval().requires_grad_(False)


def _is_clip(address: str) -> bool:
    folder = find(address, ROLE).path if is_brought(address) else folder_at(address)
    if folder is not None:
        return (Path(folder) / CONFIG).is_file()
    architecture = address.removeprefix("open_clip:").partition("/")[0]
    return open_clip.get_model_config(architecture) is not None


def _as(module: nn.Module, images: Any) -> Tensor:
    return images.to(next(p.dtype for p in module.parameters() if p.ndim == 4))
