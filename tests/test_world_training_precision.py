"""In which precision the world's models learn."""

import copy
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from wordmask.compute import VARIABLE
from wordmask.training.checkpoints import CHECKPOINT, read_checkpoint
from wordmask_world.training import loop, precision
from wordmask_world.training.batches import Stage
from wordmask_world.training.dino import DinoSettings, SelfDistillation, train_dino
from wordmask_world.training.loop import learning_rate_at
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
def clock(monkeypatch):
    """One that goes only when it is told to, on a processor that offers bf16."""
    now = [0.0]
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    monkeypatch.setattr(precision, "pick_precision", lambda asked, device: asked)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(("fp32", "bf16", "chosen"), [(2, 1, "bf16"), (1, 2, "fp32"), (1, 0.96, "fp32")])
def test_a_step_is_tried_in_each_on_a_copy(clock, fp32, bf16, chosen):
    recipe = Counting()

    def loss(probe, tried):
        warm = 0 if probe.steps > 1 else 10  # the first of each
        clock[0] += {"fp32": fp32, "bf16": bf16}[tried] + warm * (tried == chosen)
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


def test_trying_changes_nothing_and_a_run_that_is_killed_at_once_goes_on_in_what_it_found(
    small_training_file, tmp_path, monkeypatch, one_thread
):
    monkeypatch.setattr(SelfDistillation, "figures", lambda self, first_seed: {})
    shape = {"image_size": 32, "width": 24, "blocks": 2, "heads": 2, "prototypes": 8, "hidden": 8, "bottleneck": 4}
    stages = (Stage(pictures=8, size=32, batch=4),)

    def run(name, **asked):
        settings = DinoSettings(pictures=small_training_file, out=tmp_path / name, **shape, stages=stages, **asked)
        return train_dino(settings).state_dict()

    told = run("told", precision="bf16")
    monkeypatch.setattr(loop, "fastest_precision", tried_and_found("bf16"))
    monkeypatch.setattr(loop, "learning_rate_at", Mock(side_effect=KeyboardInterrupt))  # before the first step
    with pytest.raises(KeyboardInterrupt):
        run("tried")
    monkeypatch.setattr(loop, "learning_rate_at", learning_rate_at)
    monkeypatch.setattr(loop, "fastest_precision", Mock(side_effect=AssertionError))
    tried = run("tried")
    assert all(torch.equal(tried[name], value) for name, value in told.items())


def tried_and_found(chosen):
    def find(recipe, loss, device):
        probe = copy.deepcopy(recipe).train()
        for each in ("fp32", "bf16"):
            loss(probe, each).backward()
        return chosen

    return find
