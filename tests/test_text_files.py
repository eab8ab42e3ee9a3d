"""Small files of text are read within limits, and what is wrong with one is said with its name."""

import os

import pytest

from wordmask.text_files import TextFileError, parse_yaml, read_json, read_small, read_text, read_yaml, shown

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(letter)}: &{chr(letter)} [{', '.join(['*' + chr(letter - 1)] * 9)}]\n"
    for letter in range(ord("b"), ord("k"))
)


def test_nested_aliases_are_counted_and_not_spread_out():
    assert len(BOMB) < 500
    with pytest.raises(TextFileError, match="aliases"):
        parse_yaml(BOMB)


def test_an_alias_that_holds_itself_is_refused():
    with pytest.raises(TextFileError, match="itself"):
        parse_yaml("a: &a [*a]")


def test_few_aliases_are_read():
    assert parse_yaml("a: &a [1, 2]\nb: *a\n<<: {c: 3}") == {"a": [1, 2], "b": [1, 2], "c": 3}
    assert parse_yaml("") is None


@pytest.mark.parametrize("text", ["1" * 100_000, "[" * 100_000, "a: [", "2026-99-99"])
def test_what_yaml_cannot_read_is_one_kind_of_error(text):
    with pytest.raises(TextFileError, match="not valid YAML") as caught:
        parse_yaml(text)
    assert len(str(caught.value)) < 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "names.txt")
    with pytest.raises(TextFileError, match="pipe"):
        read_text(tmp_path / "names.txt")
    with pytest.raises(TextFileError, match="device"):
        read_small("/dev/zero")
    with pytest.raises(TextFileError, match="directory"):
        read_small(tmp_path)


def test_what_is_wrong_is_said_with_the_files_name(tmp_path):
    for name, content, read, says in (
        ("large.txt", b"x" * 11, lambda path: read_small(path, most_bytes=10), "larger"),
        ("latin.txt", b"caf\xe9", read_text, "UTF-8"),
        ("cut.json", b'{"a": 1', read_json, "damaged"),
        ("deep.json", b"[" * 100_000, read_json, "damaged"),
        ("long.json", b"1" * 100_000, read_json, "damaged"),
        ("bomb.yaml", BOMB.encode(), read_yaml, "aliases"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TextFileError, match=says) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(TextFileError, match=r"absent.json.*No such file"):
        read_json(tmp_path / "absent.json")


def test_a_value_is_cut_before_it_is_written_out():
    nested = ["x"]
    for _ in range(40):
        nested = [nested] * 9  # 9 ** 40 values, were they written out
    assert len(shown(nested)) <= 60
    assert shown("dog") == "'dog'"
    assert len(shown(10**5000)) <= 60
