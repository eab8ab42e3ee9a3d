"""What people are told: lines that do a terminal no harm, and few of them however much goes wrong."""

import os
import pty
import subprocess
import sys
import warnings
from contextlib import suppress

import pytest
from PIL import Image

from wordmask import cli
from wordmask.console import MOST_NAMED, LeftOut, complain, printable, show
from wordmask.pictures.image_files import ImageReadError, warn_left_out
from wordmask.pictures.left_out import read_left_out

STEERING = "\x1b]0;title\x07\x1b[2J"
METHOD = ("--method", "maskclip")


@pytest.fixture
def mixed(photo, tmp_path):
    """Adds files that are no pictures to a folder with one that is."""
    folder = tmp_path / "in"
    folder.mkdir()
    photo.rename(folder / "photo.jpg")

    def add(*names):
        for name in names:
            (folder / name).write_bytes(b"no picture")
        return folder

    return add


def listed_in(out):
    return list(read_left_out(out / "left-out.txt"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Été, 日本, 🙂, a\\b", "plain, Été, 日本, 🙂, a\\b"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r\tand", "two\\nlines\\r\\tand"),
        ("\x9b31m\x7f\x00", "\\x9b31m\\x7f\\x00"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
    ],
)
def test_nothing_printable_steers_a_terminal(text, shown):
    assert printable(text) == shown


def test_messages_are_one_line_each_and_results_exact_in_a_pipe_and_harmless_on_a_terminal(capsys, monkeypatch):
    complain(f"left out: {STEERING}\n.png")
    assert capsys.readouterr().err == "wordmask: left out: \\x1b]0;title\\x07\\x1b[2J\\n.png\n"
    show(f"{STEERING}.png\nsecond")
    assert capsys.readouterr().out == f"{STEERING}.png\nsecond\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show(f"{STEERING}.png\nsecond")
    assert capsys.readouterr().out == "\\x1b]0;title\\x07\\x1b[2J.png\nsecond\n"


def test_a_file_whose_name_steers_is_named_harmlessly_by_every_way_to_speak(wordmask, mixed, tmp_path):
    folder = mixed(f"{STEERING}.png")
    status, out, err = wordmask("segment", folder, "--names", "a,b", "-o", tmp_path / "out")
    assert (status, "\\x1b]0;title" in err, "\x1b" in out + err) == (1, True, False)
    assert [name for name, _ in listed_in(tmp_path / "out")] == [str(folder / f"{STEERING}.png")]
    for wrong in (
        ("segment", STEERING, "--names", "a"),
        (STEERING,),
        ("label", folder, STEERING, "--names", "a,b", *METHOD),
    ):
        status, out, err = wordmask(*wrong)
        assert status in (1, 2)
        assert "\x1b]" not in out + err


@pytest.mark.parametrize(("verb", "ends", "name"), [("segment", 1, "{folder}/bad299.jpg"), ("label", 0, "bad299.jpg")])
def test_few_of_many_bad_files_are_named_and_all_are_listed(wordmask, mixed, tmp_path, verb, ends, name):
    folder, out = mixed(*(f"bad{number:03d}.jpg" for number in range(300))), tmp_path / "out"
    status, _, err = wordmask(verb, folder, "--names", "a,b", *METHOD, "-o", out)
    assert (status, err.count(".jpg: ")) == (ends, MOST_NAMED)
    assert f"300 in all; {out / 'left-out.txt'} lists them" in err
    listed = listed_in(out)
    assert (len(listed), listed[-1][0]) == (300, name.format(folder=folder))


def test_a_list_tells_of_the_last_run_and_files_of_others_stay(wordmask, mixed, tmp_path):
    folder, out = mixed("bad.jpg"), tmp_path / "out"
    arguments = ("segment", folder, "--names", "a,b", "-o", out)
    assert (wordmask(*arguments)[0], len(listed_in(out))) == (1, 1)
    (folder / "bad.jpg").unlink()
    assert wordmask(*arguments)[0] == 0
    assert not (out / "left-out.txt").exists()
    (out / "left-out.txt").write_text("bring these:\nbread")
    mixed("bad.jpg")
    assert "so it stays" in wordmask(*arguments)[2]
    assert (out / "left-out.txt").read_text() == "bring these:\nbread"


def test_warnings_of_pictures_left_out_are_counted_too(command, monkeypatch):
    def many(**_):
        for number in range(100):
            warn_left_out(ImageReadError(f"bad{number}.jpg", "is empty"))
        sys.exit(0)

    monkeypatch.setattr(cli, "app", many)
    for more, named in (((), MOST_NAMED), (("--debug",), 100)):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            _, _, err = command("models", *more)
        assert err.count(".jpg: is empty") == named
        assert more or "100 in all" in err


def test_what_is_left_out_is_named_until_there_are_many(capsys):
    left_out = LeftOut("the list has them")
    for number in range(MOST_NAMED):
        left_out(f"{number}")
    left_out.finish()
    assert capsys.readouterr().err.count("\n") == MOST_NAMED


def test_files_that_were_passed_over_are_said_at_the_end_and_cost_no_exit_status(wordmask, mixed, tmp_path):
    films = ("a.mp4", "b.mp4", "c.psd")
    folder = mixed(*films)
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    for verb in ("segment", "label"):
        status, out, err = wordmask(verb, folder, "--names", "a,b", *METHOD, "-o", tmp_path / verb)
        assert status == 0
        assert "note: 3 files that look like pictures or films were passed over: 2 .mp4, 1 .psd\n" in err
        assert "note: 1 picture has several frames or pages; the first was taken\n" in err
        assert {name.rpartition("/")[2] for name, _ in listed_in(tmp_path / verb)} == set(films)
    assert "3 passed over (left-out.txt)" in out
    out = wordmask("label", folder, "--names", "a,b", *METHOD, "-o", tmp_path / "label", "--json")[1]
    assert '"passed_over": {".mp4": 2, ".psd": 1}' in out


def test_results_go_where_stdout_goes_though_a_terminal_shows_a_bar():
    """Rich would print them on the terminal that the bar is on."""
    code = """
from wordmask.console.progress import progress_bar
from wordmask.console import show
with progress_bar("working [bold]", 5) as report:
    for number in range(5):
        report(number + 1)
        show(f"result {number}")
"""
    ours, theirs = pty.openpty()
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the end
        while more := os.read(ours, 65536):
            shown += more
    os.close(ours)
    assert done.stdout == b"".join(f"result {number}\n".encode() for number in range(5))
    assert b"working [bold]" in shown
    assert b"5/5" in shown
    assert b"result" not in shown
