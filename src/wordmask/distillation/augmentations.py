"""What a picture goes through before a segmenter learns from it: a random view of it, then random colours.

Every random choice is drawn from a generator of the picture's own, so that a batch is the same however it is cut up
among threads, processes and restarts.
"""

from dataclasses import dataclass
from math import ceil
from typing import Annotated

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings
from torch import Tensor
from torch.nn.functional import pad

from wordmask.pictures.images import resize

Probability = Annotated[float, Field(ge=0, le=1)]

LEAST_CROP = 16
GREY = (0.2989, 0.587, 0.114)
"""Red, green and blue in grey, as torchvision (and ITU-R 601) has them."""
BLUR_SHARE = 0.1
"""The Gaussian kernel's size, as a share of the crop's (SimCLR)."""
BLUR_REACH = 6
"""Deviations; what lies farther off weighs less than a float's rounding."""


@settings(frozen=True, config=ConfigDict(extra="forbid"))
class Augmentation:
    """The paper's figures. crop: the side of the squares that the network learns from. scale: the picture is made so
    many times as large. flip, jitter, grey, blur: how often each happens. brightness, contrast, saturation, hue: how
    far each is changed, where it is. sigma: of the blur, in pixels.
    """

    crop: Annotated[int, Field(ge=LEAST_CROP)] = 384
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.1, 1.0)
    flip: Probability = 0.5
    jitter: Probability = 0.8
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.8
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.8
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.8
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    grey: Probability = 0.2
    blur: Probability = 0.5
    sigma: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.1, 2.0)


@dataclass(frozen=True)
class View:
    """A picture is resized to `size`; of that, the rows and columns from `start` on lie in the crop from `place` on.
    Where it is smaller than the crop it lies in a corner; where it is larger, a part of it is seen.
    """

    size: tuple[int, int]
    start: tuple[int, int]
    place: tuple[int, int]
    flipped: bool


@dataclass(frozen=True)
class Colours:
    """jitter: (what, by how much) in the order in which it happens, `what` an index into `CHANGES`."""

    jitter: tuple[tuple[int, float], ...]
    grey: bool
    sigma: float | None


def draw_view(chance: np.random.Generator, size: tuple[int, int], settings: Augmentation) -> View:
    factor = chance.uniform(*settings.scale)
    scaled, starts, places = [], [], []
    for length in size:
        large = max(1, round(length * factor))
        spare = large - settings.crop
        scaled.append(large)
        starts.append(int(chance.integers(spare + 1)) if spare > 0 else 0)
        places.append(-spare * int(chance.integers(2)) if spare < 0 else 0)
    flipped = bool(chance.random() < settings.flip)
    return View((scaled[0], scaled[1]), (starts[0], starts[1]), (places[0], places[1]), flipped)


def draw_colours(chance: np.random.Generator, settings: Augmentation) -> Colours:
    jitter: tuple[tuple[int, float], ...] = ()
    if chance.random() < settings.jitter:
        reaches = (settings.brightness, settings.contrast, settings.saturation)
        factors = [*(chance.uniform(1 - reach, 1 + reach) for reach in reaches), chance.uniform(-1, 1) * settings.hue]
        jitter = tuple((int(what), float(factors[what])) for what in chance.permutation(len(CHANGES)))
    grey = bool(chance.random() < settings.grey)
    sigma = float(chance.uniform(*settings.sigma)) if chance.random() < settings.blur else None
    return Colours(jitter, grey, sigma)


def see(
    image: np.ndarray, mask: np.ndarray, view: View, crop: int, *, label: int, ignore: int
) -> tuple[Tensor, Tensor]:
    """(H, W, 3) uint8 and (H, W) bool -> (3, crop, crop) uint8 and (crop, crop) int16: `label` on the mask, 0 beside
    it, `ignore` beyond the picture, where its own mean colour is. A map of labels may take the mask's place, with a
    `label` of 1.
    """
    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
    kind = np.uint8 if mask.dtype == bool else np.float32  # of those that `interpolate` takes
    inside = torch.from_numpy(np.require(mask, kind, requirements=["C", "W"]))[None]
    pixels = resize(pixels, view.size)
    if view.size != mask.shape:
        inside = torch.nn.functional.interpolate(inside[None], view.size, mode="nearest-exact")[0]
    target, source = [], []
    for start, place, length in zip(view.start, view.place, view.size, strict=True):
        shown = min(length - start, crop)
        source.append(slice(start, start + shown))
        target.append(slice(place, place + shown))
    labels = torch.full((crop, crop), ignore, dtype=torch.int16)
    labels[target[0], target[1]] = inside[0, source[0], source[1]].to(torch.int16) * label
    if view.size[0] < crop or view.size[1] < crop:
        mean = pixels.float().mean(dim=(1, 2)).round().to(torch.uint8)
        canvas = mean[:, None, None].expand(3, crop, crop).clone()
    else:
        canvas = torch.empty(3, crop, crop, dtype=torch.uint8)
    canvas[:, target[0], target[1]] = pixels[:, source[0], source[1]]
    return (canvas.flip(-1), labels.flip(-1)) if view.flipped else (canvas, labels)


def coloured(pixels: Tensor, colours: Colours) -> Tensor:
    """(3, S, S) uint8 -> (3, S, S) float in [0, 1]"""
    image = pixels.float().div_(255)
    for what, amount in colours.jitter:
        CHANGES[what](image, amount)
    if colours.grey:
        image[:] = _grey(image)
    return image if colours.sigma is None else blurred(image, colours.sigma)


def _brighten(image: Tensor, factor: float) -> None:
    image.mul_(factor).clamp_(0, 1)


def _contrast(image: Tensor, factor: float) -> None:
    mean = _grey(image).mean()
    image.mul_(factor).add_(mean, alpha=1 - factor).clamp_(0, 1)


def _saturate(image: Tensor, factor: float) -> None:
    grey = _grey(image)
    image.mul_(factor).add_(grey, alpha=1 - factor).clamp_(0, 1)


def _turn_hue(image: Tensor, turn: float) -> None:
    """Through hue, saturation and value and back, `turn` being a share of the full circle."""
    red, green, blue = image
    value = image.amax(dim=0)
    chroma = value - image.amin(dim=0)
    safe = chroma.clamp(min=torch.finfo(chroma.dtype).tiny)  # where there is no chroma, hue means nothing
    # Sixths of the circle from red, by whichever channel is the largest.
    hue = torch.where(
        red == value,
        (green - blue) / safe,
        torch.where(green == value, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue += 6 * turn
    for channel, corner in enumerate((5, 3, 1)):
        distance = (hue + corner).remainder_(6)
        torch.minimum(distance, 4 - distance, out=distance)
        torch.addcmul(value, distance.clamp_(0, 1), chroma, value=-1, out=image[channel])


CHANGES = (_brighten, _contrast, _saturate, _turn_hue)


def _grey(image: Tensor) -> Tensor:
    """(3, S, S) -> (S, S)"""
    red, green, blue = image
    return (GREY[0] * red).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])


def blurred(image: Tensor, sigma: float) -> Tensor:
    """(3, S, S) out of focus; mirrored at its edges."""
    side = image.shape[-1]
    radius = int(BLUR_SHARE * side // 2 * 2) // 2
    reach = max(1, min(radius, ceil(BLUR_REACH * sigma)))
    places = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (places / sigma) ** 2)
    weights /= weights.sum()
    wide = pad(image[None], (reach,) * 4, mode="reflect")[0]
    rows = wide[:, :side] * weights[0]
    for place, weight in enumerate(weights[1:].tolist(), start=1):
        rows.add_(wide[:, place : place + side], alpha=weight)
    out = rows[:, :, :side] * weights[0]
    for place, weight in enumerate(weights[1:].tolist(), start=1):
        out.add_(rows[:, :, place : place + side], alpha=weight)
    return out
