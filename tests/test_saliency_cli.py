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
from wordmask.encoders.dino_building import build_dino
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
    path = tmp_path / "photos"
    path.mkdir()
    for number in range(3):
        Image.fromarray(draw_scene(number, (40, 48 + number), kind="single").image).save(path / f"{number}.png")
    return path


def test_a_picture_gives_its_map_and_an_overlay(wordmask, folder, tmp_path):
    status, out, err = wordmask("saliency", folder / "0.png", "--method", "seed", "--out", tmp_path / "maps")
    assert (status, err) == (0, "")
    assert out == f"{tmp_path / 'maps' / '0.png'}\n"
    written = Image.open(tmp_path / "maps" / "0.png")
    assert (written.mode, written.size) == ("L", (48, 40))
    assert (tmp_path / "maps" / "0.overlay.jpg").exists()
    expected = SeedSaliency(plain_saliency.tiny_dino()).look(folder / "0.png")
    assert np.array_equal(np.asarray(written), np.rint(expected.soft * 255))


def test_json_lines_say_what_was_found_and_where_it_lies(wordmask, folder, tmp_path):
    status, out, _ = wordmask("saliency", folder, "--method", "seed", "-o", tmp_path / "maps", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [Path(row["image"]).name for row in rows] == ["0.png", "1.png", "2.png"]
    for row in rows:
        levels = np.asarray(Image.open(row["out"]))
        assert list(levels.shape) == row["size"]
        assert row["foreground"] == np.count_nonzero(levels > 127)
        assert Path(row["overlay"]).exists()


def test_without_an_overlay_there_is_none(wordmask, folder, tmp_path):
    _, out, _ = wordmask(
        "saliency", folder / "0.png", "--method", "seed", "-o", tmp_path / "m", "--json", "--no-overlay"
    )
    assert json.loads(out)["overlay"] is None
    assert [path.name for path in (tmp_path / "m").glob("[!.]*")] == ["0.png"]


def test_a_stopped_run_goes_on_with_the_maps_that_are_missing(wordmask, folder, tmp_path):
    command = ("saliency", folder, "--method", "seed", "-o", tmp_path / "maps", "--skip-done")
    wordmask(*command)
    (tmp_path / "maps" / "1.png").unlink()
    status, out, _ = wordmask(*command)
    assert (status, out) == (0, f"{tmp_path / 'maps' / '1.png'}\n")


def test_one_bad_picture_does_not_cost_the_others_their_maps(wordmask, folder, tmp_path):
    (folder / "1.png").write_bytes(b"no picture")
    status, out, err = wordmask("saliency", folder, "--method", "seed", "-o", tmp_path / "maps")
    assert status == 1
    assert len(out.splitlines()) == 2
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
    options = ["--set", "crop=40", "--set", "steps=2", "--set", "batch=2", "--device", "cpu"]
    status, out, err = wordmask("train-found", "--images", folder, "--out", tmp_path / "run", *options)
    assert status == 0, err
    assert out == f"{tmp_path / 'run' / 'found.safetensors'}\n"
    assert f"--method found --preset paper --weights {tmp_path / 'run' / 'found.safetensors'}" in err
    status, _, err = wordmask("saliency", folder, "--weights", out.strip(), "-o", tmp_path / "maps")
    assert status == 0, err


def test_selfmask_is_trained_from_a_folder(wordmask, folder, tmp_path):
    options = ["--set", "crop=40", "--set", "epochs=1", "--set", "batch=2", "--set", "layers=1", "--device", "cpu"]
    status, out, err = wordmask(
        "train-selfmask", "--images", folder, "--out", tmp_path / "run", *options, "--workers", 1, "--json"
    )
    assert status == 0, err
    told = json.loads(out)
    assert told == {"method": "selfmask", "preset": "paper", "weights": str(tmp_path / "run" / "selfmask.safetensors")}
    assert load_network(told["weights"]).shape.layers == 1


def test_a_training_file_of_the_world_is_a_source_too(wordmask, tmp_path):
    pictures = write_array(tmp_path / "pictures.npy", 3, size=40)
    options = ["--set", "crop=40", "--set", "steps=1", "--set", "batch=2", "--device", "cpu"]
    status, _, err = wordmask("train-found", "--images", pictures, "--out", tmp_path / "run", *options)
    assert status == 0, err


def test_the_world_draws_its_own_pictures(wordmask, tmp_path, monkeypatch):
    few = Drawn(3, partial(write_array, count=3))
    monkeypatch.setattr("wordmask_world.recipes.SALIENCY_PICTURES", few)
    options = ["--set", "crop=40", "--set", "steps=1", "--set", "batch=2", "--device", "cpu"]
    status, _, err = wordmask("train-found", "--preset", "world", "--out", tmp_path / "run", *options)
    assert status == 0, err
    assert np.load(tmp_path / "run" / "pictures.npy").shape == (3, 128, 128, 3)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--out", "run"], 1, "--images is missing"),
        (["--images", "{folder}", "--out", "run", "--preset", "mine"], 1, "no preset 'mine' to train by"),
        (["--images", "{folder}", "--out", "run", "--set", "speed=3"], 1, "no setting 'speed'"),
        (["--images", "{folder}", "--out", "run", "--set", "batch=0"], 1, "batch=0 cannot be used"),
        (["--images", "{folder}", "--out", "run", "--set", "dino=world"], 2, "option of its own: --dino"),
        (["--images", "nowhere", "--out", "run"], 1, "nowhere: there is no such folder"),
    ],
)
def test_mistakes_of_a_training_are_explained_in_a_line(
    wordmask, folder, tmp_path, monkeypatch, arguments, status, message
):
    monkeypatch.chdir(tmp_path)
    told, out, err = wordmask("train-found", *[argument.format(folder=folder) for argument in arguments])
    assert (told, out) == (status, "")
    assert message in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize("recipe", [FoundTraining, SelfMaskTraining, DinoiserTraining])
def test_every_plan_fits_its_recipe(recipe, tmp_path):
    presets = presets_to_train_by(recipe)
    assert list(presets) == ["paper", "world"]
    for preset, settings in presets.items():
        made = plan(recipe, preset, pictures=tmp_path, out=tmp_path, changes={"seed": 3})
        assert made.seed == 3
        for name, value in settings.items():
            assert getattr(made, name) == value


def test_the_papers_plan_is_the_papers_defaults(tmp_path):
    for recipe in (FoundTraining, SelfMaskTraining):
        made = plan(recipe, "paper", pictures=tmp_path, out=tmp_path, changes={})
        assert made == recipe(pictures=tmp_path, out=tmp_path)


# Real kills: a process of its own, SIGKILL, and the same command again


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A DINO in a file, and pictures in a folder."""
    path = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    write_state_dict(path / "dino.safetensors", build_dino("deit_tiny_patch16_224").state_dict(), {})
    (path / "photos").mkdir()
    for number in range(70):
        Image.fromarray(draw_scene(number, 48, kind="single").image).save(path / "photos" / f"{number:02}.png")
    return path


def command_of(verb, published, out, *more):
    dino = ["--dino", "deit_tiny_patch16_224", "--dino-weights", published / "dino.safetensors"]
    common = ["--images", published / "photos", "--out", out, "--device", "cpu", "--set", "crop=48"]
    options = ["--set", "save_every=2", "--set", "log_every=1", "--set", "threads=1"]
    return [
        sys.executable,
        "-c",
        "from wordmask.cli import main; main()",
        *map(str, [verb, *dino, *common, *options, *more]),
    ]


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
    more = ["--set", "steps=24", "--set", "batch=4", "--set", "seed_steps=8"]
    run_to_the_end(command_of("train-found", published, tmp_path / "whole", *more))
    command = command_of("train-found", published, tmp_path / "killed", *more)
    killed_when(command, lambda: steps_told(tmp_path / "killed") >= 7)
    assert not (tmp_path / "killed" / "found.safetensors").exists()
    run_to_the_end(command)
    whole, killed = (tmp_path / name / "found.safetensors" for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()


@pytest.mark.slow
def test_selfmask_killed_for_real_ends_like_one_never_killed(published, tmp_path):
    """Once while two processes vote, once while the network learns."""
    voters = ["--voters", "deit_tiny_patch16_224", "--voter-weights", published / "dino.safetensors", "--workers", 2]
    more = [*voters, "--set", "epochs=1", "--set", "batch=4", "--set", "layers=2", "--set", "queries=4"]
    run_to_the_end(command_of("train-selfmask", published, tmp_path / "whole", *more))
    command = command_of("train-selfmask", published, tmp_path / "killed", *more)
    votes = tmp_path / "killed" / "votes"
    killed_when(command, lambda: any(votes.glob("0*.json")))
    assert len(list(votes.glob("0*.json"))) < 3
    killed_when(command, lambda: steps_told(tmp_path / "killed") >= 5)
    assert not (tmp_path / "killed" / "selfmask.safetensors").exists()
    run_to_the_end(command)
    whole, killed = (tmp_path / name / "selfmask.safetensors" for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()
