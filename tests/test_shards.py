"""Shards that several make: each once, and nothing lost of those that fail, hang, die or find no room."""

import os
import time
from functools import partial

import pytest

from support.shard_tasks import Loaf, no_oven, oven, oven_of_the_second
from support.tiny_collection import write_pictures
from wordmask import extras
from wordmask.runs.crew import CrewError, Processes
from wordmask.runs.shards import ShardError, Share, run_shards


def bake(folder, count=4, crew=None, load=oven, **how):
    """Bake loaves, of which some go wrong (`_1="fails"`); what was told of them, and by how many processes."""
    folder.mkdir(exist_ok=True)
    said, told, done = [], {}, []
    tasks = (Loaf(folder, number, how.get(f"_{number}", "")) for number in range(count))
    try:
        run_shards(
            tasks,
            load,
            is_made=lambda task: task.path.exists(),
            crew=crew,
            total=10 * count,
            progress=lambda part, total: done.append((part, total)),
            on_made=lambda task, number: told.update({task.number: number}),
            say=said.append,
        )
    except ShardError as error:
        return said, told, done, str(error)
    return said, told, done, None


def loaves(folder):
    return {path.stem: path.read_text() for path in folder.glob("*.txt")}


WHOLE = {str(number): f"loaf {number} of rye" for number in range(4)}


@pytest.mark.parametrize("crew", [None, Processes(1), Processes(2)])
def test_whoever_makes_the_shards_they_are_the_same_and_made_once(tmp_path, crew):
    said, told, done, error = bake(tmp_path, crew=crew)
    assert (said, error) == ([], None)
    assert loaves(tmp_path) == WHOLE
    assert done[-1] == (40, 40)
    assert (os.getpid() in told.values()) == (crew is None)
    assert len(set(told.values())) <= (crew.workers if crew else 1)
    (tmp_path / "2.txt").unlink()
    _, told, done, _ = bake(tmp_path, crew=crew)
    assert list(told) == [2]
    assert done[-1] == (40, 40)
    assert loaves(tmp_path) == WHOLE


def test_a_shard_that_always_fails_is_named_and_the_rest_is_made(tmp_path):
    said, _, _, error = bake(tmp_path, crew=Processes(2), _1="fails")
    assert said == ["loaf 1 could not be made: ValueError: no flour"]
    assert "1 shard could not be made: loaf 1 (ValueError: no flour); what is done is kept" in error
    assert loaves(tmp_path).keys() == WHOLE.keys() - {"1"}
    assert bake(tmp_path, crew=Processes(2))[3] is None
    assert loaves(tmp_path) == WHOLE


def test_here_what_goes_wrong_is_raised_at_once(tmp_path):
    with pytest.raises(ValueError, match="no flour"):
        bake(tmp_path, _1="fails")
    assert list(loaves(tmp_path)) == ["0"]


def test_a_shard_that_hangs_is_given_up_and_the_rest_is_made(tmp_path):
    start = time.monotonic()
    _, _, _, error = bake(tmp_path, crew=Processes(1, time_limit=2), _1="hangs")
    assert "loaf 1 (it took longer than 2 s)" in error
    assert loaves(tmp_path).keys() == WHOLE.keys() - {"1"}
    assert time.monotonic() - start < 300


def test_a_worker_that_is_lost_is_replaced_and_its_shard_made(tmp_path):
    said, _, _, error = bake(tmp_path, crew=Processes(2), _1="dies once")
    assert error is None
    assert loaves(tmp_path) == WHOLE
    assert [line for line in said if "is lost" in line]


def test_a_shard_whose_workers_all_die_is_named(tmp_path):
    _, _, _, error = bake(tmp_path, crew=Processes(1), _1="dies")
    assert "loaf 1 (its worker was lost 3 times" in error
    assert loaves(tmp_path).keys() == WHOLE.keys() - {"1"}


def test_a_worker_whose_disk_is_full_is_given_no_more(tmp_path):
    said, told, _, error = bake(tmp_path, crew=Processes(2), _0="full once", _1="slow", _2="slow")
    assert error is None
    assert loaves(tmp_path) == WHOLE
    assert len(set(told.values())) == 1, "the other worker has done the rest"
    assert "is given no more: no room is left on the disk of" in said[0]


def test_when_all_disks_are_full_the_run_ends(tmp_path):
    with pytest.raises(CrewError, match=r"no worker is left: .*no room is left on the disk of .*0.txt"):
        bake(tmp_path, crew=Processes(1), _0="full")


def test_workers_that_cannot_begin_end_the_run(tmp_path):
    with pytest.raises(CrewError, match=r"no worker is left: process \d+ cannot begin: .*oven.safetensors"):
        bake(tmp_path, crew=Processes(2), load=no_oven)


def test_a_worker_that_cannot_begin_is_gone_without(tmp_path):
    said, told, _, error = bake(tmp_path, crew=Processes(2), load=partial(oven_of_the_second, tmp_path))
    assert error is None
    assert loaves(tmp_path) == WHOLE
    assert len(set(told.values())) == 1
    assert "cannot begin: " in said[0]


def test_without_a_missing_shard_nobody_begins(tmp_path):
    bake(tmp_path)
    assert bake(tmp_path, crew=Processes(2), load=no_oven)[1] == {}


def test_shares_are_every_so_many_and_cover_all():
    shares = [list(Share.read(f"{which}/3").pick(iter(range(10)))) for which in (1, 2, 3)]
    assert shares == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/", "-1/3", ""])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ShardError, match="is no share"):
        Share.read(text)


def test_tasks_are_taken_as_their_turn_comes(tmp_path):
    """Of a pile of any size, only a few shards are known at a time."""
    taken = []

    def tasks():
        for number in range(12):
            taken.append(number)
            yield Loaf(tmp_path, number, "slow")

    ahead = []
    run_shards(
        tasks(),
        partial(oven),
        is_made=lambda task: False,
        crew=Processes(2),
        on_made=lambda task, told: ahead.append(len(taken) - len(loaves(tmp_path))),
    )
    assert len(loaves(tmp_path)) == 12
    assert max(ahead) <= 5


@pytest.mark.parametrize(
    "line",
    [
        "embed PICTURES",
        "search dog --collection PICTURES --parts OUT",
        "label PICTURES --names dog",
        "distill --names dog --images PICTURES",
        "evaluate --benchmark world",
        "bank build PICTURES",
    ],
)
def test_a_cluster_without_ray_is_refused_in_a_line_before_any_work(tmp_path, command, monkeypatch, line):
    write_pictures(tmp_path / "pictures", 2)
    find = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda package: None if package == "ray" else find(package))
    places = {"PICTURES": tmp_path / "pictures", "OUT": tmp_path / "out"}
    words = [places.get(word, word) for word in line.split()]
    words += [] if "OUT" in line else ["--out", tmp_path / "out"]
    status, out, err = command(*words, "--preset", "world", "--cluster", "auto")
    assert (status, out) == (1, "")
    assert "ray is not installed: pip install 'wordmask[cluster]'" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
