"""Progress: a line at the start, one now and then, and one at the end; with the speed and the time left."""

import itertools
import time

import pytest

from wordmask.console.progress import EVERY_SECONDS, CountAhead, Lines, duration, progress_bar, rate


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines(clock, told):
    return Lines("labelling", tell=told.append, clock=clock)


@pytest.fixture
def told():
    return []


def work(lines, clock, seconds, per_second, total, start=0):
    for step in range(seconds):
        clock.now += 1
        lines.report(start + (step + 1) * per_second, total)


def test_a_line_at_the_start_now_and_then_and_at_the_end(clock, told):
    lines = Lines("labelling", 6000, tell=told.append, clock=clock)
    lines.begin()
    work(lines, clock, 150, 40, 6000)
    lines.end()
    assert told[:2] == ["labelling: 6000 to do", "labelling: 1200 of 6000 (20%), 40.0 a second, about 2 min left"]
    assert told[-1] == "labelling: 6000 done in 2 min"
    assert len(told) == 2 + 150 // EVERY_SECONDS - 1  # the last of them is the end itself


def test_what_a_resumed_run_finds_done_does_not_count_as_speed(lines, clock, told):
    lines.report(5000, 6000)
    work(lines, clock, 40, 1, 6000, start=5000)
    assert told == ["labelling: 5030 of 6000 (83%), 1.0 a second, about 16 min left"]


def test_a_total_that_is_not_known_yet_is_left_open_and_taken_up_when_it_is(lines, clock, told):
    work(lines, clock, 30, 2, None)
    work(lines, clock, 30, 2, 600, start=60)
    assert told == ["labelling: 60 done, 2.0 a second", "labelling: 120 of 600 (20%), 2.0 a second, about 4 min left"]


def test_one_slow_thing_at_a_time_still_has_a_speed(lines, clock, told):
    for done in range(4):
        lines.report(done, 10)
        clock.now += 600
    assert told[-1] == "labelling: 3 of 10 (30%), 6.0 an hour, about 70 min left"


def test_shares_alone_where_the_numbers_mean_nothing(clock, told):
    lines = Lines("embeddings", tell=told.append, clock=clock, counts=False)
    work(lines, clock, 31, 1_000_000, 100_000_000)
    lines.end()
    assert told == ["embeddings: 30%, about 70 s left", "embeddings: done in 31 s"]


def test_work_that_fails_is_not_said_to_be_done(capsys, monkeypatch):
    monkeypatch.setattr("wordmask.console.progress.BEGIN_SECONDS", 0.01)

    def work():
        with progress_bar("working", 3) as report:
            report(1)
            time.sleep(0.2)
            raise LookupError

    with pytest.raises(LookupError):
        work()
    assert capsys.readouterr().err == "working: 3 to do\n"


@pytest.mark.parametrize("total", [3, 1])
def test_what_takes_a_moment_is_done_without_a_word(capsys, total):
    with progress_bar("working", total) as report:
        report(total)
    assert capsys.readouterr().err == ""


def test_times_and_speeds_are_said_as_people_say_them():
    seconds = (3, 45, 100, 700, 12_000)
    assert [duration(each) for each in seconds] == ["3.0 s", "45 s", "2 min", "12 min", "3 h 20 min"]
    assert [rate(each) for each in (40, 0.5, 0.01)] == ["40.0 a second", "30.0 a minute", "36.0 an hour"]


def test_things_are_counted_ahead_of_the_work():
    with CountAhead(range(1000)) as counted:
        deadline = time.monotonic() + 10
        while counted.total is None and time.monotonic() < deadline:
            time.sleep(0.001)
    assert counted.total == 1000


def test_counting_ends_with_the_work():
    with CountAhead(itertools.repeat(1)) as counted:
        assert counted.total is None
    assert counted.total is None


def test_a_walk_that_fails_leaves_the_total_open():
    with CountAhead(1 // (1 - number) for number in range(2)) as counted:
        time.sleep(0.05)
    assert counted.total is None
