"""What the authors of NamedMask and ReCo have published, as files of this pipeline: archives of ImageNet pictures by
their paths, and CLIP's embeddings of ImageNet. The pictures themselves are the user's to have.
"""

import json
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wordmask.collection.archive import Archive, Counts, Entry, write_archive
from wordmask.collection.embedding_folder import ABOUT, EmbeddingFolder, embedding_name, metadata_name
from wordmask.collection.references import ImageRef
from wordmask.console.progress import Progress
from wordmask.distillation.records import DistillationError
from wordmask.files import atomic_write, is_special
from wordmask.names.vocabulary import Vocabulary, clean_name
from wordmask.pictures.image_files import ImageReadError, image_size
from wordmask.weights.loading import read_embedding_pickle

MOST_BYTES = 512 * 2**20
"""Of an archive in JSON: the largest published one has 5 MB."""
ROWS_PER_SHARD = 100_000
IMAGENET_DEPTH = 3
"""`train/n01440764/n01440764_18.JPEG`: what of a published path does not depend on somebody's disk."""


def import_archive(
    published: Path,
    root: Path,
    out: Path,
    size: int,
    *,
    names: Vocabulary | None = None,
    progress: Progress | None = None,
) -> Archive:
    """Write a JSON dictionary, name -> list of paths best first, as `archive.parquet`.

    root: the folder that holds `train/nXXXXXXXX/FILE.JPEG`, or `nXXXXXXXX` itself. Pictures that are not there are
    counted. names: which of them, in this order; by default all, in the file's.
    """
    lists = _read_lists(published)
    wanted = names.without_background().names if names is not None else tuple(lists)
    entries: list[Entry] = []
    counts: dict[str, Counts] = {}
    for number, name in enumerate(wanted):
        if progress:
            progress(number, len(wanted))
        if name not in lists:
            raise DistillationError(f"{published} has no archive of {name!r}; it has {', '.join(list(lists)[:20])}")
        own: list[Entry] = []
        missing = 0
        for path in lists[name]:
            if len(own) == size:
                break
            ref = _below(root, path)
            try:
                height, width = image_size(root / ref.path) if ref else (0, 0)
            except ImageReadError:
                height = width = 0
            if ref is None or not height * width:
                missing += 1
                continue
            own.append(Entry(name, len(own), ref, (height, width)))
        if not own:
            raise DistillationError(
                f"no picture of {name!r} in {published} is below {root} ({len(lists[name])} looked for, the first is "
                f"{lists[name][0] if lists[name] else 'not named'}): give the folder of ImageNet that holds train/"
            )
        entries.extend(own)
        counts[name] = Counts(len(own) + missing, len(own), {"unreadable": missing})
    return write_archive(out, entries, counts, names=wanted, root=root, size=size, pictures=None)


def import_embeddings(
    pickle: Path, root: Path, out: Path, *, clip: str | None = None, progress: Progress | None = None
) -> EmbeddingFolder:
    """Write a published pickle, file name -> embedding, as a folder in clip-retrieval's layout.

    root: the folder of ImageNet's pictures. clip: whose embeddings they are.
    """
    vectors = read_embedding_pickle(pickle)
    refs = {name: _below(root, name, must_exist=False) for name in vectors}
    if unplaced := [name for name, ref in refs.items() if ref is None]:
        raise DistillationError(f"{pickle} names a picture {unplaced[0]!r}, which is no path of ImageNet")
    about = {"kind": "published", "root": str(root), "clip": clip}
    _write_json(out / ABOUT, {**about, "finished": False})
    names = sorted(vectors)
    for number, start in enumerate(range(0, len(names), ROWS_PER_SHARD)):
        if progress:
            progress(start, len(names))
        part = names[start : start + ROWS_PER_SHARD]
        matrix = np.stack([vectors[name].float().flatten().numpy() for name in part])
        with atomic_write(out / embedding_name(number)) as file:
            np.lib.format.write_array(file, matrix, allow_pickle=False)
        with atomic_write(out / metadata_name(number)) as file:
            paths = [ref.path for name in part if (ref := refs[name]) is not None]
            pq.write_table(pa.table({"image_path": pa.array(paths, pa.string())}), file)
    _write_json(out / ABOUT, {**about, "finished": True, "pictures": len(names), "bad_pictures": 0})
    return EmbeddingFolder(out)


def _read_lists(path: Path) -> dict[str, list[str]]:
    try:
        if is_special(path):
            raise DistillationError(f"{path}: is a pipe or a device, not a file")
        if path.stat().st_size > MOST_BYTES:
            raise DistillationError(f"{path}: larger than {MOST_BYTES // 2**20} MiB, so no archive")
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DistillationError(f"{path}: cannot be read as an archive ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DistillationError(f"{path}: not JSON ({error})") from error
    good = isinstance(data, dict) and all(
        isinstance(paths, list) and all(isinstance(each, str) for each in paths) for paths in data.values()
    )
    if not good or not data:
        raise DistillationError(f"{path}: an archive is a dictionary, name -> list of paths")
    lists: dict[str, list[str]] = {}
    for name, paths in data.items():
        lists[clean_name(name.replace("_", " "))] = paths
    return lists


def _below(root: Path, published: str, *, must_exist: bool = True) -> ImageRef | None:
    """Return the picture's place below `root`, which may be the folder that holds train/, or train/ itself."""
    parts = PurePosixPath(published).parts[-IMAGENET_DEPTH:]
    if any(part in ("..", "/", "") or "\0" in part for part in parts) or not parts:
        return None
    for tail in (parts, parts[1:]):
        if tail and (root / Path(*tail)).is_file():
            return ImageRef(str(Path(*tail)))
    return None if must_exist else ImageRef(str(Path(*parts)))


def _write_json(path: Path, content: dict[str, object]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())
