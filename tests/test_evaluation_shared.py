"""Evaluations by a crew: the scores of one process, and what was measured is not measured again."""

import json

import pytest

from support.shard_tasks import OneHere
from support.squares import Guess, Squares
from wordmask import benchmarks, segmenters
from wordmask.benchmarks import spreading
from wordmask.benchmarks.evaluation import evaluate
from wordmask.runs.shards import ShardError


def figures(report):
    return {**report.as_json(), "seconds": 0}


class Unwell(Guess):
    """Fails at pictures of one kind."""

    def see(self, images, sources):
        if "17" in "".join(map(str, sources)):
            raise RuntimeError("out of memory")
        return super().see(images, sources)


@pytest.fixture
def by_crew(monkeypatch, tmp_path):
    monkeypatch.setattr(spreading, "write_page", lambda *given: None)  # it looks at some pictures again

    def run(segmenter, pictures=40):
        monkeypatch.setattr(segmenters, "load", lambda **options: segmenter)
        monkeypatch.setattr(benchmarks, "open_benchmark", lambda **options: Squares(pictures))
        return spreading.evaluate_by_crew({}, {}, OneHere(), out=tmp_path / "out", batch_size=2)

    return run


def test_a_crew_gives_the_scores_of_one_process_and_measures_nothing_twice(by_crew):
    first = Guess()
    assert figures(by_crew(first)) == figures(evaluate(Guess(), Squares(40)))
    again = Guess()
    by_crew(again)
    assert (first.looked, again.looked) == (40, 0)


def test_pictures_that_cannot_be_measured_are_named_and_the_others_kept(by_crew):
    with pytest.raises(ShardError, match="1 shard could not be made: pictures 10 to 19 .RuntimeError: out of memory"):
        by_crew(Unwell())
    rest = Guess()
    assert figures(by_crew(rest)) == figures(evaluate(Guess(), Squares(40)))
    assert rest.looked == 10


@pytest.mark.slow
def test_processes_give_the_scores_of_one(tmp_path, command):
    line = ("evaluate", "--benchmark", "world", "--split", "single", "--pictures", 6, "--preset", "world")
    line += ("--method", "maskclip", "--batch-size", 2, "--device", "cpu", "--json", "--out")
    status, one, err = command(*line, tmp_path / "one")
    assert status == 0, err
    status, two, err = command(*line, tmp_path / "two", "--workers", 2)
    assert status == 0, err
    assert {**json.loads(one), "seconds": 0} == {**json.loads(two), "seconds": 0}


def test_a_crew_needs_a_folder(command):
    assert command("evaluate", "--benchmark", "world", "--workers", 2)[0] == 2
