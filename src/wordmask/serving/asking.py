"""From a picture's bytes and names to an answer: the steps that one request or a part of one takes."""

from functools import partial
from typing import Any

from wordmask.names.vocabulary import ROOM, Vocabulary
from wordmask.pictures.reduced import size_of
from wordmask.segmenters.base import Segmenter, contrasted
from wordmask.serving.answers import Writer, without_picture
from wordmask.serving.reading import Ask
from wordmask.serving.service import Service, vocabulary_of
from wordmask.serving.settings import RequestError


def asked_of(segmenter: Segmenter, ask: Ask) -> tuple[Vocabulary, str | None]:
    """Return the names that a segmenter is asked for, and a note where background was added to them."""
    vocabulary = ask.vocabulary or vocabulary_of(segmenter)
    if vocabulary is None:
        raise RequestError(400, "names", "names: field required; only students have names of their own")
    if not ask.fill and ask.vocabulary is not None:
        vocabulary = vocabulary.with_room()
    note = f"{ROOM}; fill=true gives every pixel one of the names" if vocabulary.has_made_room else None
    return contrasted(vocabulary, ask.contrast, segmenter), note


async def segmented(
    service: Service,
    method: str,
    content: list[bytes],
    vocabulary: Vocabulary,
    deadline: float,
    write: Writer,
    *,
    whole: bool = False,
    min_score: float = 0.0,
    drop_absent: float = 0.0,
) -> Any:
    """Return what `write` makes of a picture.

    content: the bytes of its file, which are taken out, so that nothing holds them once it is decoded. whole: the
    answer needs the picture itself.
    """
    segmenter = None if whole else service.segmenters[method]
    read = partial(service.picture, content.pop(), deadline, segmenter=segmenter)
    picture = await service.waiting_in_thread(read)
    del read  # the file's bytes
    service.current.body.close()
    seen = await service.seen(method, picture, deadline)

    def written() -> Any:
        result = seen.segment(vocabulary, fill=True, min_score=min_score, drop_absent=drop_absent)
        return write(result if whole else without_picture(result))

    return await service.answered(size_of(picture), len(vocabulary), written)
