"""The world's models as the package carries them."""

import json

import pytest
import torch

from support.tiny_world import CHANNELS, student_settings, teacher_settings
from support.tiny_world_dino import settings as dino_settings
from wordmask_world import WORLD_VERSION, models
from wordmask_world.files.training_file import write_array
from wordmask_world.models import WorldModelError, world_clip, world_dino, world_resnet, world_weights
from wordmask_world.training import figures
from wordmask_world.training.batches import Stage
from wordmask_world.training.clip import train_clip
from wordmask_world.training.clip_teacher import train_clip_teacher
from wordmask_world.training.dino import train_dino
from wordmask_world.training.ship import ship_clip, ship_dino

MOST_BYTES = 32_000_000


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    torch.set_num_threads(1)
    return write_array(tmp_path_factory.mktemp("pictures") / "train.npy", 8, size=32)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """An installation that carries nothing yet."""
    for name in ("NAMED_PICTURES", "SOUGHT_PICTURES", "MASKED_PICTURES"):
        monkeypatch.setattr(figures, name, 4)
    monkeypatch.setattr(models, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


def trained_dino(pictures, out, network):
    settings = dino_settings(
        pictures, out, network=network, blocks=2, save_every=1000, stages=(Stage(pictures=4, size=32, batch=4),)
    )
    return train_dino(settings), settings


def assert_close_to(loaded, trained):
    expected = trained.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-3, rtol=1e-3)


def test_a_trained_clip_comes_back_from_the_package(pictures, weights, tmp_path):
    train_clip_teacher(teacher_settings(pictures, tmp_path / "teacher"))
    settings = student_settings(pictures, tmp_path / "teacher", tmp_path / "student")
    student = train_clip(settings)
    ship_clip(student, settings, weights / "clip", command="make clip")
    clip, trained = world_clip(), student.encoder()
    assert_close_to(clip.model, student.clip)
    images, prompts = torch.rand(2, 3, 40, 56), ["a photo of a dog", "zyzzyva"]
    assert clip.dense(images).grid == (5, 7)
    torch.testing.assert_close(clip.encode_image(images), trained.encode_image(images), atol=0.01, rtol=0.1)
    torch.testing.assert_close(clip.encode_text(prompts), trained.encode_text(prompts), atol=0.01, rtol=0.1)
    origin = world_weights()["clip"]
    assert (origin["command"], origin["world_version"]) == ("make clip", str(WORLD_VERSION))
    assert str(tmp_path) not in json.dumps(origin)
    assert "naming" in json.loads(origin["figures"])


def test_a_trained_dino_comes_back_from_the_package(pictures, weights, tmp_path):
    model, settings = trained_dino(pictures, tmp_path / "run", "vit")
    ship_dino(model, settings, weights / "dino", command="make dino")
    dino = world_dino()
    assert_close_to(dino.model, model.teacher["backbone"])
    assert dino.statistics.mean == (0.485, 0.456, 0.406)
    assert dino(torch.rand(1, 3, 40, 56)).grid == (5, 7)


def test_a_trained_resnet_comes_back_from_the_package(pictures, weights, tmp_path):
    model, settings = trained_dino(pictures, tmp_path / "run", "resnet")
    ship_dino(model, settings, weights / "resnet", command="make resnet")
    assert_close_to(world_resnet(), model.teacher["backbone"])
    dilated = world_resnet(output_stride=8)
    assert dilated.forward_features(torch.rand(1, 3, 64, 64)).shape == (1, CHANNELS[-1], 8, 8)


def test_a_model_that_is_not_carried_says_how_to_train_it(weights):
    with pytest.raises(WorldModelError, match="wordmask world train-clip"):
        world_clip()


def test_what_is_carried_is_small_and_tells_how_it_was_made():
    assert sum(path.stat().st_size for path in models.WEIGHTS.rglob("*") if path.is_file()) < MOST_BYTES
    for name, origin in world_weights().items():
        assert origin["command"].startswith("wordmask world "), name
        assert int(origin["steps"]) > 0
        assert json.loads(origin["figures"]), name


def test_the_carried_clip_finds_more_than_one_name_a_picture(monkeypatch):
    monkeypatch.setattr(figures, "MASKED_PICTURES", 16)
    found = figures.mask_figures(world_clip())
    assert found["miou_all"] > 1.5 * found["miou_all_filled"]
    assert found["miou_things"] > 1.5 * found["miou_things_none"]


def test_the_carried_clip_reads_sizes_it_was_not_trained_at():
    dense = world_clip().dense(torch.rand(1, 3, 100, 180), keys=True, ln_2=[-3])
    assert dense.grid == (13, 23)
    assert torch.isfinite(dense.values).all()
