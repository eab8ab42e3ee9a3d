"""What is said once of many pictures, counted over threads and processes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wordmask.console.notices import DEPTH, FRAMES, Notices


def counting():
    notices = Notices()
    notices.counting = True
    return notices


def test_a_picture_counts_once_however_often_and_by_whom_it_is_read():
    first, worker = counting(), counting()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: first.note(FRAMES, f"{number % 10}.gif"), range(1000)))
    for number in range(5, 20):
        worker.note(FRAMES, f"{number}.gif")
    worker.note(DEPTH, "a.png")
    first.merge(worker.taken())
    assert list(worker.lines()) == []
    assert list(first.lines()) == [
        "20 pictures have several frames or pages; the first was taken",
        "1 picture holds 12 bits or so in a file of 16; white is the largest value of those",
    ]


def test_commands_begin_with_nothing_and_leave_what_was_before():
    notices = counting()
    notices.pass_over(Path("a.mp4"))
    with notices.counted():
        assert notices.passed_over() == {}
        notices.pass_over(Path("b.mov"))
    assert notices.passed_over() == {".mp4": 1}
