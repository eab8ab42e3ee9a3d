"""What commands are given: patterns that no shell expanded, lists, and a picture on stdin."""

import io
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from support.painted import Painted, paint
from wordmask.cli import app
from wordmask.cli.inputs import InputError, common_folder, listed_in, matching, root_of_pattern
from wordmask.masks.segmentation import Segmentation

NAMES = ["--names", "red, blue"]


@pytest.fixture(autouse=True)
def painted(monkeypatch, tmp_path):
    monkeypatch.setattr("wordmask.segmenters.load", lambda **load: Painted())
    monkeypatch.setattr("wordmask.segmenters.choosing.settled", lambda method, *_: "maskclip")
    monkeypatch.chdir(tmp_path)


def save(path, red=5):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((20, 30, 3), np.uint8)
    image[2 : 2 + red, 3:20, 0] = 255
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    for name in ("a/one.png", "b/one.png", "b/deep/two.jpg"):
        save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "b" / "notes.txt").write_text("no picture")
    save(tmp_path / "photos" / ".hidden" / "three.png")
    return tmp_path / "photos"


def wordmask(*arguments, stdin=None):
    return CliRunner().invoke(app, list(map(str, arguments)), input=stdin)


def made(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*.png") if not path.name.endswith(".overlay.png"))


def told(end):
    return " ".join(f"{end.output} {end.exception}".split())


def test_a_pattern_names_what_a_shell_would_and_results_keep_their_folders(photos, tmp_path):
    end = wordmask("segment", "photos/**/*.png", *NAMES, "--no-overlay", "--out", "masks")
    assert end.exit_code == 0, told(end)
    assert made(tmp_path / "masks") == ["a/one.png", "b/one.png"]
    found = Segmentation.load(tmp_path / "masks" / "a" / "one.png")
    labels, _ = paint(photos / "a" / "one.png")
    assert np.array_equal(found.mask("red"), labels == 0)
    again = wordmask("segment", "**/*.png", *NAMES, "--no-overlay", "--out", "masks", "--skip-done")
    assert again.exit_code == 0, told(again)
    below = [f"photos/{name}" for name in ("a/one.png", "b/one.png")]
    assert made(tmp_path / "masks") == ["a/one.png", "b/one.png", *below]  # and its own results are no pictures


def test_a_file_that_is_called_like_a_pattern_is_that_file(tmp_path):
    save(tmp_path / "odd[1].png")
    assert root_of_pattern("odd[1].png") is None
    assert wordmask("segment", "odd[1].png", *NAMES, "--out", "masks").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing/*.jpg"], "no picture matches 'nothing/*.jpg'"),
        (["photos/*/../../x*.png"], "goes up by .."),
        ([], "--from-list FILE"),
        (["--from-list", "missing.txt"], "missing.txt: cannot be read (No such file or directory)"),
        (["--from-list", "empty.txt"], "empty.txt holds no paths"),
        (["--from-list", "nul.txt"], "say -0"),
        (["-", "--from-list", "-"], "stdin can be read once"),
        (["photos", "-0"], "-0 is for --from-list"),
        (["photos", "--out", "-"], "--out - is for one picture"),
        (["https://example.org/*.jpg"], "is an address"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, words, photos, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "nul.txt").write_bytes(b"a.png\0b.png\0")
    end = wordmask("segment", *arguments, *NAMES)
    assert end.exit_code != 0
    assert words in told(end).replace("│ ", "").replace(" │", "")


@pytest.mark.parametrize("null", [False, True])
def test_a_list_names_pictures_by_lines_or_by_nul(null, photos, tmp_path):
    odd = save(photos / "b" / ("new\nline.png" if null else "a space.png"))
    paths = ["photos/a/one.png", str(odd), "photos/b/one.png", "photos/a/one.png"]
    content = "\0".join(paths) if null else "\r\n".join(paths) + "\n"
    (tmp_path / "list").write_text(content)
    more = ["-0"] if null else []
    assert wordmask("segment", "--from-list", "list", *more, *NAMES, "--no-overlay", "--out", "file").exit_code == 0
    end = wordmask("segment", "--from-list", "-", *more, *NAMES, "--no-overlay", "--out", "piped", stdin=content)
    assert end.exit_code == 0, told(end)
    assert made(tmp_path / "file") == made(tmp_path / "piped") == ["a/one.png", f"b/{odd.name}", "b/one.png"]


def test_paths_that_go_up_lead_nowhere_outside_of_the_results(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos / "a")
    (tmp_path / "list").write_text("one.png\n../b/one.png\n")
    assert common_folder(listed_in("../../list", null=False)) == photos
    assert wordmask("segment", "--from-list", "../../list", *NAMES, "--no-overlay", "--out", "../../m").exit_code == 0
    assert made(tmp_path / "m") == ["a/one.png", "b/one.png"]


def test_a_picture_on_stdin_gives_masks_on_stdout(tmp_path):
    content = save(tmp_path / "one.png").read_bytes()
    end = wordmask("segment", "-", *NAMES, "--out", "-", stdin=content)
    assert end.exit_code == 0, end.stderr
    (tmp_path / "piped.png").write_bytes(end.stdout_bytes)
    labels, _ = paint(tmp_path / "one.png")
    assert np.array_equal(Segmentation.load(tmp_path / "piped.png").mask("red"), labels == 0)
    end = wordmask("segment", "-", *NAMES, "--out", "-", "--format", "json", stdin=content)
    assert json.loads(end.stdout)["image"] == "-"
    assert wordmask("segment", "-", *NAMES, "--out", "masks", stdin=content).exit_code == 0
    assert (tmp_path / "masks" / "stdin.png").exists()


@pytest.mark.parametrize(("content", "words"), [(b"", "no picture came on stdin"), (b"no picture", "left out: -: ")])
def test_what_comes_on_stdin_and_is_no_picture_is_told(content, words):
    end = wordmask("segment", "-", *NAMES, "--out", "-", stdin=content)
    assert end.exit_code == 1
    assert end.stdout_bytes == b""
    assert words in f"{end.stderr} {end.exception}"


def test_limits_of_files_hold_for_stdin(tmp_path):
    content = save(tmp_path / "one.png").read_bytes()
    end = wordmask("segment", "-", *NAMES, "--out", "-", "--max-pixels", "100", stdin=content)
    assert end.exit_code == 1
    assert "600 pixels" in end.stderr or "limit of 100" in end.stderr


def test_more_than_a_picture_can_be_is_not_taken_in(monkeypatch):
    monkeypatch.setattr("wordmask.cli.inputs.MOST_BYTES", 1000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png\n" * 1000)))
    with pytest.raises(InputError, match="more than 1000 bytes"):
        listed_in("-", null=False)


def test_label_takes_a_pattern_and_a_list_and_goes_on_with_more(photos, tmp_path):
    assert wordmask("label", "photos/**/one.png", *NAMES, "--out", "labels").exit_code == 0
    images = json.loads((tmp_path / "labels" / "annotations.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a/one.png", "b/one.png"]
    (tmp_path / "list").write_text("".join(f"{path}\n" for path in matching("photos/**/*.*")))
    end = wordmask("label", "--from-list", "list", *NAMES, "--out", "labels", "--json")
    assert (json.loads(end.stdout)["pictures"], json.loads(end.stdout)["new"]) == (3, 3), told(end)
    end = wordmask("label", "convert", "labels", "--format", "png", "--out", "masks", "--json")
    assert json.loads(end.stdout)["pictures"] == 3, told(end)


def test_what_is_not_chosen_this_time_stays_and_is_not_gone(photos, tmp_path):
    assert wordmask("label", "photos/**/one.png", *NAMES, "--out", "labels").exit_code == 0
    end = wordmask("label", "photos/**/*.jpg", *NAMES, "--out", "labels", "--json", "--prune")
    assert (json.loads(end.stdout)["pictures"], json.loads(end.stdout)["vanished"]) == (3, 0), told(end)


def test_label_of_a_pattern_is_converted_without_what_else_there_is(photos, tmp_path):
    assert wordmask("label", "photos/**/one.png", *NAMES, "--out", "labels").exit_code == 0
    end = wordmask("label", "convert", "labels", "--format", "png", "--out", "masks", "--json")
    assert (json.loads(end.stdout)["pictures"], json.loads(end.stdout)["left_out"]) == (2, 0), told(end)
    assert os.listdir(tmp_path / "masks" / "masks" / "a") == ["one.png"]  # noqa: PTH208


def test_label_takes_no_picture_on_stdin(tmp_path):
    assert "wordmask segment -" in told(wordmask("label", "-", *NAMES))


@pytest.mark.parametrize(
    "line",
    [
        "search dog --collection ADDRESS",
        "search dog --collection photos --parts ADDRESS",
        "label ADDRESS --names dog",
        "label photos --names dog --out ADDRESS",
        "distill --names dog --images ADDRESS --out run",
        "distill --names dog --images photos --out ADDRESS",
        "evaluate --benchmark voc --root ADDRESS",
        "bank build ADDRESS --out bank",
        "bank build photos --out ADDRESS",
        "segment photos --names dog --out ADDRESS",
        "saliency photos --out ADDRESS",
    ],
)
def test_verbs_of_folders_refuse_an_address_and_say_what_to_do(photos, tmp_path, line):
    end = wordmask(*line.replace("ADDRESS", "s3://pile/x").split())
    assert end.exit_code == 2
    said = " ".join(told(end).replace("│", " ").split())
    assert "s3://pile/x is an address" in said
    assert "mount the store" in said
    assert os.listdir(tmp_path) == ["photos"]  # noqa: PTH208


def test_a_folder_that_is_called_like_an_address_is_a_folder(photos, tmp_path):
    photos.rename(tmp_path / "my:")
    assert wordmask("segment", "my:/a", *NAMES, "--no-overlay", "--out", "masks").exit_code == 0
    assert made(tmp_path / "masks") == ["one.png"]
