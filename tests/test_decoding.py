"""Decoding in processes of their own: the same pixels, and whatever a picture does costs that picture alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from support.costly_pictures import encoded, photo, png, with_scans
from support.script import printed_by
from wordmask.pictures.decoding import DecodersBusyError, DecodingLateError, DecodingPool
from wordmask.pictures.decoding_process import NICE
from wordmask.pictures.images import ImageReadError, read_image, shrunk
from wordmask.pictures.reduced import reduced

MB = 2**20
PHOTO = encoded(photo(), "JPEG")


@contextmanager
def pool_of(decoders: int = 1, *, seconds: float = 30, memory: int = 512, room: int = 256, **options):
    pool = DecodingPool(decoders, seconds=seconds, memory_bytes=memory * MB, decoded_bytes=room * MB, **options)
    with closing(pool):
        yield pool


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodingPool]:
    with pool_of(2) as pool:
        pool.start()
        yield pool


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


NOISE = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
SLOW = encoded(Image.fromarray(NOISE), "QOI")
"""A second or two: it is decoded in Python."""


def large_png(width: int = 6000, height: int = 4000) -> bytes:
    """Three kilobytes, whose pixels take 72 MB."""
    return png(size=(width, height), depth=1)


def decoded(pool: DecodingPool, content: bytes = PHOTO, *, seconds: float = 60, **options):
    """What the pool promises, waited for until its deadline."""
    deadline = soon(seconds)
    result = pool.submit(content, deadline=deadline, **options)
    try:
        return result.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError as error:
        result.cancel()
        raise DecodingLateError("waited in vain") from error


def goes_on(pool: DecodingPool) -> bool:
    return decoded(pool).shape == (96, 128, 3)


def until(true, seconds: float = 20) -> None:
    deadline = soon(seconds)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sideways() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(photo(), "JPEG", exif=exif.tobytes())


@pytest.mark.parametrize(
    "content",
    [
        PHOTO,
        sideways(),
        encoded(photo().convert("P"), "PNG", transparency=3),
        encoded(photo().convert("LA"), "PNG"),
        encoded(photo(), "WEBP"),
        encoded(photo().convert("CMYK"), "TIFF", compression="tiff_lzw"),
    ],
)
def test_the_pixels_are_those_that_are_decoded_here(pool, content) -> None:
    image = decoded(pool, content)
    assert np.array_equal(image, read_image(content))
    assert image.flags.writeable
    assert image.flags.c_contiguous


@pytest.mark.parametrize("side", [1, 50, 127, 128, 500])
def test_a_picture_may_be_made_smaller_before_it_comes(pool, side) -> None:
    expected = shrunk(read_image(sideways()), side)
    assert np.array_equal(decoded(pool, sideways(), side=side), expected)
    assert max(expected.shape[:2]) == min(side, 128)


def test_what_is_made_of_the_pixels_comes_in_their_place_and_they_are_not_kept(pool) -> None:
    content, whole = large_png(600, 400), read_image(large_png(600, 400))
    small = decoded(pool, content, reduce=lambda image: reduced(image, (40, 60)))
    assert small.size == (400, 600)
    assert np.array_equal(small.pixels, reduced(whole, (40, 60)).pixels)
    until(lambda: pool._held_bytes == 0)  # of the pixels that another test has kept too


@pytest.mark.parametrize(
    ("content", "reason"), [(b"hello", "not a picture"), (PHOTO[:300], "cut short"), (with_scans(500), "100 scans")]
)
def test_what_cannot_be_read_says_why(pool, content, reason) -> None:
    with pytest.raises(ImageReadError, match=reason):
        decoded(pool, content)


def test_a_picture_may_be_refused_by_its_size_before_it_is_decoded(pool) -> None:
    def admit(height: int, width: int) -> None:
        raise LookupError((height, width))

    with pytest.raises(LookupError, match=r"\(4000, 6000\)"):
        decoded(pool, large_png(), admit=admit)
    assert goes_on(pool)


def test_a_picture_that_takes_too_long_costs_itself_alone() -> None:
    with pool_of(seconds=0.5) as pool:
        for _ in range(2):
            with pytest.raises(ImageReadError, match=r"longer than 0\.5 seconds"):
                decoded(pool, SLOW)
            assert goes_on(pool)
        assert pool._held_bytes == 0


def test_time_is_that_of_the_processor_and_idle_decoders_have_all_the_time_there_is() -> None:
    content = encoded(photo(1000, 1000), "PNG", compress_level=1)
    with pool_of(seconds=0.5) as pool:
        pool.start()
        child = decoder()
        while sum(child.cpu_times()[:2]) < 1:  # more than one picture may take
            decoded(pool, content)
        time.sleep(0.5)
        assert decoded(pool, content).shape == (1000, 1000, 3)
        assert decoder() == child


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited on Linux")
def test_a_picture_that_takes_too_much_memory_costs_itself_alone() -> None:
    with pool_of(memory=64) as pool:
        for content in (large_png(), encoded(Image.new("RGB", (6000, 4000)), "JPEG", progressive=True)):
            with pytest.raises(ImageReadError, match="more than 64 MB|memory"):
                decoded(pool, content)
            assert goes_on(pool)


def test_a_decoder_that_falls_over_is_replaced() -> None:
    with pool_of() as pool:
        pool.start()
        child, result = decoder(), pool.submit(SLOW, deadline=soon())
        until(result.running)
        child.send_signal(signal.SIGKILL)
        with pytest.raises(ImageReadError, match="its decoder ended with -9"):
            result.result(30)
        assert goes_on(pool)


def decoder() -> psutil.Process:
    """The decoder that this test has started; those of others have been there before."""
    children = psutil.Process().children()
    own = [process for process in children if "wordmask.pictures.decoding_worker" in process.cmdline()]
    return max(own, key=lambda process: process.create_time())


def test_many_large_pictures_wait_for_room() -> None:
    """Forty uploads at once of three kilobytes each, of which each asks for 18 MB here, and 40 are there for all."""
    content, most = large_png(3000, 2000), 0

    def ask(_: int) -> tuple[int, ...]:
        nonlocal most
        image = decoded(pool, content)
        most = max(most, pool._held_bytes)
        time.sleep(0.01)
        return image.shape

    with pool_of(2, room=40, waiting=40) as pool:
        with ThreadPoolExecutor(40) as threads:
            assert set(threads.map(ask, range(40))) == {(2000, 3000, 3)}
        assert 18_000_000 <= most <= 40 * MB
        assert pool._held_bytes == 0


def test_room_is_kept_while_somebody_holds_the_picture_and_those_who_wait_in_vain_are_told() -> None:
    with pool_of(room=1) as pool:
        kept = decoded(pool, encoded(Image.new("L", (1000, 1000)), "PNG"))  # more than there is, but alone
        part = kept[:10]
        del kept
        with pytest.raises(DecodingLateError):
            decoded(pool, seconds=1)
        assert pool._held_bytes == 3_000_000
        del part
        assert goes_on(pool)


def test_a_full_queue_refuses_and_no_client_has_more_than_half_of_it() -> None:
    with pool_of(waiting=4) as pool:
        running = pool.submit(SLOW, deadline=soon(), client="greedy")
        until(running.running)
        greedy = [pool.submit(SLOW, deadline=soon(), client="greedy") for _ in range(2)]
        with pytest.raises(DecodersBusyError, match="2 pictures wait"):
            pool.submit(SLOW, deadline=soon(), client="greedy")
        others = [pool.submit(PHOTO, deadline=soon(), client=name) for name in ("modest", "shy")]
        with pytest.raises(DecodersBusyError, match="4 pictures wait"):
            pool.submit(PHOTO, deadline=soon(), client="late")
        assert all(other.result(30).shape == (96, 128, 3) for other in others)
        assert not greedy[1].done()


def test_who_has_fewer_at_work_comes_first() -> None:
    with pool_of(2) as pool:
        greedy = [pool.submit(SLOW, deadline=soon(), client="greedy") for _ in range(6)]
        until(greedy[1].running)
        modest = pool.submit(PHOTO, deadline=soon(), client="modest")
        assert modest.result(30).shape == (96, 128, 3)
        assert not greedy[3].done()


def test_what_has_not_begun_by_its_deadline_is_not_begun() -> None:
    with pool_of() as pool:
        running, start = pool.submit(SLOW, deadline=soon()), time.monotonic()
        with pytest.raises(DecodingLateError):
            decoded(pool, seconds=0.1)
        assert time.monotonic() - start < 1
        assert goes_on(pool)
        assert running.done()


def test_those_who_have_given_up_keep_nobody_out() -> None:
    with pool_of(waiting=2) as pool:
        running = pool.submit(SLOW, deadline=soon())
        until(running.running)
        pool.submit(PHOTO, deadline=soon()).cancel()
        late = pool.submit(PHOTO, deadline=soon(0))
        others = [pool.submit(PHOTO, deadline=soon()) for _ in range(2)]
        with pytest.raises(DecodingLateError):
            late.result(0)
        assert all(other.result(30).shape == (96, 128, 3) for other in others)


def test_closing_takes_less_than_a_second_and_tells_everybody() -> None:
    with pool_of(2) as pool:
        results = [pool.submit(SLOW, deadline=soon()) for _ in range(8)]
        until(results[1].running)
        start = time.monotonic()
        pool.close()
        assert time.monotonic() - start < 1
        for result in results:
            with pytest.raises(DecodersBusyError, match="being stopped"):
                result.result(0)
        with pytest.raises(DecodersBusyError, match="being stopped"):
            pool.submit(PHOTO, deadline=soon())
        assert not set(threading.enumerate()) & set(pool._threads)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_decoders_end_when_their_owner_is_killed() -> None:
    script = (
        "import sys, time, psutil; from wordmask.pictures.decoding import DecodingPool\n"
        "pool = DecodingPool(2, seconds=30, memory_bytes=2**29, decoded_bytes=2**28); pool.start()\n"
        "pool.submit(sys.stdin.buffer.read(), deadline=time.monotonic() + 60); time.sleep(0.3)\n"
        "print(*(child.pid for child in psutil.Process().children()), flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    owner.stdin.write(SLOW)
    owner.stdin.close()
    decoders = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(decoders) == 2
    owner.kill()
    owner.wait()
    until(lambda: not any(is_running(pid) for pid in decoders), 1.5)


def test_a_decoder_is_small_and_knows_no_torch() -> None:
    heavy = ("torch", "torchvision", "scipy", "pydantic", "fastapi", "gradio", "open_clip")
    printed_by(f"import sys, wordmask.pictures.decoding_worker; assert not set({heavy}) & set(sys.modules)")
    with pool_of() as pool:
        pool.start()
        decoded(pool, large_png())
        assert decoder().memory_info().rss < 64 * MB


def test_a_decoder_that_cannot_be_started_is_told_at_once(monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pool_of() as pool:
        with pytest.raises(OSError, match="nowhere"):
            pool.start()
        with pytest.raises(DecodersBusyError, match="no decoder can be started"):
            decoded(pool)


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="no priorities here")
@pytest.mark.parametrize("gives_way", [True, False])
def test_a_pool_that_gives_way_has_processes_of_low_priority(gives_way: bool) -> None:
    with pool_of(2, gives_way=gives_way) as pool:
        pool.start()
        nice = [psutil.Process(decoder._process.pid).nice() for decoder in pool._processes]
        assert nice == [NICE if gives_way else os.getpriority(os.PRIO_PROCESS, 0)] * 2
        assert decoded(pool).shape == read_image(PHOTO).shape
