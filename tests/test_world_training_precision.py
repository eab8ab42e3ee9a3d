"""In which precision the world's models learn."""

import time
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from wordmask.compute import VARIABLE
from wordmask.training.checkpoints import CHECKPOINT, read_checkpoint
from wordmask_world.training import loop, precision
from wordmask_world.training.batches import Stage
from wordmask_world.training.dino import DinoSettings, SelfDistillation, train_dino
from wordmask_world.training.precision import fastest_precision

HERE = torch.device("cpu")


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("steps", torch.zeros(()))

    def loss(self, _):
        self.steps += 1
        return self.weight * 1


@pytest.fixture
def offers_bf16(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    monkeypatch.setattr(precision, "pick_precision", lambda asked, device: asked)


@pytest.mark.parametrize(("slow", "chosen"), [("fp32", "bf16"), ("bf16", "fp32"), ("both", "fp32")])
def test_a_step_is_tried_in_each_on_a_copy(offers_bf16, slow, chosen):
    recipe = Counting()

    def loss(probe, tried):
        time.sleep(0.05 if slow in (tried, "both") else 0)
        return probe.loss(tried)

    assert fastest_precision(recipe, loss, HERE) == chosen
    assert (recipe.steps, recipe.weight.grad) == (0, None)


def test_where_bf16_would_be_emulated_or_somebody_has_said_it_nothing_is_tried(monkeypatch):
    monkeypatch.setenv(VARIABLE, "bf16")
    assert fastest_precision(Counting(), Mock(side_effect=AssertionError), HERE) == "bf16"
    monkeypatch.setenv(VARIABLE, "int8")  # nothing learns in it
    monkeypatch.setattr(precision, "pick_precision", lambda asked, device: "int8")
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    assert fastest_precision(Counting(), Mock(side_effect=AssertionError), HERE) == "fp32"


def test_a_run_goes_on_in_what_it_has_begun_in_unless_another_is_asked_for(
    small_training_file, tmp_path, monkeypatch, one_thread
):
    monkeypatch.setattr(SelfDistillation, "figures", lambda self, first_seed: {})

    def train(steps, **asked):
        shape = {"image_size": 32, "width": 24, "blocks": 2, "heads": 2, "prototypes": 8, "hidden": 8, "bottleneck": 4}
        stages = (Stage(pictures=16, size=32, batch=4),)
        settings = DinoSettings(
            pictures=small_training_file, out=tmp_path, **shape, stages=stages, **asked, save_every=1
        )
        report = Mock(side_effect=[None] * steps + [KeyboardInterrupt])
        with pytest.raises(KeyboardInterrupt):
            train_dino(settings, report)
        return read_checkpoint(tmp_path / CHECKPOINT)["precision"]

    monkeypatch.setattr(loop, "fastest_precision", lambda *_: "bf16")
    assert train(2) == "bf16"
    monkeypatch.setattr(loop, "fastest_precision", Mock(side_effect=AssertionError))
    assert train(2) == "bf16"
    assert train(2, precision="fp32") == "fp32"
