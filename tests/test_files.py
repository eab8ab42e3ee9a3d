"""Files are whole or not there, whatever they are called."""

import errno

import pytest
import torch

from wordmask.files import NoRoomError, atomic_write


@pytest.mark.parametrize(
    "name", ["画" * 80 + ".png", "a" * 251 + ".png", "ü" * 127, "🐕" * 63, ".hidden", "plain"], ids=len
)
def test_every_name_a_file_can_have_is_written_and_folders_on_the_way_are_made(tmp_path, name):
    for content in (b"first", b"second"):
        with atomic_write(tmp_path / "a" / "b" / name) as file:
            file.write(content)
        assert (tmp_path / "a" / "b" / name).read_bytes() == content
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [name]


def test_until_it_is_whole_a_file_is_hidden_and_the_old_one_stays(tmp_path):
    (tmp_path / "masks.png").write_bytes(b"old")
    with atomic_write(tmp_path / "masks.png") as file:
        file.write(b"new")
        (other,) = {path.name for path in tmp_path.iterdir()} - {"masks.png"}
        assert other.startswith(".")
        assert other.endswith(".part")
        assert (tmp_path / "masks.png").read_bytes() == b"old"
    assert (tmp_path / "masks.png").read_bytes() == b"new"


def test_a_place_that_may_not_be_written_is_called_by_the_name_that_was_asked_for(tmp_path, monkeypatch):
    def refuse(path, mode):  # no permission stops an administrator
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("wordmask.files._Raw", refuse)
    with pytest.raises(PermissionError) as caught, atomic_write(tmp_path / "masks.png"):
        pass
    assert caught.value.filename == str(tmp_path / "masks.png")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "masks.png").write_bytes(b"old")

    def write_half():
        with atomic_write(tmp_path / "masks.png") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_name_longer_than_names_can_be_leaves_nothing(tmp_path):
    with pytest.raises(OSError), atomic_write(tmp_path / ("a" * 300)) as file:
        file.write(b"lost")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_with_the_files_name_whoever_writes(tmp_path, monkeypatch):
    """A library makes of a write that failed an error of its own, which says nothing of the disk."""

    def full(raw, content):
        raw.trouble = OSError(errno.ENOSPC, "No space left on device")
        raise raw.trouble

    (tmp_path / "checkpoint.pt").write_bytes(b"old")
    monkeypatch.setattr("wordmask.files._Raw.write", full)
    said = r"checkpoint.pt.*No space left"
    with pytest.raises(NoRoomError, match=said), atomic_write(tmp_path / "checkpoint.pt") as file:
        torch.save({"weights": torch.zeros(100_000)}, file)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
