"""What the network saw of each picture, kept beside its labels, so that other names are asked without the network.

A file a picture, written before its labels: a picture that is done has one. Tensors are kept exactly, in fewer bytes
only where these say the same, so that what is asked later is answered as if the network had just looked. Each file
says which picture it is of, by content, and by which networks it was made.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wordmask.files import atomic_write
from wordmask.fingerprints import digest_of, file_digest
from wordmask.labelling.ledger import Entry
from wordmask.labelling.settings import LabelError
from wordmask.masks.segmentation import Segmentation
from wordmask.pictures.images import read_image
from wordmask.segmenters.base import Seen, Segmenter
from wordmask.text_files import read_json
from wordmask.weights.checkpoints import WeightsError
from wordmask.weights.loading import fingerprint, read_metadata, read_state_dict, write_state_dict

FOLDER = "features"
SEGMENTER = "segmenter.json"
FORMAT = "wordmask-features/1"
REGIONS = "regions"
NARROWER: dict[torch.dtype, tuple[torch.dtype, ...]] = {
    torch.float64: (torch.float16, torch.bfloat16, torch.float32),
    torch.float32: (torch.float16, torch.bfloat16),
    torch.int64: (torch.uint8, torch.int16, torch.int32),
    torch.int32: (torch.uint8, torch.int16),
}
AGAIN = "label it anew with --keep-features"


@dataclass(frozen=True)
class Kept:
    """What a file says of a picture beside its tensors."""

    stamp: str
    picture: str  # the SHA-256 of its content
    segmenter: str
    size: tuple[int, int]  # (H, W)


class Features:
    """The features of a run. mark: what the segmenter that looks, or is asked, is known by."""

    def __init__(self, out: Path, segmenter: Segmenter, *, half: bool = False):
        self.out, self.segmenter, self.half = out, segmenter, half
        self.mark = mark_of(segmenter)

    def claim(self, load: Mapping[str, Any]) -> None:
        """Say which segmenter the features are of, or make sure that those that are there are of the same."""
        if has_features(self.out):
            self.check()
            return
        path = self.out / FOLDER / SEGMENTER
        told = {"format": FORMAT, "segmenter": self.mark, "load": {key: _placed(key, own) for key, own in load.items()}}
        with atomic_write(path) as file:
            file.write(json.dumps(told, indent=1).encode())

    def check(self) -> None:
        if _told(self.out)["segmenter"] != self.mark:
            folder = self.out / FOLDER
            raise LabelError(f"{folder} holds features of other networks than these: delete {folder}, and {AGAIN}")

    def keep(self, entry: Entry, seen: Seen, result: Segmentation, ask: Callable[[Seen], Segmentation]) -> None:
        """Write what was seen of a picture. ask: what gave the result, asked again where features are to be halved."""
        exact = tensors_of(seen)
        if self.half:
            halves = {name: value.half() if value.is_floating_point() else value for name, value in exact.items()}
            again = {name: value.to(exact[name].dtype) for name, value in halves.items()}
            other = ask(_seen(self.segmenter, again, seen.size, seen.source, lambda: seen.image))
            if np.array_equal(other.labels, result.labels):
                exact = again
        _write(path_of(self.out, entry.name), exact, Kept(entry.stamp, file_digest(seen.source), self.mark, seen.size))

    def see(self, name: str, entry: Entry, picture: Path, max_pixels: int | None) -> Seen:
        """Return what was seen of a picture, if it is still the same. name: of its results."""
        path = path_of(self.out, name)
        if not path.exists():
            raise LabelError(f"its features were not kept: {AGAIN}")
        try:
            tensors, kept = _read(path)
        except (WeightsError, ValueError, KeyError, TypeError, OSError) as error:
            raise LabelError(f"{path} is damaged ({str(error).splitlines()[0]}): delete it, and {AGAIN}") from error
        if kept.segmenter != self.mark:
            raise LabelError(f"{path} is of other networks: delete it, and {AGAIN}")
        if kept.stamp != entry.stamp and kept.picture != file_digest(picture):
            raise LabelError(f"has changed since its features were kept: {AGAIN}")
        read = partial(read_image, picture, max_pixels=max_pixels)
        return _seen(self.segmenter, tensors, kept.size, str(picture), read)


def path_of(out: Path, name: str) -> Path:
    return out / FOLDER / f"{name}.safetensors"


def loaded_with(out: Path) -> dict[str, Any]:
    """Return what the segmenter was loaded with whose features a run has kept."""
    load = _told(out)["load"]
    if not isinstance(load, dict):
        raise LabelError(f"{out / FOLDER / SEGMENTER} is damaged: delete the folder, and {AGAIN}")
    return load


def has_features(out: Path) -> bool:
    return (out / FOLDER / SEGMENTER).exists()


def told_of_room(segmenter: Segmenter, picture: Path, out: Path, max_pixels: int | None) -> str:
    """Return what is to be said before features are kept: how much room they take, on the first picture."""
    seen = segmenter.see([read_image(picture, max_pixels=max_pixels)], [str(picture)])[0]
    size = sum(_narrowed(value).nbytes for value in tensors_of(seen).values())
    there = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
    fit = shutil.disk_usage(there).free // max(1, size)
    height, width = seen.size
    return (
        f"features of a picture of {width} x {height} pixels, as the first is, take {size / 1e6:.2f} MB; "
        f"the disk of {out} has room for {fit} such"
    )


def tensors_of(seen: Seen) -> dict[str, Tensor]:
    """Return all that answers hang on, on the processor."""
    kept = {name: value.detach().cpu() for name, value in seen.kept().items()}
    return kept if seen.correction is None else kept | {REGIONS: torch.from_numpy(seen.regions)}


def mark_of(segmenter: Segmenter) -> str:
    """Return what a segmenter is known by: its method, its settings, and the values of all its networks."""
    values = {
        f"{name}.{key}": value
        for name, network in segmenter.networks.items()
        for key, value in network.state_dict().items()
        if isinstance(value, Tensor)
    }
    settings = getattr(segmenter, "settings", None)
    return digest_of(f"{segmenter.method} {segmenter.precision} {settings!r} {fingerprint(values)}")


def _seen(
    segmenter: Segmenter,
    tensors: Mapping[str, Tensor],
    size: tuple[int, int],
    source: str,
    read_picture: Callable[[], np.ndarray],
) -> Seen:
    seen = segmenter.see_again(tensors, size, source)
    seen.read_picture = read_picture
    seen.correction = segmenter.correction
    if REGIONS in tensors:
        seen.regions = tensors[REGIONS].numpy()
    return seen


def _write(path: Path, tensors: Mapping[str, Tensor], kept: Kept) -> None:
    narrow, told = {}, {}
    for name, value in tensors.items():
        # The same numbers in another order in memory may be added in another order, and differ in their last bit.
        order = np.argsort([-step for step in value.stride()], kind="stable").tolist()
        narrow[name] = _narrowed(value.permute(order).contiguous())
        told[name] = {"dtype": str(value.dtype).removeprefix("torch."), "order": order}
    about = {
        "format": FORMAT,
        "stamp": kept.stamp,
        "picture": kept.picture,
        "segmenter": kept.segmenter,
        "size": json.dumps(kept.size),
        "tensors": json.dumps(told),
        "digest": fingerprint(narrow),
    }
    write_state_dict(path, narrow, about)


def _read(path: Path) -> tuple[dict[str, Tensor], Kept]:
    about, narrow = read_metadata(path), read_state_dict(path)
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {about['format']!r}")
    if about["digest"] != fingerprint(narrow):
        raise ValueError("its content is not what was written")
    told = json.loads(about["tensors"])
    tensors = {
        name: value.to(getattr(torch, told[name]["dtype"]), copy=True).permute(_back(told[name]["order"]))
        for name, value in narrow.items()
    }
    height, width = json.loads(about["size"])
    return tensors, Kept(about["stamp"], about["picture"], about["segmenter"], (height, width))


def _back(order: list[int]) -> list[int]:
    return [order.index(axis) for axis in range(len(order))]


def _narrowed(value: Tensor) -> Tensor:
    """Return the same numbers in fewer bytes, where there are such."""
    ways: Iterator[Tensor] = (value.to(dtype) for dtype in NARROWER.get(value.dtype, ()))
    return next((narrow for narrow in ways if torch.equal(narrow.to(value.dtype), value)), value)


def _placed(key: str, value: Any) -> Any:
    """Return what a segmenter is loaded with as JSON holds it; a file, wherever the next command is started."""
    if isinstance(value, str | Path) and key not in ("method", "preset", "device", "precision"):
        return str(Path(value).resolve()) if Path(value).is_file() else os.fspath(value)
    return value


def _told(out: Path) -> dict[str, Any]:
    path = out / FOLDER / SEGMENTER
    told = read_json(path, way_out=f"delete {path.parent}, and {AGAIN}")
    if not isinstance(told, dict) or told.get("format") != FORMAT or not {"segmenter", "load"} <= told.keys():
        raise LabelError(f"{path} is damaged, or of another version: delete {path.parent}, and {AGAIN}")
    return told
