"""What only an accelerator shows: the same answers there, also in several streams and in bf16, and trainings that move.

`benchmarks/on_accelerator.py` runs these; without CUDA they are skipped, or are run on the processor by its `--dry`,
so that they do not rot where there is no accelerator.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from support.launcher import launched
from support.small_archive import NAMES, QUICK, make_archive
from support.small_segmenters import picture, segmenter
from support.stopped_training import Killed, log_of, stop_at
from support.tiny_student import tiny_student
from wordmask.compute import TF32, Compute
from wordmask.distillation.student import train_student
from wordmask.pictures.accelerator import on_device
from wordmask.segmenters.namedmask import NamedMask

DRY = "WORDMASK_DRY" in os.environ
DEVICE = "cpu" if DRY else "cuda"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DRY or torch.cuda.is_available()), reason="needs CUDA"),
]
PATIENCE = 300
"""Seconds."""


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """fp32 is fp32 here."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    monkeypatch.setenv(TF32, "0")
    assert Compute(DEVICE, "fp32").device == DEVICE
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def student(precision="fp32", device=DEVICE):
    return NamedMask(tiny_student(), device=device, precision=precision)


def labels(method, image):
    return method.segment(image, ["dog", "cat", "background"]).labels


def share(one, other):
    return (one == other).mean()


@pytest.mark.parametrize("method", ["clip-dinoiser", "clip-diy"])
def test_segmenters_answer_as_on_the_processor(method):
    own, image = segmenter(method), picture(75, 120)
    there, here = (own.to(device).segment(image, ["dog", "cat", "background"]) for device in (DEVICE, "cpu"))
    np.testing.assert_allclose(there.scores, here.scores, atol=5e-4)
    assert share(there.labels, here.labels) > 0.99  # random networks are hardly surer of one name than of the next


def test_students_answer_as_on_the_processor_and_in_bf16_nearly_so():
    image = picture(56, 72)
    expected = labels(student(device="cpu"), image)
    assert share(labels(student(), image), expected) > 0.999
    assert share(labels(student("bf16"), image), expected) > 0.9


def test_threads_with_streams_of_their_own_do_not_disturb_each_other():
    """Pinned copies and all: a buffer that is taken again too early would show."""
    own = [student(), segmenter("clip-dinoiser").to(DEVICE)]
    pictures = [picture(40 + 8 * number, 64) for number in range(12)]
    expected = [[labels(method, image) for image in pictures] for method in own]

    def in_a_stream(number):
        with nullcontext() if DRY else torch.cuda.stream(torch.cuda.Stream()):
            order = np.random.default_rng(number).permutation(len(pictures))
            return [(method, place, labels(own[method], pictures[place])) for place in order for method in (0, 1)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(in_a_stream, range(8)):
            assert all(share(answer, expected[method][place]) > 0.999 for method, place, answer in found)


def test_a_pinned_copy_is_the_tensor_though_the_original_is_gone():
    for _ in range(20):
        values = torch.randn(500_000)
        kept = values.clone()
        there = on_device(values, torch.device(DEVICE))
        del values
        torch.randn(500_000)  # into the memory that is free now
        assert torch.equal(there.cpu(), kept)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("devices", [("cpu", DEVICE), (DEVICE, "cpu"), (DEVICE, DEVICE)])
def test_a_training_goes_on_where_another_device_stopped(tmp_path, devices, precision):
    """Without dropout, whose dice are each device's own."""
    masks = make_archive(tmp_path / "archive")
    settings = replace(QUICK, precision=precision, network=replace(QUICK.network, dropout=0.0))
    with pytest.raises(Killed):
        train_student(masks, NAMES, settings, tmp_path / "out", seed=1, device=devices[0], progress=stop_at(4))
    train_student(masks, NAMES, settings, tmp_path / "out", seed=1, device=devices[1])
    train_student(masks, NAMES, settings, tmp_path / "whole", seed=1, device="cpu")
    own, whole = ([line["loss"] for line in log_of(tmp_path / name)] for name in ("out", "whole"))
    assert len(own) == len(whole) == settings.steps
    assert own == pytest.approx(whole, rel=0.02 if precision == "fp32" else 0.15)


NORMS = """
import json, sys
import torch
from torch import nn
from wordmask.segmenters.deeplab import DeepLabV3Plus, small_resnet_settings
from wordmask.training.team import Team

torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
team = Team("cuda")
torch.manual_seed(0)
small = {"channels": (8, 8, 16, 16), "stem_width": 4}
network = DeepLabV3Plus(3, small_resnet_settings(dropout=0.0, backbone_options=small)).to(team.device)
images = torch.randn(8, 3, 64, 64).to(team.device)[team.share(8)]
together = team.wrap(team.with_shared_statistics(network)).train()
together(images).square().mean().backward()
state = {name: value.double().mean().item() for name, value in network.state_dict().items()}
print(json.dumps({"state": state, "gradient": [own.grad.double().sum().item() for own in network.parameters()]}))
"""


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two accelerators: NCCL wants one for each process")
def test_batch_norms_of_two_processes_see_what_one_would_see():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def told(places):
        started = [
            subprocess.Popen([sys.executable, "-c", NORMS], env={**environment, **place}, stdout=subprocess.PIPE)
            for place in places
        ]
        return [json.loads(process.communicate(timeout=PATIENCE)[0].splitlines()[-1]) for process in started]

    [alone], both = told([{}]), told(launched(2))
    for own in both:
        for name, value in alone["state"].items():
            assert own["state"][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
        np.testing.assert_allclose(own["gradient"], alone["gradient"], rtol=1e-2, atol=1e-4)
