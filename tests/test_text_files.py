"""Small files of text are read within limits, and what is wrong with one is said with its name."""

import os

import pytest

from wordmask.text_files import TextFileError, counted, parse_yaml, read_json, read_small, read_text, read_yaml, shown

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(letter)}: &{chr(letter)} [{', '.join(['*' + chr(letter - 1)] * 9)}]\n"
    for letter in range(ord("b"), ord("k"))
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "aliases"),  # counted, and not spread out
        ("a: &a [*a]", "itself"),
        *((text, "not valid YAML") for text in ("1" * 100_000, "[" * 100_000, "a: [", "2026-99-99")),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_yaml_cannot_read_is_one_kind_of_error(text, says):
    with pytest.raises(TextFileError, match=says) as caught:
        parse_yaml(text)
    assert len(str(caught.value)) < 300


def test_few_aliases_are_read():
    assert parse_yaml("a: &a [1, 2]\nb: *a\n<<: {c: 3}") == {"a": [1, 2], "b": [1, 2], "c": 3}
    assert parse_yaml("") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "names.txt")
    for path, says in ((tmp_path / "names.txt", "pipe"), ("/dev/zero", "device"), (tmp_path, "directory")):
        for read in (read_text, read_small):
            with pytest.raises(TextFileError, match=says):
                read(path)


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


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (counted(0, "picture"), "0 pictures"),
        (counted(1, "picture"), "1 picture"),
        (counted(2, "picture"), "2 pictures"),
        (counted(1, "class", "classes"), "1 class"),
        (counted(3, "class", "classes"), "3 classes"),
        (counted(1.0, "second", style="g"), "1 second"),
        (counted(2.5, "second", style="g"), "2.5 seconds"),
        (counted(12000, "view", style=","), "12,000 views"),
    ],
)
def test_one_thing_is_not_said_as_several(told, said):
    assert told == said
