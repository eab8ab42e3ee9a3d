"""What `wordmask doctor` finds: one dictionary, as its JSON has it."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

import torch

from wordmask._version import __version__
from wordmask.compute import (
    AUTO,
    VARIABLE,
    cores,
    has_bf16,
    memory,
    multiplies_int8,
    pick_device,
    pick_precision,
    processor,
)
from wordmask.encoders import int8_agreement
from wordmask.encoders.precision import MEASURED, Measurement, offered_here
from wordmask.extras import BRINGS, EXTRA_OF, is_installed
from wordmask.plugins import GROUP
from wordmask.weights.cache import cache_dir, is_on

LIBRARIES = ("torch", "torchvision", "open_clip_torch", "timm", "numpy", "pillow", "onnxruntime")
TORCHVISION_AHEAD = 15
"""torchvision 0.N is built for torch 2.(N - 15)."""
TELLING_TORCH = (2, 11)
"""The first that says which instructions the processor has."""


def checkup() -> dict[str, Any]:
    own, (usable, every), (all_bytes, free) = processor(), cores(), memory()
    libraries = {name: _version(name) for name in LIBRARIES}
    found = {
        "wordmask": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": {
            "name": own.name,
            "model": own.model,
            "flags": None if own.flags is None else list(own.flags),
            "cores": usable,
            "all_cores": every,
            "threads": torch.get_num_threads(),
        },
        "memory": {"bytes": all_bytes, "free": free},
        "accelerators": accelerators(),
        "libraries": libraries,
        "torch_matches": torch_matches(libraries["torch"], libraries["torchvision"]),
        "extras": {extra: {"for": told, "missing": missing_of(extra)} for extra, told in BRINGS.items()},
        "plugins": plugins(),
        "cache": cache(),
        "offline": {name: is_on(name) for name in ("WORDMASK_OFFLINE", "HF_HUB_OFFLINE")},
        "precision": {
            "rule": rule(),
            "measured": [as_row(one) for one in MEASURED.kept()],
            "int8": [{"network": one.what, "same": one.same, "enough": one.is_enough} for one in int8_agreement.kept()],
        },
    }
    return {**found, "faster": list(advice(found))}


def as_row(one: Measurement, *, now: bool = False) -> dict[str, Any]:
    return {"network": one.what, "chosen": one.chosen, "seconds": one.seconds, "when": one.when, "now": now}


def accelerators() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            device = f"cuda:{number}"
            told = torch.cuda.get_device_properties(number)
            found.append({"device": device, "name": told.name, "bytes": told.total_memory, "bf16": has_bf16(device)})
    elif torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple", "bytes": None, "bf16": has_bf16("mps")})
    return found


def torch_matches(torch_version: str | None, torchvision_version: str | None) -> bool | None:
    """Return whether both are of one release; None where their numbers do not tell."""
    first, second = _numbers(torch_version), _numbers(torchvision_version)
    if first is None or second is None or first[0] != 2 or second[0] != 0:
        return None
    return second[1] == first[1] + TORCHVISION_AHEAD


def missing_of(extra: str) -> list[str]:
    return [package for package, own in EXTRA_OF.items() if own == extra and not is_installed(package)]


def plugins() -> list[dict[str, str]]:
    """Return the packages that bring something, by their entry points."""
    found = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist
        name, own = (package.name, package.version) if package is not None else ("?", "")
        found.append({"name": point.name, "at": point.value, "package": name, "version": own})
    return found


def cache() -> dict[str, Any]:
    from huggingface_hub import constants

    folder = cache_dir()
    return {
        "folder": str(folder),
        "exists": folder.is_dir(),
        "bytes": sum(_sizes(folder)),
        "hub": str(constants.HF_HUB_CACHE),
    }


def rule() -> str:
    """Say what decides on the device that would be taken."""
    device = pick_device(AUTO)
    chosen = pick_precision(AUTO, device)
    if os.environ.get(VARIABLE, AUTO) != AUTO:
        return f"auto is {chosen}, as {VARIABLE} says"
    if chosen == AUTO:
        return f"auto is measured: {', '.join(offered_here())} are there, and the fastest is taken; a tie is fp32's"
    if device == "cpu":
        return "auto is fp32: this processor, or what is installed for it, has neither bf16 nor int8"
    return f"auto is {chosen} on {device}" + ("" if chosen == "bf16" else ", which has no bf16")


def advice(found: dict[str, Any]) -> Iterator[str]:
    """Name what could be changed so that this machine does more."""
    own, libraries = found["processor"], found["libraries"]
    if found["torch_matches"] is False:
        yield "torch and torchvision are not of one release: install both anew from one index"
    if not found["accelerators"] and shutil.which("nvidia-smi") and torch.version.cuda is None:
        yield "an NVIDIA driver is here, and this torch is built without CUDA: install torch and torchvision with it"
    if own["threads"] < own["cores"]:
        yield f"torch uses {own['threads']} of {own['cores']} cores: OMP_NUM_THREADS says how many"
    told = _numbers(libraries["torch"])
    has = [flag for flag in own["flags"] or () if flag in ("avx512_bf16", "amx_bf16", "bf16")]
    if has and told is not None and told < TELLING_TORCH:
        yield f"the processor has {', '.join(has)}, which torch tells of from {'.'.join(map(str, TELLING_TORCH))} on"
    if found["extras"]["export"]["missing"]:
        int8 = "int8, which vision transformers and students may be faster in; and " if multiplies_int8() else ""
        yield f"pip install 'wordmask[export]': {int8}ONNX files, which small networks are faster from"


def _numbers(told: str | None) -> tuple[int, int] | None:
    try:
        first, second, *_ = (told or "").split(".")
        return int(first), int(second)
    except ValueError:
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes of the files in a folder and below it. What cannot be read, or goes as we look, does not count."""
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(Path(where, name)).st_size
            except OSError:
                continue
