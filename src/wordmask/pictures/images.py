"""A picture, from whatever the user holds to what a network takes: reading, the protocols' sizes, resizing, padding.

torch is imported where tensors appear, so that those who only read pictures need not wait for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from PIL import Image

from wordmask.console.notices import DEPTH, FRAMES, notices
from wordmask.errors import WordmaskError
from wordmask.pictures.beyond_pillow import (
    SixteenBitColours,
    has_sixteen_bit_colours,
    silent_libtiff,
    stated_depth,
    white_of,
)
from wordmask.pictures.image_files import (
    SIDEWAYS,
    ImageReadError,
    find_images,
    has_several_frames,
    image_size,
    name_of,
    opened,
    orientation,
    unreadable,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "MAX_PIXELS_VARIABLE",
    "ImageReadError",
    "ImageSource",
    "Interpolation",
    "centre_crop",
    "centre_view",
    "find_images",
    "image_size",
    "is_one_picture",
    "pad_to_multiple",
    "read_image",
    "resize",
    "shrunk",
    "size_with_longer_side",
    "size_with_shorter_side",
    "to_tensor",
]

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
Interpolation: TypeAlias = Literal["bilinear", "bicubic"]

DEFAULT_MAX_PIXELS = 100_000_000
"""A medium-format camera's: about 1 GB while decoding, and up to twice that where `PEAK_BYTES` has 20."""
PEAK_BYTES = {"JPEG": 13, "WEBP": 19, "AVIF": 13, "JPEG2000": 20}
OTHER_PEAK_BYTES = 9
"""A pixel takes so many bytes at most while `read_image` works, beside the file: 4 in Pillow and 3 in the result, and
before that what the format's library needs, such as libjpeg for the coefficients of a progressive JPEG, libwebp for two
canvases, and OpenJPEG for samples of 32 bits. Most formats need no more than Pillow does."""
MAX_PIXELS_VARIABLE = "WORDMASK_MAX_PIXELS"

STRIP_PIXELS = 2**17  # converted at a time: a few megabytes
_CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
_AS_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""For each EXIF orientation but the upright one a view of a picture (H, W, 3) as its camera stored it."""

_PIL_LOCKS = tuple(threading.Lock() for _ in range(16))
"""A PIL image decodes itself when first looked at, which two threads must not do to one image at once. Several images
may share a lock; one image always has the same."""


def read_image(
    source: ImageSource, *, max_pixels: int | None = None, reserve: Callable[[int], None] | None = None
) -> np.ndarray:
    """Read any picture as (H, W, 3) uint8 RGB, upright, in memory of its own.

    - EXIF rotation is applied, to PIL images too. EXIF that cannot be read is logged, and the picture stays as it is.
    - Transparency is composited over white, as on a white page. Colour profiles are ignored.
    - An animation gives its first frame, a file of several pages its first page, and HEIC its main picture; a PIL image
      gives the frame it stands on.
    - 16-bit grey is scaled so that 65535 becomes 255, and so are Pillow's modes I and F, but for an F picture
      that stays below 1, which is scaled so that 1 becomes 255. Whole numbers of 10 to 14 bits in a file of 16 are
      scaled by their own depth (see `beyond_pillow.white_of`).
    - Arrays are (H, W) or (H, W, 1 | 3 | 4), with 255 (uint8), 65535 (uint16), True (bool) or 1.0 (floats) as white.
      Values beyond white or below 0 are an error, never clipped.

    `max_pixels` is checked before anything is decoded, and so does not concern arrays. None stands for the environment
    variable `WORDMASK_MAX_PIXELS`, and without it for `DEFAULT_MAX_PIXELS`.

    `reserve` is called with the result's number of bytes when they are known and nothing is decoded yet; it may wait.

    Any number of threads may read one PIL image through here. While others use it by other means, see that it is
    loaded (`image.load()`) before they start.
    """
    name = name_of(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, name, reserve)
    limit = pixel_limit(max_pixels)
    if isinstance(source, Image.Image):
        with _PIL_LOCKS[id(source) // 16 % len(_PIL_LOCKS)]:
            return _decoded(source, name, limit, reserve)
    with opened(source, name) as image:
        if has_several_frames(image):
            notices.note(FRAMES, name)
        return _decoded(image, name, limit, reserve)


def is_one_picture(thing: object) -> bool:
    """Return whether this is one picture, where many are asked for. A stack of arrays is many."""
    if isinstance(thing, np.ndarray):
        return thing.ndim < 3 or (thing.ndim == 3 and thing.shape[2] in _CHANNELS)
    return isinstance(thing, str | os.PathLike | bytes | Image.Image)


def pixel_limit(max_pixels: int | None) -> int:
    """Return what `read_image` makes of its `max_pixels`."""
    if max_pixels is not None:
        return max_pixels
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    if not text:
        return DEFAULT_MAX_PIXELS
    try:
        limit = int(text)
    except ValueError:
        limit = 0
    if limit <= 0:
        raise WordmaskError(f"{MAX_PIXELS_VARIABLE}={text!r} is not a number of pixels; give a positive integer")
    return limit


def _decoded(image: Image.Image, name: str, limit: int, reserve: Callable[[int], None] | None) -> np.ndarray:
    width, height = image.size
    if width * height > limit:
        raise ImageReadError(
            name,
            f"has {width} x {height} pixels, above the limit of {limit}; "
            f"to read it, pass a larger max_pixels or set {MAX_PIXELS_VARIABLE}",
        )
    if width * height == 0:
        raise ImageReadError(name, f"has no pixels ({width} x {height})")
    if reserve is not None:
        reserve(3 * width * height)
    try:
        stated = stated_depth(image) if image.mode.startswith("I") else None
        colours = SixteenBitColours(image) if has_sixteen_bit_colours(image) else None
        with silent_libtiff() if image.format == "TIFF" else nullcontext():
            image.load()
            scale = _scale_of(image, stated, colours)
        if image.format == "HEIF" and image.size != (width, height):
            raise ImageReadError(name, f"is not as large as it says ({image.size}, not {(width, height)})")
        # Pillow turns a TIFF upright as it decodes it, and nothing else.
        pixels = _as_rgb(image, name, 1 if image.format == "TIFF" else orientation(image, name), scale)
    except ImageReadError:
        raise
    except Exception as error:  # a decoder on damaged data raises whatever it likes
        raise unreadable(name, "is", error) from error
    if scale is not None and 255 < scale.white < 65535:
        notices.note(DEPTH, name)
    return pixels


@dataclass(frozen=True)
class _Scale:
    """What is white in a picture of more than 8 bits, and its least and greatest value. lower: of colours, the lower
    bytes (H, W, C), where Pillow has loaded the upper ones.
    """

    white: float
    span: tuple[float, float]
    lower: np.ndarray | None = None

    def levels(self, strip: Image.Image, top: int, name: str) -> Image.Image:
        values = np.asarray(strip)
        if self.lower is not None:
            values = values.astype(np.uint16) * 256 + self.lower[top : top + strip.height]
        return Image.fromarray(_levels(values, self.white, name, self.span))


def _scale_of(image: Image.Image, stated: int | None, colours: SixteenBitColours | None) -> _Scale | None:
    """Return how a loaded picture comes to 8 bits; None where that is what it has, or all that Pillow leaves of it."""
    if image.mode.startswith(("I", "F")):
        span = _span(image)
        if image.mode == "F":
            return _Scale(1.0 if span[1] <= 1 else 65535.0, span)
        return _Scale(white_of(int(span[1]), stated), span)
    if colours is None:
        return None
    most = max(greatest for _, greatest in image.getextrema())  # type: ignore[misc]
    white = colours.white(int(most))
    return None if white == 65535 else _Scale(white, (0, 256 * most + 255), colours.lower_bytes())


def _as_rgb(image: Image.Image, name: str, turned: int, scale: _Scale | None) -> np.ndarray:
    """Return a decoded picture as (H, W, 3), upright. It is converted a few rows at a time, so that of all the forms
    between its own and the result none is there as a whole.
    """
    width, height = image.size
    result = np.empty((width, height, 3) if turned in SIDEWAYS else (height, width, 3), np.uint8)
    stored = _AS_STORED[turned](result) if turned in _AS_STORED else result  # a view of it
    for top, strip in _strips(image):
        if scale is not None:
            strip = scale.levels(strip, top, name)
        stored[top : top + strip.height] = np.asarray(_flattened(strip))
    return result


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield a picture in pieces of its whole width from top to bottom, each with the row where it begins."""
    few = 16 if image.mode == "LAB" else 1  # for which Pillow makes a colour transform every time
    rows = max(1, few * STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield top, image._new(image.im.crop(box))  # what `Image.crop` does, but for its look at MAX_IMAGE_PIXELS


def _span(image: Image.Image) -> tuple[float, float]:
    """Return the least and the greatest value; NaN where there is one."""
    spans = [(values.min(), values.max()) for values in (np.asarray(strip) for _, strip in _strips(image))]
    lows, highs = np.array(spans).T
    return float(lows.min()), float(highs.max())


def _flattened(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_array(array: np.ndarray, name: str, reserve: Callable[[int], None] | None) -> np.ndarray:
    white = 1.0 if array.dtype.kind == "f" else {"u1": 255.0, "u2": 65535.0, "b1": 1.0}.get(array.dtype.str[1:])
    if white is None:
        raise ImageReadError(name, f"its type is {array.dtype}, not uint8, uint16, bool or float; convert it to uint8")
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in _CHANNELS:
        raise ImageReadError(name, f"its shape is {array.shape}, not (H, W) or (H, W, 1 | 3 | 4) with channels last")
    if array.size == 0:
        raise ImageReadError(name, f"has no pixels (its shape is {array.shape})")
    height, width = array.shape[:2]
    if reserve is not None:
        reserve(3 * height * width)
    result = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    span = None if array.dtype == np.uint8 else (float(array.min()), float(array.max()))
    for top in range(0, height, rows):
        strip = array[top : top + rows]
        levels = strip if span is None else _levels(strip, white, name, span)
        if channels == 4:
            levels = np.asarray(_flattened(Image.fromarray(np.ascontiguousarray(levels))))
        result[top : top + rows] = levels[..., None] if levels.ndim == 2 else levels
    return result


def _levels(values: np.ndarray, white: float, name: str, span: tuple[float, float]) -> np.ndarray:
    """Values from 0 to `white` as uint8. span: the least and the greatest value of the whole picture."""
    exact = np.promote_types(values.dtype, np.float32)
    levels = np.rint(values.astype(exact) * (255 / white))
    if not (levels.min() >= 0 and levels.max() <= 255):  # put so that NaN is caught as well
        raise ImageReadError(name, f"its values run from {span[0]:g} to {span[1]:g}, outside 0 to {white:g}")
    return levels.astype(np.uint8)


def size_with_shorter_side(height: int, width: int, shorter: int, longest: int | None = None) -> tuple[int, int]:
    """Return the size whose shorter side is `shorter`, or less where its longer side would pass `longest` (mmcv's
    rule).
    """
    scale = shorter / min(height, width)
    if longest is not None:
        scale = min(scale, longest / max(height, width))
    return _scaled(height, width, scale)


def size_with_longer_side(height: int, width: int, longer: int, *, only_shrink: bool = False) -> tuple[int, int]:
    """Return the size whose longer side is `longer`."""
    scale = longer / max(height, width)
    return _scaled(height, width, min(scale, 1.0) if only_shrink else scale)


def _scaled(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 whose longer side has `side` pixels at most; the very same where it has
    no more.
    """
    height, width = size_with_longer_side(image.shape[0], image.shape[1], side, only_shrink=True)
    if (height, width) == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))


def to_tensor(
    image: np.ndarray,
    size: tuple[int, int] | None = None,
    *,
    mode: Interpolation = "bilinear",
    antialias: bool = True,
) -> torch.Tensor:
    """Return a picture (H, W, 3) uint8 as (3, H, W) float32 in [0, 1], resized to `size` where one is given.

    It is resized as bytes, in Pillow's arithmetic, which is what CLIP and DINO were trained on: bilinear stays
    within one grey level of the floating-point result, and it is several times as fast.
    """
    import torch

    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)  # (3, H, W)
    if size is not None:
        pixels = resize(pixels, size, mode=mode, antialias=antialias)
    return pixels.contiguous().float().div_(255)


def resize(
    image: torch.Tensor, size: tuple[int, int], *, mode: Interpolation = "bilinear", antialias: bool = True
) -> torch.Tensor:
    """Resizes (..., C, H, W) to (..., C, *size); the very same tensor where it has that size already.

    uint8 stays uint8, rounded and clamped. Floats are not clamped: bicubic may overshoot their range.
    """
    from torchvision.transforms.v2.functional import InterpolationMode, resize_image

    return resize_image(image, list(size), interpolation=InterpolationMode(mode), antialias=antialias)


def centre_crop(image: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Return a picture (H, W, 3) uint8 as (3, *size) uint8, as CLIP and other classifiers look at it: its shorter side
    resized to the longer one of `size`, the middle cut out.
    """
    import torch

    height, width = size_with_shorter_side(image.shape[0], image.shape[1], max(size))
    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)  # (3, H, W)
    whole = resize(pixels, (height, width), mode="bicubic")
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return whole[:, top : top + size[0], left : left + size[1]].contiguous()


def centre_view(image: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """`centre_crop` as float32 in [0, 1]."""
    return centre_crop(image, size).float().div_(255)


def pad_to_multiple(batch: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad (B, C, H, W) with zeros on the right and at the bottom until both sides are multiples of `multiple`."""
    from torch.nn.functional import pad

    height, width = batch.shape[-2:]
    down, right = -height % multiple, -width % multiple
    return pad(batch, (0, right, 0, down)) if down or right else batch
