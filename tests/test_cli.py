"""The command line: results on stdout, complaints on stderr, exit 0, 1 or 2, never a traceback unasked."""

import ast
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from wordmask import cli, segmenters
from wordmask.cli.verbs import VERBS, all_verbs, built
from wordmask.masks.segmentation import Segmentation
from wordmask.methods import list_methods
from wordmask.plugins import Plugin, Verb


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(file)
    return file


def test_one_picture_gives_masks_and_an_overlay(wordmask, photo, tmp_path):
    status, out, err = wordmask("segment", photo, "--names", "dog, grass, background", "--out", tmp_path / "masks")
    assert (status, err) == (0, "")
    assert out == f"{tmp_path / 'masks' / 'photo.png'}\n"
    result = Segmentation.load(tmp_path / "masks" / "photo.png")
    assert result.names == ["dog", "grass", "background"]
    assert result.size == (40, 60)
    assert (tmp_path / "masks" / "photo.overlay.jpg").exists()


def test_json_is_one_object_a_picture(wordmask, photo, tmp_path):
    status, out, _ = wordmask(
        "segment", photo, "--names", "dog,grass", "--fill", "-o", tmp_path / "out.json", "--json", "--no-overlay"
    )
    assert status == 0
    row = json.loads(out)
    assert row["image"] == str(photo)
    assert row["names"] == ["dog", "grass"]
    assert sum(row["pixels"].values()) == 40 * 60
    assert row["out"] == str(tmp_path / "out.json")
    assert not (tmp_path / "out.overlay.jpg").exists()


def test_folders_keep_their_shape_and_namesakes_keep_apart(wordmask, photo, tmp_path):
    folder = tmp_path / "in"
    (folder / "Été").mkdir(parents=True)
    picture = Image.open(photo)
    picture.save(folder / "a.jpg")
    picture.save(folder / "a.png")
    picture.save(folder / "Été" / "b.jpg")
    (folder / "notes.txt").write_text("not a picture")
    status, out, _ = wordmask(
        "segment", folder, "--names", "dog,grass", "--fill", "-o", tmp_path / "out", "--no-overlay"
    )
    assert status == 0
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("[!.]*.png"))
    assert written == ["a.jpg.png", "a.png.png", "Été/b.png"]
    assert len(out.splitlines()) == 3


def test_no_picture_is_ever_written_over(wordmask, photo, tmp_path, monkeypatch):
    drawing = tmp_path / "drawing.png"
    Image.open(photo).save(drawing)
    before = drawing.read_bytes()
    monkeypatch.chdir(tmp_path)
    for arguments in (["drawing.png", "-o", "."], ["drawing.png", "-o", "drawing.png"], [".", "-o", "."]):
        status, _, err = wordmask("segment", *arguments, "--names", "a,b", "--fill")
        assert status == 1
        assert "choose another" in err
    assert drawing.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawing.png", "photo.jpg"]


def test_results_are_never_taken_for_pictures(wordmask, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(photo.parent)
    first = wordmask("segment", ".", "--names", "a,b", "--fill")
    second = wordmask("segment", ".", "--names", "a,b", "--fill")
    assert first[:2] == second[:2] == (0, "masks/photo.png\n")


def test_folders_with_pictures_of_one_name_keep_apart(wordmask, photo, tmp_path):
    for folder in ("A", "B"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").write_bytes(photo.read_bytes())
    status, out, _ = wordmask(
        "segment", tmp_path / "A", tmp_path / "B", "--names", "a,b", "--fill", "-o", tmp_path / "out"
    )
    assert status == 0
    assert out.split() == [str(tmp_path / "out" / folder / "x.png") for folder in ("A", "B")]


@pytest.mark.parametrize(
    "names", [["a.JPG", "a.PNG"], ["a.jpg", "a.png", "a.png.jpg"], ["a.jpg", "a.jpg.png", "a.png", "a.png.jpg"]]
)
def test_every_picture_of_a_folder_has_a_result_of_its_own(wordmask, photo, tmp_path, names):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(photo.read_bytes())
    status, out, _ = wordmask("segment", folder, "--names", "a,b", "--fill", "-o", tmp_path / "out", "--no-overlay")
    assert status == 0
    assert len(set(out.split())) == len(names) == len(list((tmp_path / "out").glob("[!.]*")))


def test_ctrl_c_says_so(photo, tmp_path):
    code = (
        "import sys, signal, os, wordmask.segmenters\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "def load(**options): os.kill(os.getpid(), signal.SIGINT)\n"
        "wordmask.segmenters.load = load\n"
        f"sys.argv = ['wordmask', 'segment', {str(photo)!r}, '--names', 'a,b', '--fill', '-o', {str(tmp_path)!r}]\n"
        "from wordmask.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "wordmask: stopped; --skip-done goes on where `segment` was\n"


def test_a_name_that_is_no_utf_8_is_no_obstacle(wordmask, photo, tmp_path):
    odd = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.jpg")
    with open(odd, "wb") as file:  # noqa: PTH123 (pathlib will do as well, but this is the plainest)
        file.write(photo.read_bytes())
    for form in ("png", "json"):
        status, out, err = wordmask(
            "segment", odd, "--names", "a,b", "--fill", "-o", tmp_path / "out", "--format", form, "--json"
        )
        assert (status, err) == (0, "")
        assert json.loads(out)["image"] == odd


def test_one_bad_picture_does_not_stop_the_rest(wordmask, photo, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(photo.read_bytes()[:200])
    status, out, err = wordmask("segment", bad, photo, "--names", "dog,grass", "--fill", "-o", tmp_path / "out")
    assert status == 1
    assert out == f"{tmp_path / 'out' / 'photo.png'}\n"
    assert f"left out: {bad}: " in err
    assert "1 of 2 could not be segmented" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["segment", "{photo}"], 2, "--names"),
        (["segment", "{photo}", "--names", "dog", "--fill", "--names-file", "x"], 2, "give --names"),
        (["segment", "{photo}", "--names", "none.txt"], 1, "none.txt"),
        (["segment", "{photo}", "--names", "dog,dog", "--fill"], 1, "'dog' is there twice"),
        (["segment", "{photo}", "--names", "dog,cat", "--fill", "--format", "bmp"], 2, "--format is png or json"),
        (["segment", "{photo}", "{photo}", "--names", "a,b", "--fill", "-o", "{tmp}/x.png"], 1, "is one file"),
        (["segment", "{tmp}/none.jpg", "--names", "dog,cat", "--fill"], 1, "there is no"),
        (["segment", "{tmp}", "--names", "dog,cat", "--fill", "--set", "window"], 2, "KEY=VALUE"),
        (["segment"], 2, "Missing argument"),
        (["segment", "", "--names", "a,b", "--fill"], 2, "empty picture argument"),
        (["segment", "{photo}", "--names", "a,b", "--fill", "--set", "preset=x"], 2, "an option of its own"),
        (["segment", "{photo}", "--names", "a,b", "--fill", "-o", "{tmp}/x.png", "--format", "json"], 2, "disagree"),
        (["segment", "{photo}", "--names", "a,b", "--fill", "-o", "{photo}"], 1, "is a file that is there already"),
        (["segment", "{tmp}", "--names", "a,b", "--fill", "-o", "{tmp}"], 1, "the folder of the pictures themselves"),
        (["segment", "{tmp}", "--names", "a,b", "--fill", "-o", "{tmp}/.."], 1, "holds the folder of the pictures"),
        (["fly"], 2, "fly"),
        (["models", "--kind", "fish"], 1, "the kinds are"),
        (["models", "--fetch", "clip-dinoizer"], 1, "did you mean"),
    ],
)
def test_mistakes_are_explained_in_a_line(wordmask, photo, tmp_path, monkeypatch, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    filled = [str(a).format(photo=photo, tmp=tmp_path) for a in arguments]
    got, _, err = wordmask(*filled)
    assert got == status
    assert message in err
    assert "Traceback" not in err


def test_names_are_a_list_or_a_file(wordmask, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    (tmp_path / "names").write_text("dog\ncat\n")
    for given in (["--names", "dog,cat"], ["--names", "names.txt"], ["--names", "./names"], ["--names-file", "names"]):
        status, out, err = wordmask("segment", photo, *given, "--fill", "--json")
        assert (status, json.loads(out)["names"]) == (0, ["dog", "cat"]), err


def test_what_may_be_a_name_or_a_file_is_refused(wordmask, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dog").write_text("cat\n")
    status, _, err = wordmask("segment", photo, "--names", "dog", "--fill")
    assert status == 2
    assert "./dog" in err
    assert "Traceback" not in err
    status, out, _ = wordmask("segment", photo, "--names", "dog,", "--fill", "--json")
    assert (status, json.loads(out)["names"]) == (0, ["dog"])
    (tmp_path / "dog").unlink()
    (tmp_path / "dog").mkdir()
    assert wordmask("segment", photo, "--names", "dog", "--fill")[0] == 0


def test_two_pictures_of_one_name_are_not_written_over_each_other(wordmask, photo, tmp_path):
    other = tmp_path / "other" / "photo.jpg"
    other.parent.mkdir()
    other.write_bytes(photo.read_bytes())
    status, _, err = wordmask("segment", photo, other, "--names", "a,b", "--fill", "-o", tmp_path / "out")
    assert status == 1
    assert "would both be written to" in err
    assert not (tmp_path / "out").exists()


def test_a_stopped_run_goes_on_with_what_is_missing(wordmask, photo, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(photo.read_bytes())
    arguments = ("segment", folder, "--names", "x,y", "--fill", "-o", tmp_path / "out", "--skip-done")
    wordmask(*arguments)
    (tmp_path / "out" / "b.png").unlink()
    status, out, err = wordmask(*arguments)
    assert status == 0
    assert out == f"{tmp_path / 'out' / 'b.png'}\n"
    assert "skipped: 2 that were done\n" in err
    status, out, err = wordmask(*arguments)
    assert (status, out) == (0, "")
    assert "skipped: 3 that were done\n" in err


@pytest.mark.parametrize("format", ["png", "json"])
def test_masks_of_other_names_are_not_done(wordmask, photo, tmp_path, format):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(photo.read_bytes())
    first = ("segment", folder, "--names", "x,y", "--fill", "-o", out, "--format", format)
    wordmask(*first)
    (out / f"b.{format}").write_bytes(b"damaged")
    assert "skipped: 1 that were done; 1 had masks of other names" in wordmask(*first, "--skip-done")[2]
    assert Segmentation.load(out / f"b.{format}").names == ["x", "y"]
    status, _, err = wordmask(
        "segment", folder, "--names", "x,z", "--fill", "-o", out, "--format", format, "--skip-done"
    )
    assert status == 0
    assert "skipped: 0 that were done; 2 had masks of other names" in err
    assert Segmentation.load(out / f"a.{format}").names == ["x", "z"]


def test_an_unforeseen_error_is_one_line_too(wordmask, photo, tmp_path, monkeypatch):
    def broken(**options):
        raise RuntimeError("the moon\nis down")

    monkeypatch.setattr(segmenters, "load", broken)
    status, _, err = wordmask("segment", photo, "--names", "a,b", "--fill", "-o", tmp_path)
    assert status == 1
    assert err == "wordmask: unexpected RuntimeError: the moon is down; --debug shows where, for a report\n"


def test_a_reader_who_had_enough_is_no_error():
    code = "from wordmask.cli import main; import sys; sys.argv = ['wordmask', 'models']; main()"
    command = f'{sys.executable} -c "{code}" | head -1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == "clip\n"
    assert done.stderr == ""


def test_debug_lets_the_traceback_through(wordmask, photo, tmp_path):
    status, _, err = wordmask(
        "segment", photo, "--names", "a,b", "--fill", "-o", tmp_path, "--max-pixels", 5, "--debug"
    )
    assert status == 1
    assert "Traceback" in err


def test_models_lists_what_is_published_and_what_is_here(wordmask):
    status, out, _ = wordmask("models", "--json")
    rows = json.loads(out)
    assert status == 0
    assert {"name", "kind", "source", "licence", "bytes", "local"} == set(rows[0])
    assert all(row["local"] is None for row in rows)
    status, out, _ = wordmask("models", "--kind", "clip")
    assert "laion2b_s34b_b88k" in out
    assert "dino" not in out


def test_without_weights_and_without_a_network_the_error_says_what_to_do(monkeypatch, capsys, photo, tmp_path):
    arguments = ["segment", str(photo), "--names", "a,b", "--fill", "--method", "maskclip", "-o", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["wordmask", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    err = capsys.readouterr().err
    assert stop.value.code == 1
    assert "WORDMASK_OFFLINE" in err
    assert "ViT-B-16" in err
    assert len(err.strip().splitlines()) == 1


def test_importing_wordmask_costs_nothing():
    code = "import sys, wordmask; print(wordmask.__version__, 'torch' in sys.modules, 'numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split()[1:] == ["False", "False"]


HEAVY = ("torch", "numpy", "scipy", "PIL", "pyarrow", "wordmask_world.drawing")


@pytest.mark.parametrize("arguments", [[], *([verb] for verb in VERBS), ["world"], ["world", "train-clip"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; from wordmask.cli import main\n"
        f"sys.argv = ['wordmask', *{arguments!r}, '--help']\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: wordmask" in done.stdout
    assert ast.literal_eval(done.stderr) == []


def test_the_list_of_verbs_imports_none_of_them():
    code = (
        "import sys; from wordmask.cli import main\n"
        "sys.argv = ['wordmask', '--help']\n"
        "try: main()\n"
        "finally: print(*(name for name in sys.modules if name.startswith('wordmask')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    of_the_list = {"wordmask.cli", "wordmask.cli.verbs"}
    assert {name for name in done.stderr.split() if ".cli" in name} == of_the_list


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(wordmask, verb):
    status, out, _ = wordmask(verb, "--help")
    assert status == 0
    assert f"wordmask {verb}" in out.split("Example:")[1]


def test_the_list_of_verbs_says_what_their_own_help_begins_with():
    for word, verb in all_verbs().items():
        assert " ".join(built(word, verb).help.split("\n\n")[0].split()) == verb.about


TAKE_NAMES = {"segment", "label", "distill", "search", "tables", "export"}


def test_names_are_given_in_one_way():
    found = {word: option.help for word in VERBS for option in options_of(word) if "--names" in option.opts}
    assert set(found) == TAKE_NAMES
    assert len(set(found.values())) == 1


def options_of(word):
    return built(word, VERBS[word]).params


@pytest.fixture
def plugin(monkeypatch):
    """Adds a plug-in with these verbs."""

    def add(**verbs_of_it):
        monkeypatch.setattr("wordmask.cli.verbs.installed", lambda: (Plugin(verbs=verbs_of_it),))

    return add


def greet(who: str) -> None:
    """Greet somebody."""
    print(f"hello {who}")


def test_a_plugin_s_verb_is_one_of_ours(command, plugin):
    plugin(greet=Verb("test_cli:greet", "Greet somebody.", resumes=True))
    assert command("greet", "you")[:2] == (0, "hello you\n")
    assert "Greet somebody." in command("--help")[1]
    assert cli._how_to_go_on(["greet", "you"]) == "stopped; the same command goes on from here"


def test_a_plugin_s_verb_is_imported_when_it_is_called(command, plugin):
    plugin(broken=Verb("no_such_module:verb", "Fail."))
    assert "broken" in command("--help")[1]
    status, _, err = command("broken")
    assert status == 1
    assert "no_such_module" in err


def test_a_plugin_takes_no_verb_away(plugin):
    plugin(segment=Verb("test_cli:greet", "Greet somebody."))
    with pytest.warns(UserWarning, match="a second verb segment"):
        assert all_verbs() == VERBS


def test_methods_are_listed(wordmask):
    status, out, _ = wordmask("methods")
    assert status == 0
    assert all(method.name in out for method in list_methods())
    rows = json.loads(wordmask("methods", "--json", "--kind", "saliency")[1])
    assert [row["name"] for row in rows] == [method.name for method in list_methods("saliency")]
    assert wordmask("methods", "--kind", "fish")[0] == 2


def test_the_python_interface_is_what_the_documentation_says(photo, tmp_path):
    import wordmask as package

    assert callable(package.load)
    assert package.Segmentation is Segmentation
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
        _ = package.segmnt
    assert torch.is_inference_mode_enabled() is False


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["segment", "a.jpg"], "stopped; --skip-done goes on where `segment` was"),
        (["label", "segment"], "stopped; the same command goes on from here"),
        (["world", "train-clip"], "stopped; the same command goes on from here"),
        (["world", "show"], "stopped"),
        (["models"], "stopped"),
        ([], "stopped"),
    ],
)
def test_who_stops_a_verb_hears_how_to_go_on(arguments: list[str], hint: str) -> None:
    assert cli._how_to_go_on(arguments) == hint
