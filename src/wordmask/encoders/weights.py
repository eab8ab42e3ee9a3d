"""Weights: from a name, a file or an address to a checked file, and from a file into a network."""

import fnmatch
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wordmask.encoders import catalogue
from wordmask.encoders.cache import cache_dir, cached_path, is_offline
from wordmask.encoders.catalogue import CatalogueError, Weight
from wordmask.encoders.checkpoints import WeightsError, read_embedding_pickle, read_state_dict
from wordmask.encoders.download import DownloadError, UnreachableError, download
from wordmask.encoders.reach import unreachable
from wordmask.files import is_special

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
        bytes=entry.bytes if entry.bytes_exact else None,
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
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = rename(key) if rename else key
        if name in renamed:
            raise WeightsError(f"{what}: two tensors of the file are both {name!r} once renamed")
        renamed[name] = value
    own = {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    missing = [name for name in own.keys() - renamed.keys() if own[name].is_meta or not _matches(name, allow_missing)]
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
    found = [f"{len(names)} {problem} ({_some(sorted(names))})" for problem, names in problems.items() if names]
    if found:
        raise WeightsError(f"{what}: the weights are not of this network: {'; '.join(found)}")
    empty = any(value.is_meta for value in own.values())
    ready = {
        name: renamed[name].to(dtype=own[name].dtype, device=None if own[name].is_meta else own[name].device)
        for name in fitting
    }
    module.load_state_dict(ready, strict=False, assign=empty)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _kind(tensor: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "bool"
    return "float" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "integer"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:KEYS_SHOWN]) + (", ..." if len(names) > KEYS_SHOWN else "")


def write_state_dict(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all; equal contents give equal bytes."""
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, value in state.items():
        tensor = value.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if storage in storages else tensor  # safetensors refuses shared memory
        storages.add(storage)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        usual = temporary.stat().st_mode
        save_file(tensors, temporary, dict(metadata))
        temporary.chmod(usual)  # safetensors leaves files that nobody else may read
        with temporary.open("r+b") as file:
            _sort_metadata(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sort_metadata(file: IO[bytes]) -> None:
    """safetensors keeps metadata in a hash table, so one content would give many files; sorted, it gives one."""
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length))


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
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
