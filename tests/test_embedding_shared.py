"""Embeddings that several make: by processes, by shares of an array, going on with what another began."""

import json

import pytest

from support.embedding_files import SETTINGS, files_in
from support.shard_tasks import colour_clip, other_clip
from support.tiny_collection import ColourClip, encoded, picture, write_pictures, write_tar
from wordmask.collection.embedding import Embedding, embed
from wordmask.collection.piles import open_pile
from wordmask.runs.claim import ClaimError, claimed, joined
from wordmask.runs.crew import CrewError, Processes
from wordmask.runs.shards import Share


@pytest.fixture(params=["folder", "tars"])
def source(tmp_path, request):
    if request.param == "folder":
        write_pictures(tmp_path / "pictures", 10)
        (tmp_path / "pictures" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    else:
        for number in range(4):
            members = {f"{n}.png": encoded(picture(10 * number + n)) for n in range(3)}
            write_tar(tmp_path / "pictures" / f"{number:05d}.tar", members | {"bad.png": b"none"})
    return tmp_path / "pictures"


def work(source, out, encoder=None):
    done = Embedding(open_pile(source, per_part=3), encoder or ColourClip(), out, SETTINGS)
    done.begin()
    return done


def test_shares_make_the_very_same_files_as_one_process(source, tmp_path):
    embed(open_pile(source, per_part=3), ColourClip(), tmp_path / "one", SETTINGS)
    for which in (2, 3, 1):
        share = work(source, tmp_path / "shares")
        share.make(share=Share(which, 3))
        assert bool(share.missing()) == (which != 1)
    share.finish()
    one = files_in(tmp_path / "one")
    assert one == files_in(tmp_path / "shares")
    assert json.loads(one["collection.json"])["finished"]


def test_processes_go_on_with_what_a_share_began_and_end_the_same(source, tmp_path):
    embed(open_pile(source, per_part=3), ColourClip(), tmp_path / "whole", SETTINGS)
    begun = work(source, tmp_path / "out")
    begun.make(share=Share(1, 2))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    assert len(times) == 2
    embed(open_pile(source, per_part=3), ColourClip(), tmp_path / "out", SETTINGS, crew=Processes(2), load=colour_clip)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_two_may_make_the_same_share(source, tmp_path):
    embed(open_pile(source, per_part=3), ColourClip(), tmp_path / "whole", SETTINGS)
    first, second = work(source, tmp_path / "out"), work(source, tmp_path / "out")
    tasks = list(zip(first.tasks(), second.tasks(), strict=True))
    for one, other in tasks:
        one.make(ColourClip(), lambda done, total: None)
        other.make(ColourClip(), lambda done, total: None)
    first.finish()
    second.finish()
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


def test_a_worker_with_another_network_is_refused(source, tmp_path):
    with pytest.raises(CrewError, match="cannot begin: tiny/colours is another one there"):
        work(source, tmp_path / "out").make(crew=Processes(1), load=other_clip)


@pytest.fixture
def colours(monkeypatch):
    monkeypatch.setattr("wordmask.encoders.clip_building.clip_at", lambda *_: ColourClip())


def test_the_verb_makes_shares_and_the_last_one_joins_them(tmp_path, command, colours):
    write_pictures(tmp_path / "pictures", 7)
    arguments = ("embed", tmp_path / "pictures", "--per-shard", 2, "--out")
    status, out, err = command(*arguments, tmp_path / "one", "--json")
    assert (status, json.loads(out)) == (0, {"out": str(tmp_path / "one"), "pictures": 7, "bad": 0}), err
    shares = tmp_path / "shares"
    assert command(*arguments, shares, "--shards", "1/2")[1] == (
        f"{shares}: share 1/2 is made; 2 shards still missing\n"
    )
    status, _, err = command(*arguments, shares, "--merge")
    assert status == 1
    assert "2 shards missing, as shard 1, from 002 blue.png" in err
    before = files_in(shares)
    for other in (("--shards", "2/2"), ("--merge",)):
        status, _, err = command(*arguments[:2], "--per-shard", 3, "--out", shares, *other)
        assert (status, files_in(shares)) == (1, before)
        assert f"{shares} was begun with shards of 2, not 3: say --per-shard 2 to go on so" in err
    assert command(*arguments, shares, "--shards", "2/2")[1] == f"{shares}: embeddings of 7 pictures\n"
    assert files_in(shares) == files_in(tmp_path / "one")
    assert command(*arguments, shares, "--merge")[0] == 0
    assert (
        command("search", "green", "--collection", shares, "--top", 1)[1]
        == command("search", "green", "--collection", tmp_path / "one", "--top", 1)[1]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shards", "3/2"), "'3/2' is no share of the shards"),
        (("--shards", "1/2", "--cluster", "auto"), "--cluster makes all shards"),
        (("--merge", "--workers", 2), "--merge makes nothing"),
        (("--merge", "--time-limit", 5), "--merge makes nothing"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(tmp_path, command, options, message):
    status, _, err = command("embed", tmp_path, "--out", tmp_path / "out", *options)
    assert status == 2
    assert message in " ".join(err.replace("│", " ").split())


def test_what_is_refused_is_refused_before_a_network_is_loaded(tmp_path, command, colours, monkeypatch):
    paths = write_pictures(tmp_path / "pictures", 5)
    line = ("embed", tmp_path / "pictures", "--out", tmp_path / "out")
    assert command(*line, "--per-shard", 2)[0] == 0
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "letter.txt").touch()
    monkeypatch.setattr("wordmask.encoders.clip_building.clip_at", lambda *_: pytest.fail("was loaded"))
    for more, message in (
        (("--per-shard", 3, "--shards", "1/2"), "was begun with shards of 2, not 3"),
        (("--out", tmp_path / "others"), "letter.txt is there already"),
    ):
        status, _, err = command(*line, *more)
        assert (status, message in err) == (1, True), err
    paths[0].unlink()
    status, _, err = command(*line, "--per-shard", 2)
    assert (status, "no longer in" in err) == (1, True), err


def test_a_folder_is_claimed_by_one_or_joined_by_many(tmp_path, monkeypatch):
    monkeypatch.setattr("wordmask.runs.claim.PATIENCE", 0)
    out = tmp_path / "out"

    def refused(hold, why, verb="embed"):
        with pytest.raises(ClaimError, match=why), hold(out, verb):
            pass

    with joined(out, "embed"), joined(out, "embed"):
        refused(claimed, "shares of .* are being made")
        (out / "part").touch()
    with claimed(out, "embed"):
        refused(joined, "is being written by another run")
    refused(joined, "was made by `wordmask embed`", verb="label")


def test_who_joins_and_makes_nothing_leaves_nothing(tmp_path):
    with claimed(tmp_path / "out", "embed"):
        pass
    assert not (tmp_path / "out").exists()
