"""Several pictures in one request: each is a part of it, with a place at work and room of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from wordmask.serving.service import Service
from wordmask.serving.visits import Visit

BYTES_A_TEXT = 200
"""What a part's answer counts at least until the whole is taken."""


async def each_of(
    service: Service,
    parts: Sequence[Any],
    deadline: float,
    work: Callable[[Any], Awaitable[bytes]],
) -> list[bytes | Exception]:
    """Return what `work` answers to each part of a request, or why it answers nothing; a few are at work at once.

    The bytes of an answer count among the request's own until it has been taken.
    """
    visit, held = service.current, 0
    room = asyncio.Semaphore(at_once(service))

    async def one(part: Any) -> bytes | Exception:
        nonlocal held
        async with room:
            try:
                with _part(service, visit) as own:
                    await own.waited(own.place.wait_for(1), deadline, service.late())
                    answer = await work(part)
            except Exception as error:
                return error
            held += max(BYTES_A_TEXT, len(answer))
            visit.picture.keep(held)
            return answer

    visit.place.close()  # its parts have theirs
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(one(part)) for part in parts]
    visit.pictures = len(parts)
    if visit.ended is not None:
        raise visit.ended
    return [task.result() for task in started]


def at_once(service: Service) -> int:
    """Return how many parts of one request are at work together: a batch, but no more than leaves its client room."""
    settings = service.settings
    share = min(settings.of_one(settings.waiting), settings.of_one(settings.in_flight))
    return max(1, min(settings.batch_size, share // 2))


@contextmanager
def _part(service: Service, whole: Visit) -> Iterator[Visit]:
    with service.visit(whole.client) as own:
        if whole.ended is not None:
            raise whole.ended
        whole.parts.append(own)
        try:
            yield own
        finally:
            whole.parts.remove(own)
