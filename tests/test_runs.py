"""What runs share: settings that must agree, shards that are made once, hashes of content."""

import hashlib
import os
from functools import partial

import pytest

from wordmask.errors import WordmaskError
from wordmask.fingerprints import digest_of, digest_of_lines, file_digest, file_fingerprint, known_digest
from wordmask.runs.parts import Parts, write_part
from wordmask.runs.records import check_settings, keep_settings
from wordmask.runs.shards import ShardError, make_shards


class BakeryError(WordmaskError):
    pass


def keep(path, settings, **rules):
    keep_settings(path, settings, holds=f"{path.parent} holds loaves", error=BakeryError, **rules)


def test_settings_that_agree_are_gone_on_with(tmp_path):
    path = tmp_path / "settings.json"
    keep(path, {"flour": ("rye", "wheat"), "oven": {"heat": 200}})
    before = path.read_bytes()
    keep(path, {"oven": {"heat": 200}, "flour": ["rye", "wheat"]})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"flour": "rye", "oven": {"heat": 180}}, "oven.heat 200, not 180"),
        ({"flour": "oat", "oven": {"heat": 180}}, "flour 'rye', not 'oat'"),
        ({"flour": "rye"}, r"oven {'heat': 200}, not None"),
        ({"flour": "rye", "oven": {"heat": 200}, "salt": 1}, "salt None, not 1"),
    ],
)
def test_the_first_setting_that_differs_is_named(tmp_path, settings, difference):
    path = tmp_path / "settings.json"
    keep(path, {"flour": "rye", "oven": {"heat": 200}})
    before = path.read_bytes()
    with pytest.raises(BakeryError, match=rf"holds loaves made with {difference}: .* choose another --out"):
        keep(path, settings)
    assert path.read_bytes() == before


def test_settings_may_be_free_or_newer_than_the_folder(tmp_path):
    path = tmp_path / "settings.json"
    keep(path, {"flour": "rye", "bakers": 1})
    keep(path, {"flour": "rye", "bakers": 2, "salt": 1}, free=("bakers",), before={"salt": 1})
    with pytest.raises(BakeryError, match="salt 1, not 2"):
        keep(path, {"flour": "rye", "bakers": 2, "salt": 2}, before={"salt": 1})


def test_a_setting_within_one_may_be_newer_than_the_folder(tmp_path):
    path = tmp_path / "settings.json"
    keep(path, {"oven": {"heat": 200}})
    before = {"oven": {"fan": True}, "salt": 1}
    with pytest.raises(BakeryError, match="oven.fan True, not False"):
        keep(path, {"oven": {"heat": 200, "fan": False}, "salt": 1}, before=before)
    keep(path, {"oven": {"heat": 200, "fan": True}, "salt": 1}, before=before)


@pytest.mark.parametrize("damage", [b"{", b"[]", b"null", b"\xff"])
def test_damaged_settings_are_named(tmp_path, damage):
    path = tmp_path / "settings.json"
    path.write_bytes(damage)
    with pytest.raises(WordmaskError, match=r"settings\.json: is (damaged|not UTF-8)"):
        keep(path, {"flour": "rye"})


def test_a_message_is_one_line_of_bounded_length():
    with pytest.raises(BakeryError) as refused:
        check_settings({"a": "x" * 10_000}, {"a": "y\n" * 10_000}, holds="out holds loaves", error=BakeryError)
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)


def bake(folder, number):
    with write_part(folder / f"{number}.txt") as file:
        file.write(b"loaf %d" % number)


def bake_or_die(folder, number):
    if number == 2:
        os._exit(1)
    bake(folder, number)


def bake_all(folder, *, count=5, make=bake, **settings):
    parts, told = Parts(), []
    make_shards(
        range(count),
        partial(make, folder),
        is_made=lambda number: parts.whole(folder / f"{number}.txt"),
        weight=lambda number: 10,
        progress=lambda done, total: told.append((done, total)),
        **settings,
    )
    return told


@pytest.mark.parametrize("workers", [1, 2])
def test_only_shards_that_are_missing_or_damaged_are_made(tmp_path, workers):
    assert bake_all(tmp_path, count=3) == [(10, 30), (20, 30), (30, 30)]
    whole = (tmp_path / "0.txt").stat()
    (tmp_path / "1.txt").write_bytes(b"crumbs")
    assert bake_all(tmp_path, workers=workers) == [(10, 50), (20, 50), (30, 50), (40, 50), (50, 50)]
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.txt")} == {
        f"{number}.txt": b"loaf %d" % number for number in range(5)
    }
    assert (tmp_path / "0.txt").stat().st_mtime_ns == whole.st_mtime_ns


def test_a_process_that_dies_is_told_of_in_a_line_and_the_rest_is_kept(tmp_path):
    with pytest.raises(ShardError, match=r"shard 2 \(its worker was lost 3 times"):
        bake_all(tmp_path, make=bake_or_die, workers=2)
    assert bake_all(tmp_path)[-1] == (50, 50)


def test_a_file_is_known_by_its_content(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"one" * 1_000_000)
    assert file_digest(path) == known_digest(path) == hashlib.sha256(b"one" * 1_000_000).hexdigest()
    before = known_digest(path), file_fingerprint(path)
    path.write_bytes(b"another")
    assert (known_digest(path), file_fingerprint(path)) != before
    assert file_fingerprint(path).startswith("7 bytes, ")
    assert file_fingerprint(tmp_path / "none") is file_fingerprint(tmp_path) is None


def test_names_of_files_have_hashes_whatever_they_hold():
    odd = os.fsdecode(b"\xff.jpg")
    assert digest_of(odd) == hashlib.sha256(b"\xff.jpg").hexdigest()
    assert digest_of_lines([odd, "b"]) == hashlib.sha256(b"\xff.jpg\nb\n").hexdigest()
