"""The command line: results on stdout, complaints on stderr, exit 0, 1 or 2, never a traceback unasked."""

import ast
import errno
import json
import os
import shlex
import subprocess
import sys

import pytest
import torch
from PIL import Image

import wordmask as package
from support.script import run_script
from wordmask import cli, segmenters
from wordmask.cli import verbs
from wordmask.cli.verbs import VERBS, all_verbs, built
from wordmask.masks.segmentation import Segmentation
from wordmask.methods import list_methods
from wordmask.plugins import Plugin, Verb


@pytest.fixture
def segment(wordmask):
    """Segments for two names: (exit status, stdout, stderr)."""
    return lambda *arguments: wordmask("segment", *arguments, "--names", "a,b", "--fill")


def copies(photo, folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(photo.read_bytes())
    return folder


def test_one_picture_gives_masks_and_an_overlay(wordmask, photo, tmp_path):
    status, out, err = wordmask("segment", photo, "--names", "dog, grass, background", "--out", tmp_path / "masks")
    assert (status, err) == (0, "")
    assert out == f"{tmp_path / 'masks' / 'photo.png'}\n"
    result = Segmentation.load(tmp_path / "masks" / "photo.png")
    assert result.names == ["dog", "grass", "background"]
    assert result.size == (40, 60)
    assert (tmp_path / "masks" / "photo.overlay.jpg").exists()


def test_json_is_one_object_a_picture(segment, photo, tmp_path):
    status, out, _ = segment(photo, "-o", tmp_path / "out.json", "--json", "--no-overlay")
    row = json.loads(out)
    assert (status, row["image"], row["names"]) == (0, str(photo), ["a", "b"])
    assert sum(row["pixels"].values()) == 40 * 60
    assert row["out"] == str(tmp_path / "out.json")
    assert not (tmp_path / "out.overlay.jpg").exists()


@pytest.mark.parametrize(
    ("pictures", "results"),
    [
        (["a.jpg", "a.png", "Été/b.jpg"], ["a.jpg.png", "a.png.png", "Été/b.png"]),
        (["a.JPG", "a.PNG"], None),
        (["a.jpg", "a.png", "a.png.jpg"], None),
        (["a.jpg", "a.jpg.png", "a.png", "a.png.jpg"], None),
    ],
)
def test_folders_keep_their_shape_and_namesakes_keep_apart(segment, photo, tmp_path, pictures, results):
    folder, out = tmp_path / "in", tmp_path / "out"
    for picture in pictures:
        copies(photo, (folder / picture).parent, picture.rpartition("/")[2])
    (folder / "notes.txt").write_text("not a picture")
    status, said, _ = segment(folder, "-o", out, "--no-overlay")
    written = sorted(str(path.relative_to(out)) for path in out.rglob("[!.]*.png"))
    assert (status, sorted(said.splitlines())) == (0, [str(out / path) for path in written])
    assert len(written) == len(pictures)
    assert results is None or written == results


def test_folders_with_pictures_of_one_name_keep_apart(segment, photo, tmp_path):
    status, out, _ = segment(*(copies(photo, tmp_path / name, "x.jpg") for name in "AB"), "-o", tmp_path / "out")
    assert (status, out.split()) == (0, [str(tmp_path / "out" / name / "x.png") for name in "AB"])


def test_no_picture_is_ever_written_over(segment, photo, tmp_path, monkeypatch):
    drawing = tmp_path / "drawing.png"
    Image.open(photo).save(drawing)
    before = drawing.read_bytes()
    monkeypatch.chdir(tmp_path)
    for arguments in (["drawing.png", "-o", "."], ["drawing.png", "-o", "drawing.png"], [".", "-o", "."]):
        status, _, err = segment(*arguments)
        assert (status, "choose another" in err) == (1, True)
    assert drawing.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawing.png", "photo.jpg"]


def test_a_place_that_may_not_be_written_is_named_with_the_way_out(wordmask, tmp_path, monkeypatch):
    out, real = tmp_path / "out", os.mkdir

    def refuse(path, *rest, **options):  # no permission stops an administrator
        if os.fspath(path) == str(out):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        real(path, *rest, **options)

    monkeypatch.setattr(os, "mkdir", refuse)
    status, _, err = wordmask("world", "make", "--count", "1", "--out", out)
    told = f"{out}: read-only file system; choose another place, or change its rights"
    assert (status, err) == (1, f"wordmask: error: {told}\n")


def test_results_are_never_taken_for_pictures(segment, photo, monkeypatch):
    monkeypatch.chdir(photo.parent)
    for _ in range(2):
        assert segment(".")[:2] == (0, "masks/photo.png\n")


def test_ctrl_c_says_so(photo, tmp_path):
    code = (
        "import sys, signal, os, wordmask.segmenters\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "def load(**options): os.kill(os.getpid(), signal.SIGINT)\n"
        "wordmask.segmenters.load = load\n"
        "from wordmask.cli import main; main()"
    )
    done = run_script(code, "segment", photo, "--names", "a,b", "--fill", "-o", tmp_path)
    assert done.returncode == 130
    assert done.stderr == "wordmask: stopped; --skip-done goes on where `segment` was\n"


def test_a_name_that_is_no_utf_8_is_no_obstacle(segment, photo, tmp_path):
    odd = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.jpg")
    photo.rename(odd)
    for form in ("png", "json"):
        status, out, err = segment(odd, "-o", tmp_path / "out", "--format", form, "--json")
        assert (status, err, json.loads(out)["image"]) == (0, "", odd)


def test_one_bad_picture_does_not_stop_the_rest(segment, photo, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(photo.read_bytes()[:200])
    status, out, err = segment(bad, photo, "-o", tmp_path / "out")
    assert (status, out) == (1, f"{tmp_path / 'out' / 'photo.png'}\n")
    assert f"left out: {bad}: " in err
    assert "1 of 2 could not be segmented" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("segment {photo}", 2, "--names"),
        ("segment {photo} --names dog --fill --names-file x", 2, "--names-file is how"),
        ("segment {photo} --names none.txt", 1, "none.txt"),
        ("segment {photo} --names dog,dog --fill", 1, "'dog' is there twice"),
        ("segment {photo} --names a,b --fill --format bmp", 2, "--format is png or json"),
        ("segment {photo} {photo} --names a,b --fill -o {tmp}/x.png", 1, "is one file"),
        ("segment {tmp}/none.jpg --names a,b --fill", 1, "there is no"),
        ("segment {tmp} --names a,b --fill --set window", 2, "KEY=VALUE"),
        (
            "segment {photo} --names a,b --fill --set stride=3 --set top=1 --set stride=4",
            2,
            "stride=... is given twice",
        ),
        ("distill --set archive.size=3 --set archive.size=3", 2, "archive.size=... is given twice"),
        ("tables ablations --set archive.size=3 --set archive.size=4", 2, "archive.size=... is given twice"),
        ("search dog --collection {tmp} --filter unsafe=true --filter unsafe=false", 2, "unsafe=... is given twice"),
        ("tables world --weights found=a --weights found=b", 2, "found=... is given twice"),
        ("segment", 2, "give pictures, a folder, a pattern"),
        ("segment '' --names a,b --fill", 2, "empty picture argument"),
        ("segment {photo} --names a,b --fill --set preset=x", 2, "an option of its own"),
        ("segment {photo} --names a,b --fill -o {tmp}/x.png --format json", 2, "disagree"),
        ("segment {photo} --names a,b --fill -o {photo}", 1, "is a file that is there already"),
        ("segment {photo} --names a,b --fill -o {tmp}/x.tiff", 1, "one file is .png or .json"),
        ("segment {tmp} --names a,b --fill -o {tmp}", 1, "the folder of the pictures themselves"),
        ("segment {tmp} --names a,b --fill -o {tmp}/..", 1, "holds the folder of the pictures"),
        ("segment {photo} {tmp}/other/photo.jpg --names a,b --fill -o {tmp}/out", 1, "would both be written to"),
        ("label {photo} --names a", 1, "is one picture: give its folder"),
        ("label {tmp}/nowhere --names a", 1, "nowhere: give a folder"),
        ("search dog --collection {tmp}/nowhere", 1, "nowhere: give a folder"),
        ("fly", 2, "fly"),
        ("models --kind fish", 1, "the kinds are"),
        ("models --fetch clip-dinoizer", 1, "did you mean"),
        ("methods --kind fish", 2, "fish"),
    ],
)
def test_mistakes_are_explained_in_a_line(wordmask, photo, tmp_path, monkeypatch, line, status, message):
    monkeypatch.chdir(tmp_path)
    copies(photo, tmp_path / "other", "photo.jpg")
    before = sorted(tmp_path.rglob("*"))
    got, _, err = wordmask(*shlex.split(line.format(photo=photo, tmp=tmp_path)))
    assert got == status
    assert message in err
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


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
    assert (status, "./dog" in err, "Traceback" in err) == (2, True, False)
    status, out, _ = wordmask("segment", photo, "--names", "dog,", "--fill", "--json")
    assert (status, json.loads(out)["names"]) == (0, ["dog"])
    (tmp_path / "dog").unlink()
    (tmp_path / "dog").mkdir()
    assert wordmask("segment", photo, "--names", "dog", "--fill")[0] == 0


def test_a_stopped_run_goes_on_with_what_is_missing(segment, photo, tmp_path):
    arguments = (copies(photo, tmp_path / "in", "a.jpg", "b.jpg", "c.jpg"), "-o", tmp_path / "out", "--skip-done")
    segment(*arguments)
    (tmp_path / "out" / "b.png").unlink()
    for done, made in ((2, f"{tmp_path / 'out' / 'b.png'}\n"), (3, "")):
        status, out, err = segment(*arguments)
        assert (status, out) == (0, made)
        assert f"skipped: {done} done before\n" in err


@pytest.mark.parametrize("format", ["png", "json"])
def test_masks_of_other_names_are_not_done(wordmask, photo, tmp_path, format):
    out = tmp_path / "out"
    rest = (copies(photo, tmp_path / "in", "a.jpg", "b.jpg"), "--fill", "-o", out, "--format", format)
    wordmask("segment", "--names", "x,y", *rest)
    (out / f"b.{format}").write_bytes(b"damaged")
    for names, done, others in (("x,y", 1, 1), ("x,z", 0, 2)):
        status, _, err = wordmask("segment", "--names", names, *rest, "--skip-done")
        assert status == 0
        assert f"skipped: {done} done before; done anew: {others} with masks of other names" in err
        assert Segmentation.load(out / f"b.{format}").names == names.split(",")


def test_an_unforeseen_error_is_one_line_too(segment, photo, tmp_path, monkeypatch):
    def broken(**options):
        raise RuntimeError("the moon\nis down")

    monkeypatch.setattr(segmenters, "load", broken)
    status, _, err = segment(photo, "-o", tmp_path)
    assert status == 1
    assert err == "wordmask: unexpected RuntimeError: the moon is down; --debug shows where, for a report\n"


def test_a_reader_who_had_enough_is_no_error():
    code = "from wordmask.cli import main; import sys; sys.argv = ['wordmask', 'models']; main()"
    command = f'{sys.executable} -c "{code}" | head -1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("clip\n", "")


def test_debug_lets_the_traceback_through(segment, photo, tmp_path):
    status, _, err = segment(photo, "-o", tmp_path, "--max-pixels", 5, "--debug")
    assert (status, "Traceback" in err) == (1, True)


def test_models_lists_what_is_published_and_what_is_here(wordmask):
    status, out, _ = wordmask("models", "--json")
    rows = json.loads(out)
    assert (status, set(rows[0])) == (0, {"name", "kind", "source", "licence", "bytes", "local"})
    assert all(row["local"] is None for row in rows)
    out = wordmask("models", "--kind", "clip")[1]
    assert ("laion2b_s34b_b88k" in out, "dino" in out) == (True, False)


def test_without_weights_and_without_a_network_the_error_says_what_to_do(command, photo, tmp_path):
    status, _, err = command("segment", photo, "--names", "a,b", "--fill", "--method", "maskclip", "-o", tmp_path)
    assert (status, len(err.strip().splitlines())) == (1, 1)
    assert "WORDMASK_OFFLINE" in err
    assert "ViT-B-16" in err


HEAVY = ("torch", "numpy", "scipy", "PIL", "pyarrow", "wordmask_world.drawing")


@pytest.mark.parametrize(
    "words", [(), *((verb,) for verb in VERBS), ("bank", "build"), ("demo",), ("world",), ("world", "train-clip")]
)
def test_help_imports_nothing_heavy_and_has_an_example(words):
    code = (
        "import sys; from wordmask.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in sys.modules if name in {HEAVY!r} or '.cli' in name], file=sys.stderr)"
    )
    done = run_script(code, *words, "--help")
    assert "Usage: wordmask" in done.stdout
    loaded = set(ast.literal_eval(done.stderr))
    assert not loaded & set(HEAVY)
    if not words:
        assert loaded == {"wordmask.cli", "wordmask.cli.verbs"}, "the list of verbs imports none of them"
    elif words[0] in VERBS:
        assert f"wordmask {words[0]}" in done.stdout.split("Example:")[1]


def test_help_names_what_runs_without_data_where_a_plug_in_brings_it(monkeypatch):
    def helps():
        return {word: built(word, VERBS[word]).epilog for word in ("evaluate", "serve", "segment")}

    told = helps()
    assert "`wordmask evaluate --benchmark world --preset world`" in told["evaluate"]
    assert "`wordmask serve --preset world`" in told["serve"]
    assert "--preset" not in told["segment"]
    monkeypatch.setattr(verbs, "installed", tuple)
    assert not any("--preset" in epilog for epilog in helps().values())


def test_the_list_of_verbs_says_what_their_own_help_begins_with():
    for word, verb in all_verbs().items():
        assert " ".join(built(word, verb).help.split("\n\n")[0].split()) == verb.about


def test_names_are_given_in_one_way():
    options = [(word, option) for word in VERBS for option in built(word, VERBS[word]).params]
    found = {word: option.help for word, option in options if "--names" in option.opts}
    assert set(found) == {"segment", "label", "distill", "search", "tables", "export"}
    assert len(set(found.values())) == 1


@pytest.fixture
def plugin(monkeypatch):
    """Adds a plug-in with these verbs."""
    return lambda **verbs: monkeypatch.setattr("wordmask.plugins.installed", lambda: (Plugin(verbs=verbs),))


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
    assert (status, "no_such_module" in err) == (1, True)


def test_a_plugin_takes_no_verb_away(plugin):
    plugin(segment=Verb("test_cli:greet", "Greet somebody."))
    with pytest.warns(UserWarning, match="'segment' among the verbs .* is wordmask's already"):
        assert all_verbs() == VERBS


def test_methods_are_listed(wordmask):
    status, out, _ = wordmask("methods")
    assert status == 0
    assert all(method.name in out for method in list_methods())
    rows = json.loads(wordmask("methods", "--json", "--kind", "saliency")[1])
    assert [row["name"] for row in rows] == [method.name for method in list_methods("saliency")]


def test_the_python_interface_is_what_the_documentation_says():
    assert callable(package.load)
    assert package.Segmentation is Segmentation
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
        _ = package.segmnt
    assert torch.is_inference_mode_enabled() is False


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("segment a.jpg", "stopped; --skip-done goes on where `segment` was"),
        ("label segment", "stopped; the same command goes on from here"),
        ("world train-clip", "stopped; the same command goes on from here"),
        *((line, "stopped") for line in ("world show", "models", "")),
    ],
)
def test_who_stops_a_verb_hears_how_to_go_on(line, hint):
    assert cli._how_to_go_on(line.split()) == hint


def test_the_package_runs_as_a_module():
    ended = subprocess.run([sys.executable, "-m", "wordmask", "--version"], capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stdout) == (0, f"wordmask {package.__version__}\n"), ended.stderr


@pytest.mark.parametrize(
    "verb", [("segment", "--names", "dog"), ("segment", "--names", "dog", "--compare"), ("saliency",)]
)
def test_a_folder_without_pictures_is_told_of_before_a_network_is_loaded(command, tmp_path, verb):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read me.txt").write_text("no picture")
    status, _, err = command(*verb, tmp_path / "notes", "-o", tmp_path / "out")  # the published weights are not here
    assert status == 1
    assert "no pictures found" in err
    assert not (tmp_path / "out").exists()
