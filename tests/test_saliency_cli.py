"""`wordmask saliency`, `train-found`, `train-selfmask`: files, streams, exit statuses, and runs that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from support import plain_saliency
from wordmask import saliency
from wordmask.encoders.timm_building import build_dino
from wordmask.saliency.found import Found, FoundSettings, SeedSaliency, SeedSettings, load_head
from wordmask.saliency.selfmask import load_network
from wordmask.training import found as found_training
from wordmask.training import selfmask as selfmask_training
from wordmask.training.clip_dinoiser import DinoiserTraining
from wordmask.training.found import FoundTraining
from wordmask.training.pictures import Drawn
from wordmask.training.plans import plan, presets_to_train_by
from wordmask.training.selfmask import SelfMaskTraining
from wordmask.weights.loading import write_state_dict
from wordmask_world import draw_scene
from wordmask_world.files.training_file import write_array


@pytest.fixture
def wordmask(monkeypatch, command):
    """Runs the command in this process, with a tiny DINO for all others: (exit status, stdout, stderr)."""
    for module in (found_training, selfmask_training):
        monkeypatch.setattr(module, "dino_at", lambda *_: plain_saliency.tiny_dino())

    def load(method="found", refine="none", weights=None, **_):
        encoder = plain_saliency.tiny_dino()
        if method == "found":
            return Found(encoder, load_head(weights), FoundSettings(refine=refine))
        return SeedSaliency(encoder, SeedSettings(refine=refine))

    monkeypatch.setattr(saliency, "load", load)

    return command


@pytest.fixture
def folder(tmp_path):
    return draw(tmp_path / "photos", [(40, 48 + number) for number in range(3)])


def draw(folder, sizes):
    folder.mkdir()
    for number, size in enumerate(sizes):
        Image.fromarray(draw_scene(number, size, kind="single").image).save(folder / f"{number}.png")
    return folder


SEED = ("--method", "seed")
TINY = ("--device", "cpu", "--set", "crop=40", "--set", "batch=2")


def test_a_picture_gives_its_map_and_an_overlay(wordmask, folder, tmp_path):
    status, out, err = wordmask("saliency", folder / "0.png", *SEED, "--out", tmp_path / "maps")
    assert (status, err, out) == (0, "", f"{tmp_path / 'maps' / '0.png'}\n")
    written = Image.open(tmp_path / "maps" / "0.png")
    assert (written.mode, written.size) == ("L", (48, 40))
    assert (tmp_path / "maps" / "0.overlay.jpg").exists()
    expected = SeedSaliency(plain_saliency.tiny_dino()).look(folder / "0.png")
    assert np.array_equal(np.asarray(written), np.rint(expected.soft * 255))
    _, out, _ = wordmask("saliency", folder / "0.png", *SEED, "-o", tmp_path / "m", "--json", "--no-overlay")
    assert json.loads(out)["overlay"] is None
    assert [path.name for path in (tmp_path / "m").glob("[!.]*")] == ["0.png"]


def test_json_lines_say_what_was_found_and_where_it_lies(wordmask, folder, tmp_path):
    status, out, _ = wordmask("saliency", folder, *SEED, "-o", tmp_path / "maps", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (status, [Path(row["image"]).name for row in rows]) == (0, ["0.png", "1.png", "2.png"])
    for row in rows:
        levels = np.asarray(Image.open(row["out"]))
        assert (list(levels.shape), np.count_nonzero(levels > 127)) == (row["size"], row["foreground"])
        assert Path(row["overlay"]).exists()


def test_a_stopped_run_goes_on_with_the_maps_that_are_missing(wordmask, folder, tmp_path):
    command = ("saliency", folder, *SEED, "-o", tmp_path / "maps", "--skip-done")
    wordmask(*command)
    (tmp_path / "maps" / "1.png").unlink()
    assert wordmask(*command)[:2] == (0, f"{tmp_path / 'maps' / '1.png'}\n")


def test_one_bad_picture_does_not_cost_the_others_their_maps(wordmask, folder, tmp_path):
    (folder / "1.png").write_bytes(b"no picture")
    status, out, err = wordmask("saliency", folder, *SEED, "-o", tmp_path / "maps")
    assert (status, len(out.splitlines())) == (1, 2)
    assert "left out" in err
    assert "1 of 3 could not be done" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nothing.jpg"], 1, "there is no nothing.jpg"),
        (["{folder}", "--out", "maps.json"], 1, "maps are written as .png"),
        (["{folder}", "--out", "map.png"], 1, "is one file"),
        (["{folder}", "--set", "refine=solver"], 2, "option of its own: --refine"),
        (["{empty}"], 1, "no pictures found"),
    ],
)
def test_mistakes_are_explained_in_a_line(wordmask, folder, tmp_path, monkeypatch, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    filled = [argument.format(folder=folder, empty=tmp_path / "empty") for argument in arguments]
    told, _, err = wordmask("saliency", *filled, "--method", "seed")
    assert told == status
    assert message in " ".join(err.replace("│", " ").split())


def test_the_head_that_is_trained_is_the_head_that_is_used(wordmask, folder, tmp_path):
    head = tmp_path / "run" / "found.safetensors"
    status, out, err = wordmask("train-found", "--images", folder, "--out", head.parent, *TINY, "--set", "steps=2")
    assert (status, out) == (0, f"{head}\n"), err
    assert f"--method found --preset paper --weights {head}" in err
    status, _, err = wordmask("saliency", folder, "--weights", head, "-o", tmp_path / "maps")
    assert status == 0, err


def test_selfmask_is_trained_from_a_folder(wordmask, folder, tmp_path):
    few = ("--set", "epochs=1", "--set", "layers=1", "--workers", 1, "--json")
    status, out, err = wordmask("train-selfmask", "--images", folder, "--out", tmp_path / "run", *TINY, *few)
    assert status == 0, err
    told = json.loads(out)
    assert told == {"method": "selfmask", "preset": "paper", "weights": str(tmp_path / "run" / "selfmask.safetensors")}
    assert load_network(told["weights"]).shape.layers == 1


def test_the_world_s_pictures_are_a_source_from_a_file_and_drawn_for_the_run(wordmask, tmp_path, monkeypatch):
    pictures = write_array(tmp_path / "pictures.npy", 3, size=40)
    few = Drawn(3, partial(write_array, count=3))
    monkeypatch.setattr("wordmask_world.recipes.SALIENCY_PICTURES", few)
    for name, source in (("file", ("--images", pictures)), ("drawn", ("--preset", "world"))):
        status, _, err = wordmask("train-found", *source, "--out", tmp_path / name, *TINY, "--set", "steps=1")
        assert status == 0, err
    assert np.load(tmp_path / "drawn" / "pictures.npy").shape == (3, 128, 128, 3)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 1, "--images is missing"),
        (["--images", "{folder}", "--preset", "mine"], 1, "no preset 'mine' to train by"),
        (["--images", "{folder}", "--set", "speed=3"], 1, "no setting 'speed'"),
        (["--images", "{folder}", "--set", "batch=0"], 1, "batch=0 cannot be used"),
        (["--images", "{folder}", "--set", "dino=world"], 2, "option of its own: --dino"),
        (["--images", "nowhere"], 1, "nowhere: there is no such folder"),
    ],
)
def test_mistakes_of_a_training_are_explained_in_a_line(
    wordmask, folder, tmp_path, monkeypatch, arguments, status, message
):
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(folder=folder) for argument in arguments]
    told, out, err = wordmask("train-found", "--out", "run", *filled)
    assert (told, out) == (status, "")
    assert message in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize("recipe", [FoundTraining, SelfMaskTraining, DinoiserTraining])
def test_every_plan_fits_its_recipe_and_the_papers_is_its_defaults(recipe, tmp_path):
    presets = presets_to_train_by(recipe)
    assert list(presets) == ["paper", "world"]
    for preset, settings in presets.items():
        made = plan(recipe, preset, pictures=tmp_path, out=tmp_path, changes={"seed": 3})
        assert {name: getattr(made, name) for name in settings} | {"seed": made.seed} == {**settings, "seed": 3}
    if recipe is not DinoiserTraining:
        made = plan(recipe, "paper", pictures=tmp_path, out=tmp_path, changes={})
        assert made == recipe(pictures=tmp_path, out=tmp_path)


# Real kills: a process of its own, SIGKILL, and the same command again


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A DINO in a file, and pictures in a folder."""
    path = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    write_state_dict(path / "dino.safetensors", build_dino("deit_tiny_patch16_224").state_dict(), {})
    draw(path / "photos", 70 * [48])
    return path


def command_of(verb, published, out, settings, *more):
    dino = ["--dino", "deit_tiny_patch16_224", "--dino-weights", published / "dino.safetensors"]
    common = ["--images", published / "photos", "--out", out, "--device", "cpu"]
    options = [f"--set={each}" for each in ("crop=48", "save_every=2", "log_every=1", "threads=1", *settings)]
    start = "from wordmask.cli import main; main()"
    return [sys.executable, "-c", start, *map(str, [verb, *dino, *common, *options, *more])]


def run_to_the_end(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr


def killed_when(command, reached):
    """Start, wait until `reached` says so, SIGKILL; the processes that it had started end with it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 1800
    while not reached():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    _, alive = psutil.wait_procs(children, timeout=600)
    assert not alive


def steps_told(out):
    log = out / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.slow
def test_found_killed_for_real_ends_like_one_never_killed(published, tmp_path):
    whole, killed = (tmp_path / name / "found.safetensors" for name in ("whole", "killed"))
    settings = ("steps=24", "batch=4", "seed_steps=8")
    run_to_the_end(command_of("train-found", published, whole.parent, settings))
    command = command_of("train-found", published, killed.parent, settings)
    killed_when(command, lambda: steps_told(killed.parent) >= 7)
    assert not killed.exists()
    run_to_the_end(command)
    assert whole.read_bytes() == killed.read_bytes()


@pytest.mark.slow
def test_selfmask_killed_for_real_ends_like_one_never_killed(published, tmp_path):
    """Once while two processes vote, once while the network learns."""
    whole, killed = (tmp_path / name / "selfmask.safetensors" for name in ("whole", "killed"))
    settings = ("epochs=1", "batch=4", "layers=2", "queries=4")
    voters = ["--voters", "deit_tiny_patch16_224", "--voter-weights", published / "dino.safetensors", "--workers", 2]
    run_to_the_end(command_of("train-selfmask", published, whole.parent, settings, *voters))
    command = command_of("train-selfmask", published, killed.parent, settings, *voters)
    votes = killed.parent / "votes"
    killed_when(command, lambda: any(votes.glob("0*.json")))
    assert len(list(votes.glob("0*.json"))) < 3
    killed_when(command, lambda: steps_told(killed.parent) >= 5)
    assert not killed.exists()
    run_to_the_end(command)
    assert whole.read_bytes() == killed.read_bytes()
