"""Weights: from a checked file into a network, and from a network into a file."""

import fnmatch
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from wordmask.files import NoRoomError, Writer, atomic_write
from wordmask.weights.checkpoints import WeightsError, read_embedding_pickle, read_state_dict

__all__ = [
    "WeightsError",
    "fingerprint",
    "load_into",
    "read_embedding_pickle",
    "read_metadata",
    "read_state_dict",
    "write_state_dict",
]

KEYS_SHOWN = 8


def load_into(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    what: str,
    rename: Callable[[str], str] | None = None,
    allow_missing: Iterable[str] = (),
    allow_extra: Iterable[str] = (),
) -> None:
    """Copy `state` into the parameters and buffers of `module`, all of it or, when anything does not fit, none.

    `rename` maps a name in the state to the module's. The patterns (`fnmatch`: "head.*") excuse names of the module
    that the state lacks, which keep their values, and names that the module lacks. The module's dtype stays: values
    are cast to it, but never between floating-point and other kinds. A module on the meta device takes the tensors
    themselves, on their own device.
    """
    renamed = check_fit(module, state, what=what, rename=rename, allow_missing=allow_missing, allow_extra=allow_extra)
    own = _own_tensors(module)
    empty = any(value.is_meta for value in own.values())
    ready = {
        name: renamed[name].to(dtype=own[name].dtype, device=None if own[name].is_meta else own[name].device)
        for name in own
        if name in renamed
    }
    missing = [name for name, value in own.items() if value.is_meta and name not in ready]
    if missing:
        raise WeightsError(f"{what}: the weights are not of this network: {_problem('missing', missing)}")
    module.load_state_dict(ready, strict=False, assign=empty)


def check_fit(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    what: str,
    rename: Callable[[str], str] | None = None,
    allow_missing: Iterable[str] = (),
    allow_extra: Iterable[str] = (),
) -> dict[str, Tensor]:
    """Return `state` under the module's names, or list all that does not fit. Arguments as for `load_into`; the module
    may be on the meta device.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = rename(key) if rename else key
        if name in renamed:
            raise WeightsError(f"{what}: two tensors of the file are both {name!r} once renamed")
        renamed[name] = value
    own = _own_tensors(module)
    missing = [name for name in own.keys() - renamed.keys() if not _matches(name, allow_missing)]
    extra = [name for name in renamed.keys() - own.keys() if not _matches(name, allow_extra)]
    fitting = [name for name in own if name in renamed]
    shapes = [
        f"{name}: expected {tuple(own[name].shape)} got {tuple(renamed[name].shape)}"
        for name in fitting
        if own[name].shape != renamed[name].shape
    ]
    kinds = [
        f"{name}: expected {own[name].dtype} got {renamed[name].dtype}"
        for name in fitting
        if _kind(own[name]) != _kind(renamed[name])
    ]
    problems = {"missing": missing, "unexpected": extra, "of another shape": shapes, "of another kind": kinds}
    found = [_problem(problem, names) for problem, names in problems.items() if names]
    if found:
        raise WeightsError(f"{what}: the weights are not of this network: {'; '.join(found)}")
    return renamed


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def _problem(problem: str, names: Sequence[str]) -> str:
    return f"{len(names)} {problem} ({_some(sorted(names))})"


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _kind(tensor: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "bool"
    return "float" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "integer"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:KEYS_SHOWN]) + (", ..." if len(names) > KEYS_SHOWN else "")


def write_state_dict(
    path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], *, write: Writer = atomic_write
) -> None:
    """Write a safetensors file, whole or not at all; equal contents give equal bytes.

    The library's own writer leaves the order of the metadata to chance, and says of a full disk no more than that it
    could not write. Tensors are put in its order, one after the other, so that no second copy of them is in memory.
    """
    path = Path(path)
    tensors = {name: value.detach().to("cpu").contiguous() for name, value in state.items()}
    unknown = sorted({str(tensor.dtype) for tensor in tensors.values() if tensor.dtype not in _KINDS})
    if unknown:
        raise WeightsError(f"cannot write {path}: safetensors holds no {', '.join(unknown)}")
    names = sorted(tensors, key=lambda name: (-_ORDER.index(tensors[name].dtype), name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in names:
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    told = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    told = told.ljust(-(-len(told) // HEADER_ALIGNMENT) * HEADER_ALIGNMENT)
    try:
        with write(path) as file:
            file.write(len(told).to_bytes(8, "little") + told)
            for name in names:
                file.write(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    except NoRoomError:
        raise
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error}") from error


HEADER_ALIGNMENT = 8
_KINDS = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.float32: "F32",
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
}
"""The format's names of torch's types, in its order of tensors: the last come first, so that all are aligned."""
_ORDER = tuple(_KINDS)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except Exception as error:  # beside its own error it raises whatever Python's file and text readers do
        raise WeightsError(f"{path} is no readable safetensors file: {error}") from error


def fingerprint(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """Return a hash of names, shapes, dtypes and values, the same in every process and on every device."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(state.items()):
        if value.is_meta:
            raise WeightsError(f"{name} has no values yet (it is on the meta device), so it has no fingerprint")
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode() + b"\n")
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
