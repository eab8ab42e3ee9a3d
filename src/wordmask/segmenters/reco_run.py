"""ReCo on the archive of a run of `wordmask distill`: the pictures that NamedMask learns a name from."""

from collections.abc import Sequence
from pathlib import Path

from wordmask.collection.archive import Archive
from wordmask.collection.embedding_folder import EmbeddingFolder, is_embedding_folder
from wordmask.collection.references import ImageRef
from wordmask.collection.search import queries_of, search
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.image_files import ImageReadError, warn_left_out
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.reco_archive import RUN_ARCHIVE

EMBEDDINGS = "embeddings"


class RunArchive:
    """A run's own names have its archive's pictures, the filters of the run included. Others, such as ReCo's context,
    are searched for in the run's embeddings, with the CLIP that made them.

    embed: reads names with that CLIP.
    """

    def __init__(self, run: Path, embed: TextEmbedder):
        self.run, self.embed = run, embed
        self.archive = Archive(run / RUN_ARCHIVE)
        self._own = {name.casefold(): name for name in self.archive.names}

    def best(self, name: str, phrases: Sequence[str], count: int) -> list[Path | bytes]:
        called = [phrase.casefold() for phrase in (name, *phrases)]
        own = next((self._own[phrase] for phrase in called if phrase in self._own), None)
        if own is None:
            root, refs = self._searched(name, phrases, count)
        else:
            root, refs = self.archive.root, [entry.image for entry in self.archive.entries(own)[:count]]
        found = [picture for picture in (_picture(ref, root) for ref in refs) if picture is not None]
        if not found:
            raise SegmenterError(
                f"no picture that {self.run} has of {name!r} can be read below {root} ({len(refs)} tried): put them "
                "back, or run `wordmask distill` again where they are now"
            )
        return found

    def _searched(self, name: str, phrases: Sequence[str], count: int) -> tuple[Path, list[ImageRef]]:
        if not is_embedding_folder(self.run / EMBEDDINGS):
            raise SegmenterError(
                f"{self.run} has no archive of {name!r}, and no embeddings to search for it: ask for {self._known}, "
                "leave ReCo's context out (context=[]), or give a folder of pictures as archive"
            )
        folder = EmbeddingFolder(self.run / EMBEDDINGS)
        queries = queries_of(Vocabulary((name,), (tuple(phrases),)), self.embed, folder)
        [rows] = search(folder, queries, min(count, len(folder))).rows
        return folder.root, [ref for ref in folder.references(folder.told(rows)) if ref is not None]

    @property
    def _known(self) -> str:
        names = self.archive.names
        return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _picture(ref: ImageRef, root: Path) -> Path | bytes | None:
    """None, and a warning, for one that is gone."""
    try:
        picture = ref.bytes_of(root)
        if isinstance(picture, Path) and not picture.is_file():
            raise ImageReadError(str(picture), "is not there any more")
    except ImageReadError as error:
        warn_left_out(error)
        return None
    return picture
