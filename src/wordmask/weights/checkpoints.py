"""Other people's weight files, read without running anything that is in them.

A torch checkpoint is a pickle, and a pickle is a program. `torch.load(weights_only=True)` reads checkpoints; the two
kinds of file it does not read (a plain pickle of tensors, a TorchScript archive) are read here by an unpickler that
knows the few calls that build a tensor and refuses every other by name.
"""

import io
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from wordmask.errors import WordmaskError
from wordmask.files import is_special
from wordmask.text_files import shown

SNIFF_BYTES = 512
ARRAY, MOST_SWELLING = ".npy", 8
"""Of numpy.savez's files: how members end, and how many times larger they may be than the file that holds them."""
SAFETENSORS_LONGEST_HEADER = 100_000_000  # the format's own limit
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6: a pickled magic number

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


_TYPED_VALUES = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
"""Calls by which TorchScript says of what type a list or a dictionary beside the tensors is; a convolution has one."""


class WeightsError(WordmaskError):
    """A weight file cannot be read, or does not fit the network it is for."""


def read_state_dict(path: str | Path, *, unwrap: Sequence[str] = (), strip: Sequence[str] = ()) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, a torch checkpoint or a file of numpy.savez, by name, on the CPU.

    `unwrap` are keys to step into: each is tried once, in the order given, and one that is not there or holds no
    dictionary is passed over, since copies of one file differ in their wrapping. `strip` are prefixes removed, in the
    order given, from every name that has them. Numbers, texts and lists beside the tensors (an epoch) are left out; a
    dictionary beside them is an error, as it may hold weights.
    """
    path = Path(path)
    content = _read(path)
    for key in unwrap:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    wrapped = [key for key, value in content.items() if isinstance(value, Mapping)]
    if wrapped:
        raise WeightsError(
            f"{path} holds dictionaries among its values ({_some(wrapped)}): name the one to read (unwrap=...)"
        )
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(value, Tensor):
            continue
        if not isinstance(key, str):
            raise WeightsError(f"{path} is no state dict: it has a tensor under {shown(key)}, which is not a name")
        for prefix in strip:
            key = key.removeprefix(prefix)
        if key in state:
            raise WeightsError(f"{path} has two tensors that are both {key!r} without the prefixes {_some(strip)}")
        state[key] = value.detach()
    if not state:
        raise WeightsError(f"{path} holds no tensors, only {_some(list(content)) or 'nothing'}")
    _check_sizes(path, state)
    return state


def read_embedding_pickle(path: str | Path) -> dict[str, Tensor]:
    """Read a plainly pickled dictionary, file name -> tensor, such as the published ImageNet embeddings."""
    path = Path(path)
    _refuse_impostors(path)

    def read() -> Any:
        with path.open("rb") as file:
            return _PlainTensors(file, path.stat().st_size, path).load()

    content = _whole(path, read)
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds no dictionary of embeddings but a {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path} has a {type(value).__name__} under {shown(key)} where a tensor was expected")
        value.requires_grad_(False)
    _check_sizes(path, content)
    return content


def _check_sizes(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a tensor that is larger than its file: one value can be told to be repeated, or memory to be set aside,
    without end.
    """
    room = path.stat().st_size
    for name, value in tensors.items():
        if value.layout != torch.strided or value.device.type != "cpu":
            raise WeightsError(f"{path} is refused: {shown(name)} is no plain tensor ({value.layout}, {value.device})")
        if value.numel() * value.element_size() > room:
            raise WeightsError(f"{path} is damaged: {shown(name)} is larger than the file")


def _read(path: Path) -> Any:
    head = _refuse_impostors(path)
    if path.suffix == ".safetensors" or _is_safetensors(head):
        return _whole(path, lambda: load_file(path))
    if head.startswith(b"PK"):
        return _whole(path, lambda: _read_zip(path))
    if head.startswith(LEGACY_TORCH_MAGIC):
        return _whole(path, lambda: _torch_load(path, mmap=False))
    if head.startswith(b"\x80"):
        raise WeightsError(
            f"{path} is refused: it is a plain pickle, which could run any program; convert it to safetensors where "
            "its origin is trusted"
        )
    raise WeightsError(f"{path} is neither safetensors nor a file of torch.save (it begins with {head[:12]!r})")


def _refuse_impostors(path: Path) -> bytes:
    """Return the first bytes of a file that may be what it claims to be."""
    if is_special(path):
        raise WeightsError(f"{path} is a pipe or a device, not a file")
    try:
        with path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise WeightsError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error
    if not head:
        raise WeightsError(f"{path} is empty: delete it and fetch it again")
    if re.match(rb"\s*<(!doctype|html|head|\?xml|!--)", head, re.IGNORECASE):
        raise WeightsError(
            f"{path} is a web page, not weights: a server's error or sign-in page was saved; delete it and fetch again"
        )
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository")
    return head


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= SAFETENSORS_LONGEST_HEADER


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if entries and all(name.endswith(ARRAY) for name in entries):
            return _arrays_of(archive, path)
        pickled = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise WeightsError(f"{path} is a zip archive, but not one that torch.save wrote")
        root = pickled[0].removesuffix("data.pkl")
        is_script = f"{root}constants.pkl" in entries
        read = [
            entry for name, entry in entries.items() if not is_script or name.startswith((pickled[0], f"{root}data/"))
        ]
        _check_stored(path, read)
        if is_script:
            return dict(_tensors_of(_ScriptTensors(archive, root, path).load()))
    return _torch_load(path, mmap=True)


def _arrays_of(archive: zipfile.ZipFile, path: Path) -> dict[str, Tensor]:
    """Return the arrays of numpy.savez. Headers are read as data, and no more is set aside than is there."""
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > MOST_SWELLING * path.stat().st_size:
        raise WeightsError(f"{path} is refused: its arrays swell to more than {MOST_SWELLING} times the file")
    tensors = {}
    for entry in entries:
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, is_fortran, dtype = read(file)
            if dtype.hasobject:
                raise WeightsError(f"{path} is refused: {shown(entry.filename)} holds Python's objects, not numbers")
            values = np.frombuffer(bytearray(file.read()), dtype).reshape(shape, order="F" if is_fortran else "C")
        tensors[entry.filename.removesuffix(ARRAY)] = torch.from_numpy(np.ascontiguousarray(values).reshape(shape))
    return tensors


def _check_stored(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse what torch would not have stored as it is, as it could swell, and entries that share their bytes."""
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries):
        raise WeightsError(f"{path} is refused: parts of it are compressed, which torch.save never does")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise WeightsError(f"{path} is damaged: its parts are larger than the file")


def _torch_load(path: Path, *, mmap: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old pickle protocols and storage classes: nothing the user can mend
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _whole(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the readers fail in many ways on a damaged file
        if isinstance(error, pickle.UnpicklingError) and (wanted := re.search(r"GLOBAL ([\w.]+)", str(error))):
            raise _refused(path, wanted[1]) from error
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path} is damaged or cut short ({_first_line(error)}): delete it and fetch it again")


def _refused(path: Path, wanted: str) -> WeightsError:
    return WeightsError(
        f"{path} is refused: it asks to run {wanted}, and weights need no more than tensors; if its origin is trusted, "
        "save its state dict as safetensors with the program that wrote it"
    )


class _Bounded:
    """A file that is asked for no more than it holds: Python sets aside what a pickle announces before it reads."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, count: int) -> bytes:
        if count > self._left:
            raise EOFError("it announces more than there is")
        self._left -= count
        return self._file.read(count)

    def readline(self) -> bytes:
        line = self._file.readline(self._left)
        self._left -= len(line)
        return line


class _Tensors(pickle._Unpickler):  # the one in Python: the other's memo grows to what it is told
    """Builds tensors and dictionaries, and nothing else. What it hands to the pickle is made afresh for every file,
    so that a pickle which alters what it is handed alters nothing beyond itself.
    """

    def __init__(self, file: IO[bytes], size: int, path: Path) -> None:
        super().__init__(_Bounded(file, size))
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise _refused(self._path, f"{module}.{name}")


class _PlainTensors(_Tensors):
    """Tensors as the pickle module writes them: the storage of each is a small torch file of its own."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            # torch's own function of this name would run anything that the bytes ask for.
            return _legacy_storage
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: torch._utils._rebuild_tensor_v2(*arguments)
        return super().find_class(module, name)


def _legacy_storage(data: bytes) -> Any:
    """Refuse archives within pickles, which are nobody's and could swell."""
    if not data.startswith(LEGACY_TORCH_MAGIC):
        raise ValueError("a storage is no file of torch's older format")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


class _ScriptTensors(_Tensors):
    """The modules of a TorchScript archive as bare holders of their tensors; their code is never read."""

    def __init__(self, archive: zipfile.ZipFile, root: str, path: Path) -> None:
        pickled = archive.read(f"{root}data.pkl")
        super().__init__(io.BytesIO(pickled), len(pickled), path)
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return type(name, (_Holder,), {})
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" and name in _TYPED_VALUES:
            return lambda value, *_: value
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda values, offset, size, stride, *_: values.as_strided(size, stride, offset)
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Tensor:
        _storage, dtype, key, _device, _length = pid
        if key not in self._storages:  # it may be asked for any number of times
            data = bytearray(self._archive.read(f"{self._root}data/{key}"))
            self._storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self._storages[key]


class _Holder:
    """Stands for a module: the pickle gives it the module's attributes."""


def _tensors_of(module: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Holder):
            yield from _tensors_of(value, f"{prefix}{name}.")


def _some(names: Sequence[object], most: int = 8) -> str:
    told = ", ".join(name if isinstance(name, str) else shown(name) for name in names[:most])
    return told + (f" and {len(names) - most} more" if len(names) > most else "")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
