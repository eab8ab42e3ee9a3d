"""What files are known by: their content, so that a run hears of it when one changes under its name."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

HASHED_AT_ONCE = 2**20


def file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASHED_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def weights_identity(weights: str | None) -> str:
    """A file is known by its content, what is published by its name."""
    if weights is None:
        return ""
    path = Path(weights).expanduser()
    return _unchanged_digest(path) if path.is_file() else weights


def start_identity(start: str | None) -> str | None:
    """Of what `fill_backbone` takes: what the package carries may change as a file of the user's may."""
    from wordmask_world.models import CLIP_RESNET, RESNET
    from wordmask_world.weights import WEIGHTS

    carried = {"world": RESNET, "world-clip": CLIP_RESNET}
    if start in carried:
        return f"{start} {_digest_of_all((WEIGHTS / carried[start]).glob('*.*'))}"
    return None if start is None else weights_identity(start)


def world_identity() -> str:
    """Of the small models that the package carries."""
    from wordmask_world.weights import WEIGHTS

    saliency = [_unchanged_digest(WEIGHTS / name) for name in ("found.safetensors", "selfmask.safetensors")]
    encoders = [_unchanged_digest(path) for path in sorted(WEIGHTS.glob("*/*.*"))]
    return hashlib.sha256("".join(saliency + encoders).encode()).hexdigest()


def listing_digest(folder: Path) -> str:
    """Of embeddings that are somebody else's: names, sizes and times of change, as they may have any size."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("img_emb/*.npy"), *folder.glob("metadata/*.parquet")]):
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _digest_of_all(paths: Iterable[Path]) -> str:
    return hashlib.sha256(
        "".join(_unchanged_digest(path) for path in sorted(paths) if path.is_file()).encode()
    ).hexdigest()


def _unchanged_digest(path: Path) -> str:
    """A hundred experts may start from one file, which is read once."""
    status = path.stat()
    return _digest_known(path.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _digest_known(path: Path, size: int, changed: int) -> str:
    return file_digest(path)
