"""CLIP-DINOiser's training: its losses against plain NumPy, its recipe, and runs that survive a kill."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support import plain_saliency
from support.killing import kill_when
from support.launcher import launched
from support.small_clip import small_clip
from support.tiny_dinoiser import settings, teachers
from wordmask.saliency.base import SaliencyError
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.clip_dinoiser import ClipDinoiser, ClipDinoiserSettings, load_heads
from wordmask.training import clip_dinoiser as clip_dinoiser_training
from wordmask.training.checkpoints import CheckpointError
from wordmask.training.clip_dinoiser import (
    HEADS_FILE,
    DinoiserObjective,
    DinoiserTraining,
    affinity_loss,
    jittered,
    objectness_loss,
    train_heads,
)
from wordmask.training.loop import crops_at
from wordmask.training.pictures import Pictures
from wordmask.training.plans import plan, presets_to_train_by
from wordmask_world import draw_scene

TOLERANCE = 1e-6
PARTS = ("weight", "bias")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        Image.fromarray(np.asarray(draw_scene(number, (48, 56)).image)).save(path / f"{number}.png")
    return path


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def log_of(out):
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def train(clip, folder, out, **changes):
    return train_heads(clip, teachers(), settings(folder, out, **changes), Pictures(folder))


def entropy(logit, target):
    p = 1 / (1 + np.exp(-logit))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def test_the_papers_recipe_is_the_default(tmp_path):
    recipe = DinoiserTraining(pictures=tmp_path, out=tmp_path)
    paper = {
        "clip": "ViT-B-16/laion2b_s34b_b88k", "dino": "vit_base_patch16_224.dino", "most_pictures": 1000, "crop": 448,
        "flip": 0.5, "jitter": 0.5, "batch": 16, "steps": 6000, "decay": 0.1, "decay_after": 5000,
        "learning_rate": 5e-5, "objectness_rate": 1e-2, "threshold": 0.2,
    }  # fmt: skip
    assert {name: getattr(recipe, name) for name in paper} == paper
    assert plan(DinoiserTraining, "paper", pictures=tmp_path, out=tmp_path, changes={}) == recipe
    world = plan(DinoiserTraining, "world", pictures=tmp_path, out=tmp_path, changes={})
    assert (world.clip, world.dino, world.found, world.crop) == ("world", "world", "world", 128)
    assert set(presets_to_train_by(DinoiserTraining)) == {"paper", "world"}


def test_the_affinity_s_loss_is_equation_3_with_negative_affinities_at_0():
    generator = np.random.default_rng(0)
    affinity, correlated = generator.uniform(-1, 1, (2, 6, 6)), generator.random((2, 6, 6)) > 0.5
    expected = np.mean([entropy(max(affinity[at], 0.0), float(correlated[at])) for at in np.ndindex(affinity.shape)])
    ours = affinity_loss(torch.from_numpy(affinity), torch.from_numpy(correlated))
    assert ours.item() == pytest.approx(expected, abs=TOLERANCE)


def test_the_objectness_s_loss_is_the_cross_entropy_to_found_s_mask():
    generator = np.random.default_rng(0)
    logits, masks = generator.normal(size=(2, 3, 4)), generator.random((2, 3, 4)) > 0.5
    expected = np.mean([entropy(logits[at], float(masks[at])) for at in np.ndindex(logits.shape)])
    ours = objectness_loss(torch.from_numpy(logits), torch.from_numpy(masks))
    assert ours.item() == pytest.approx(expected, abs=TOLERANCE)


def test_an_objective_s_losses_are_those_of_its_teachers(folder, tmp_path, clip):
    """From the pictures to the two numbers: targets and heads by their formulas, patch by patch."""
    chosen, teaching = settings(folder, tmp_path), teachers()
    torch.manual_seed(0)
    objective = DinoiserObjective(clip, teaching, chosen)
    crops = crops_at(0, Pictures(folder), chosen)
    images = jittered(crops.images, crops.places, chosen.seed, chosen.jitter).float() / 255
    dino, features = teaching.dino(images), clip.dense(images, ln_2=[-3]).ln_2[-3].double().numpy()
    values, keys = dino.value_maps().double().numpy(), dino.key_maps().double().numpy()
    heads = objective.heads
    g, bias = (heads.obj_proj.get_parameter(name).detach().double().numpy() for name in ("weight", "bias"))
    h, h_bias = (heads.bkg_decoder.get_parameter(name).detach().double().numpy() for name in ("weight", "bias"))
    found, found_bias = teaching.found.head.weight.double().numpy(), teaching.found.head.bias.item()
    affinity, objectness = [], []
    for b in range(len(images)):
        padded = np.pad(features[b], ((0, 0), (1, 1), (1, 1)), mode="edge")
        cells = list(np.ndindex(features.shape[2:]))
        guide = [np.tensordot(g, padded[:, i : i + 3, j : j + 3], axes=3) + bias for i, j in cells]
        for p, (i, j) in enumerate(cells):
            for q, (k, m) in enumerate(cells):
                told = values[b, :, i, j] @ values[b, :, k, m]
                told /= np.linalg.norm(values[b, :, i, j]) * np.linalg.norm(values[b, :, k, m])
                cosine = guide[p] @ guide[q] / np.linalg.norm(guide[p]) / np.linalg.norm(guide[q])
                affinity.append(entropy(max(cosine, 0.0), float(told > 0.2)))
            own = features[b, :, i, j] / np.linalg.norm(features[b, :, i, j])
            is_object = found[0, :, 0, 0] @ keys[b, :, i, j] + found_bias > 0
            objectness.append(entropy(h[0, :, 0, 0] @ own + h_bias[0], float(is_object)))
    parts = objective.losses(crops, 0)
    assert parts["affinity"].item() == pytest.approx(np.mean(affinity), abs=1e-5)
    assert parts["objectness"].item() == pytest.approx(np.mean(objectness), abs=1e-5)
    gradients = torch.autograd.grad(sum(parts.values()), list(objective.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_one_pass_of_dino_teaches_as_two_do(folder, tmp_path):
    images = torch.rand(2, 3, 32, 40)
    one, two = teachers(), teachers(shared=False)
    for shared, apart in zip(one(images, (4, 5), 0.2), two(images, (4, 5), 0.2), strict=True):
        assert torch.equal(shared, apart)
    halved = one.masks(images, (2, 2))  # FOUND's patches are finer than these
    assert halved.shape == (2, 2, 2)


def test_the_heads_learn_at_their_own_rates_and_later_at_a_tenth(folder, tmp_path, clip):
    objective = DinoiserObjective(clip, teachers(), settings(folder, tmp_path))
    rates = {f"heads.{head}.{part}": rate for head, rate in (("obj_proj", 1), ("bkg_decoder", 200)) for part in PARTS}
    assert {name: objective.pace(name) for name, _ in objective.named_parameters()} == pytest.approx(rates)
    train(clip, folder, tmp_path)
    assert [line["rate"] for line in log_of(tmp_path)] == pytest.approx([1, 1, 0.1, 0.1])


def test_a_few_steps_bring_the_heads_nearer_to_their_teachers(folder, tmp_path, clip):
    train(clip, folder, tmp_path, steps=40, decay_after=40, batch=6, learning_rate=1e-3, jitter=0, scale=None)
    told = log_of(tmp_path)
    for part in ("affinity", "objectness"):
        first, last = (np.mean([line[part] for line in lines]) for lines in (told[:5], told[-5:]))
        assert last < 0.97 * first


def test_colours_depend_on_a_crop_s_place_alone():
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    together = jittered(images, (4, 5, 6), 0, 0.5)
    assert torch.equal(jittered(images[1:], (5, 6), 0, 0.5), together[1:])
    assert not torch.equal(together, images)
    assert torch.equal(jittered(images, (4, 5, 6), 0, 0.0), images)


def test_the_written_file_segments(folder, tmp_path, clip):
    heads = train(clip, folder, tmp_path)
    loaded, black = load_heads(tmp_path / HEADS_FILE), np.zeros((40, 40, 3), np.uint8)
    for name, value in heads.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float()), name
    small = ClipDinoiserSettings(templates="photo", shorter_side=40, window=40, stride=20)
    assert np.isfinite(ClipDinoiser(clip, loaded, small).segment(black, ["dog", "background"]).scores).all()
    loaded.obj_proj.in_channels = 7  # of another CLIP
    with pytest.raises(SegmenterError, match="for features of 7 channels"):
        ClipDinoiser(small_clip(), loaded, small).look(black)


def test_a_killed_training_ends_like_one_never_killed(folder, tmp_path, clip, monkeypatch):
    whole = train(clip, folder, tmp_path / "whole")
    original, calls = DinoiserObjective.losses, []

    def losses(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(DinoiserObjective, "losses", losses)
    with pytest.raises(KeyboardInterrupt):
        train(clip, folder, tmp_path / "killed", save_every=1)
    resumed = train(clip, folder, tmp_path / "killed", save_every=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "killed")


def test_a_run_of_other_settings_or_teachers_is_not_gone_on_with(folder, tmp_path, clip):
    train(clip, folder, tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train(clip, folder, tmp_path, threshold=0.3)
    other = teachers()
    other.found.head.weight.data.add_(1)
    with pytest.raises(CheckpointError, match="other settings"):
        train_heads(clip, other, settings(folder, tmp_path), Pictures(folder))


def test_a_crop_must_be_whole_patches(folder, tmp_path, clip):
    with pytest.raises(SaliencyError, match="no multiple"):
        DinoiserObjective(clip, teachers(), settings(folder, tmp_path, crop=36))


@pytest.fixture
def wordmask(monkeypatch, command, clip):
    """Runs the command in this process, with tiny networks for all others: (exit status, stdout, stderr)."""
    monkeypatch.setattr(clip_dinoiser_training, "clip_at", lambda *_: clip)
    monkeypatch.setattr(clip_dinoiser_training, "dino_at", lambda *_: plain_saliency.tiny_dino())
    monkeypatch.setattr(clip_dinoiser_training.saliency, "load", lambda *_, **__: teachers().found)
    return command


def test_the_verb_writes_heads_and_says_how_to_use_them(wordmask, folder, tmp_path):
    small = ["--set", "crop=32", "--set", "batch=4", "--set", "steps=4", "--set", "decay_after=2"]
    arguments = ("--images", folder, "--out", tmp_path, "--device", "cpu", "--json", *small)
    status, out, err = wordmask("train-dinoiser", *arguments)
    assert status == 0, err
    told = json.loads(out)
    assert told == {"method": "clip-dinoiser", "preset": "paper", "weights": str(tmp_path / HEADS_FILE)}
    assert "--method clip-dinoiser" in err
    load_heads(told["weights"])


def test_wrong_wishes_are_explained_in_one_line(wordmask, folder, tmp_path):
    for arguments, said in [
        (("--images", folder, "--set", "stepps=3"), "no setting 'stepps'"),
        (("--images", folder, "--preset", "moon"), "choose one of paper, world"),
        ((), "--images is missing"),
    ]:
        status, _, err = wordmask("train-dinoiser", "--out", tmp_path, *arguments)
        assert (status, said in err, len(err.splitlines())) == (1, True, 1), err


TRAIN = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
import torch
from support.small_clip import small_clip
from support.tiny_dinoiser import settings, teachers
from wordmask.training.pictures import Pictures
from wordmask.training.clip_dinoiser import train_heads

torch.set_num_threads(1)
folder, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
chosen = settings(folder, out, steps=steps, decay_after=steps // 2, save_every=1)
train_heads(small_clip(), teachers(), chosen, Pictures(folder))
"""


def start(folder, out, steps, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(folder), str(out), str(steps)],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {name: str(value) for name, value in environment.items()},
    )


@pytest.mark.slow
def test_a_training_killed_by_sigkill_goes_on_and_ends_the_same(folder, tmp_path):
    killed, whole, log = tmp_path / "killed", tmp_path / "whole", tmp_path / "killed" / "log.jsonl"
    kill_when(start(folder, killed, 60), lambda: log.exists() and log.read_text().count("\n") >= 5)
    assert not (killed / HEADS_FILE).exists()
    for out in (killed, whole):
        assert start(folder, out, 60).wait() == 0
    assert (killed / HEADS_FILE).read_bytes() == (whole / HEADS_FILE).read_bytes()
    assert log_of(killed) == log_of(whole)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(folder, tmp_path):
    """As `accelerate launch` starts them: each takes half of every batch."""
    assert start(folder, tmp_path / "one", 6).wait() == 0
    both = [start(folder, tmp_path / "two", 6, **place) for place in launched(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    one, two = (load_heads(tmp_path / run / HEADS_FILE).state_dict() for run in ("one", "two"))
    for name, value in one.items():
        assert torch.allclose(two[name], value, atol=1e-5, rtol=2**-10), name  # written in half precision
    losses = [[line["loss"] for line in log_of(tmp_path / run)] for run in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
