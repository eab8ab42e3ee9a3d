"""Weights: from a name, a file or an address to a checked file, and from a file into a network."""

import fnmatch
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import safe_open
from torch import Tensor, nn

from wordmask.files import NoRoomError, Writer, atomic_write, is_special
from wordmask.weights import catalogue
from wordmask.weights.cache import cache_dir, cached_path, is_offline
from wordmask.weights.catalogue import CatalogueError, Weight
from wordmask.weights.checkpoints import WeightsError, read_embedding_pickle, read_state_dict
from wordmask.weights.download import DownloadError, UnreachableError, download
from wordmask.weights.reach import unreachable

__all__ = [
    "DownloadError",
    "WeightsError",
    "cache_dir",
    "fingerprint",
    "load_into",
    "read_embedding_pickle",
    "read_metadata",
    "read_state_dict",
    "resolve",
    "write_state_dict",
]

HUB_FILES = tuple(file for files in catalogue.HUB_FILES.values() for file in files)
"""What a repository on the hub is searched for when no file in it is named."""

BUILT_IN = "take the small models that are built in (--preset world)"
KEYS_SHOWN = 8

logger = logging.getLogger(__name__)


def resolve(source: str | Path, *, progress: bool | None = None) -> Path:
    """The file behind a path, a name of the catalogue, or an address: http(s), `hf-hub:org/repository[@revision]
    [/file]`, `open_clip:ARCHITECTURE/TAG`, `timm:NAME`. Fetched on first use, and checked where a checksum is known.

    A file of that path goes before a name of the catalogue. `progress` as for `download`.
    """
    address = str(source)
    if not catalogue.is_url(address) and (path := _existing_file(address)):
        return path
    if entry := catalogue.at(address):
        return _fetch(entry, first=address, progress=progress)
    if catalogue.is_url(address):
        return download(address, cached_path(address), progress=progress)
    library, separator, name = address.partition(":")
    if separator and library in _LIBRARIES:
        return _LIBRARIES[library](name)
    try:
        entry = catalogue.find(address)
    except CatalogueError as error:
        raise WeightsError(
            f"{address!r} {_what_is_there(Path(address))}; nor is it an http(s) address; {error}"
        ) from error
    return _fetch(entry, first=entry.source, progress=progress)


def _existing_file(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_file() else None
    except (OSError, RuntimeError) as error:  # too long a name, a folder without access, no such user behind "~"
        raise WeightsError(f"{name!r} cannot be looked up as a file: {error}") from error


def _what_is_there(path: Path) -> str:
    if path.is_dir():
        return "is a folder: name the weight file in it"
    return "is a pipe or a device, not a file" if is_special(path) else "is no file on this machine"


def _fetch(entry: Weight, *, first: str, progress: bool | None) -> Path:
    """Any copy that is here already, else the copy at `first`, else the next address that answers."""
    addresses = sorted(entry.addresses, key=lambda address: address != first)
    addresses.sort(key=lambda address: catalogue.local_copy(entry, address) is None)
    closed: dict[str, str] = {}
    if not is_offline() and catalogue.local_copy(entry, addresses[0]) is None:
        closed = _unreachable(addresses)
        if len(closed) == len(addresses):
            raise UnreachableError(_no_way_to(entry.name, closed.values(), map(_cache_of, addresses)))
    failures: list[str] = []
    for address in addresses:
        try:
            if address in closed:
                raise UnreachableError(f"cannot fetch {address}: {closed[address]}")
            return _copy_at(entry, address, progress)
        except DownloadError as error:
            failures.append(str(error))
            if address != addresses[-1] and not is_offline():
                logger.warning("%s; trying the next place that has %s", error, entry.name)
    raise DownloadError("; ".join(failures) + (f"; or {BUILT_IN}" if is_offline() else ""))


def _unreachable(addresses: Sequence[str]) -> dict[str, str]:
    """Those whose server takes no connection, with the reason."""
    from huggingface_hub import constants

    servers = {address: address if catalogue.is_url(address) else constants.ENDPOINT for address in addresses}
    troubles = unreachable(servers.values())
    return {address: troubles[server] for address, server in servers.items() if server in troubles}


def _cache_of(address: str) -> str:
    """Where a file from there is kept, with the variable that says so."""
    from huggingface_hub import constants

    return f"{cache_dir()} (WORDMASK_CACHE)" if catalogue.is_url(address) else f"{constants.HF_HUB_CACHE} (HF_HOME)"


def _no_way_to(what: str, reasons: Iterable[str], caches: Iterable[str]) -> str:
    why, places = "; ".join(dict.fromkeys(reasons)), " or ".join(dict.fromkeys(caches))
    return (
        f"{what} is not on this machine and cannot be fetched, is there a network? ({why}); give a file with --weights "
        f"FILE, copy the cache of a machine that has it to {places}, or {BUILT_IN}"
    )


def _copy_at(entry: Weight, address: str, progress: bool | None) -> Path:
    if not catalogue.is_url(address):
        return _from_hub(catalogue.hub_files(address), gated=entry.gated)
    return download(
        address,
        catalogue.place(entry, address),
        sha256=entry.sha256,
        progress=progress,
    )


def _from_open_clip(name: str) -> Path:
    from open_clip.pretrained import get_pretrained_cfg

    architecture, _, tag = name.partition("/")
    repository, _, file = get_pretrained_cfg(architecture, tag).get("hf_hub", "").rpartition("/")
    if not repository:
        raise WeightsError(f"open_clip has no weights {tag!r} for {architecture!r}: see open_clip.list_pretrained()")
    files = (file,) if file else catalogue.HUB_FILES["open_clip"]
    return _from_hub([(repository, file) for file in files])


def _from_timm(name: str) -> Path:
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(name)
    if not known or not known.hf_hub_id:
        raise WeightsError(f"timm has no weights on the hub for {name!r}: see timm.list_pretrained()")
    files = (known.hf_hub_filename,) if known.hf_hub_filename else catalogue.HUB_FILES["timm"]
    return _from_hub([(known.hf_hub_id, file) for file in files])


def _from_named_repository(name: str) -> Path:
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    repository, _, revision = repository.partition("@")
    if not owner or not repository:
        raise WeightsError(f"hf-hub:{name} names no repository: write hf-hub:org/repository or .../file")
    files = (file,) if file else HUB_FILES
    return _from_hub([(f"{owner}/{repository}", file) for file in files], revision=revision or None)


_LIBRARIES: dict[str, Callable[[str], Path]] = {
    "open_clip": _from_open_clip,
    "timm": _from_timm,
    "hf-hub": _from_named_repository,
}


def _from_hub(candidates: Sequence[tuple[str, str]], *, revision: str | None = None, gated: bool = False) -> Path:
    """The first of the (repository, file) candidates that exists, from the hub's own cache or the hub."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    for repository, file in candidates:
        if isinstance(found := try_to_load_from_cache(repository, file, revision=revision), str):
            return Path(found)
    page = f"https://huggingface.co/{candidates[0][0]}"
    if is_offline():
        raise DownloadError(
            f"{candidates[0][1]} of {page} is not on this machine and downloads are switched off (WORDMASK_OFFLINE or "
            f"HF_HUB_OFFLINE is set): run `hf download {' '.join(candidates[0])}` where there is a network, then copy "
            "the hub's cache folder, or give the path of the file"
        )
    if trouble := _unreachable([candidates[0][0]]):
        raise UnreachableError(_no_way_to(page, trouble.values(), [_cache_of(candidates[0][0])]))
    for repository, file in candidates:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError as error:
            _fail_at_hub(page, "the hub cannot be reached", error)
        except EntryNotFoundError:
            continue
        except GatedRepoError as error:
            _fail_at_hub(page, "accept its licence on that page, then sign in with `hf auth login`", error)
        except Exception as error:  # the hub's client passes on whatever its HTTP library of the day raises
            hint = "; its licence must be accepted on that page and `hf auth login` done first" if gated else ""
            _fail_at_hub(page, (str(error).strip().splitlines() or [type(error).__name__])[0] + hint, error)
    raise DownloadError(f"{page} has no weights called {', '.join(file for _, file in candidates)}")


def _fail_at_hub(page: str, what: str, cause: Exception) -> NoReturn:
    raise DownloadError(f"cannot fetch weights from {page}: {what}") from cause


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
    may be on the meta device."""
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
    """The metadata of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except Exception as error:  # beside its own error it raises whatever Python's file and text readers do
        raise WeightsError(f"{path} is no readable safetensors file: {error}") from error


def fingerprint(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """A hash of names, shapes, dtypes and values, the same in every process and on every device."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(state.items()):
        if value.is_meta:
            raise WeightsError(f"{name} has no values yet (it is on the meta device), so it has no fingerprint")
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode() + b"\n")
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
