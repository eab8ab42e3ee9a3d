"""Processes that learn together do what one would do alone."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from support.launcher import launched
from wordmask.segmenters.deeplab import DeepLabV3Plus, small_resnet_settings
from wordmask.training.team import Team, TeamError

PATIENCE = 300
"""Seconds after which a process hangs; a loaded machine takes a minute to import PyTorch."""


def team_of(count, place):
    team = Team("cpu")
    team.count, team.place = count, place
    return team


def test_one_process_is_a_team_of_itself():
    team, network, value = Team("cpu"), nn.Linear(2, 2), torch.tensor([1.0, 2.0])
    team.wait()
    team.average([value])
    assert team.is_first
    assert list(range(7))[team.share(7)] == list(range(7))
    assert team.sum(value).tolist() == [1.0, 2.0]
    team.sum(value).zero_()  # a sum is a new tensor
    assert value.tolist() == [1.0, 2.0]
    assert team.wrap(network) is network
    with team.quietly(network):
        network(value).sum().backward()
    assert network.bias.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 12])
def test_a_batch_is_shared_evenly_and_without_gaps(count):
    shares = [range(12, 24)[team_of(count, place).share(12)] for place in range(count)]
    assert [place for share in shares for place in share] == list(range(12, 24))
    assert {len(share) for share in shares} == {12 // count}


@pytest.mark.parametrize("batch", [1, 2, 10, 13])
def test_a_batch_that_does_not_divide_is_refused(batch):
    with pytest.raises(TeamError, match=f"a batch of {batch} cannot be shared evenly by 3 processes.* multiple of 3"):
        team_of(3, 0).share(batch)


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cpu:0", "2 processes cannot all have device cpu:0: choose cpu"),
        ("cpu", r"WORLD_SIZE=2.* finds 1 .*torchrun"),
    ],
)
def test_processes_that_do_not_find_each_other_or_have_one_device_do_not_each_train_alone(monkeypatch, device, says):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.PartialState", lambda cpu: SimpleNamespace(num_processes=1))
    with pytest.raises(TeamError, match=says):
        Team(device)


def normed():
    return DeepLabV3Plus(3, small_resnet_settings(backbone_options={"channels": (8, 8, 16, 16), "stem_width": 4}))


@pytest.mark.parametrize(("count", "device", "shared"), [(2, "cuda", True), (1, "cuda", False), (2, "cpu", False)])
def test_batch_norms_are_shared_where_pytorch_can(count, device, shared):
    team = team_of(count, 0)
    team.device = torch.device(device)
    torch.manual_seed(0)
    network, images = normed().eval(), torch.rand(2, 3, 64, 64)
    state, parameters, seen = dict(network.state_dict()), list(network.parameters()), network(images)
    momenta = [norm.momentum for norm in norms_of(network)]
    after = team.with_shared_statistics(network)
    assert after is network
    assert all(isinstance(norm, nn.SyncBatchNorm) == shared for norm in norms_of(after))
    assert [norm.momentum for norm in norms_of(after)] == momenta
    assert len(momenta) > 10
    assert list(after.state_dict()) == list(state)  # a student's file says nothing of who trained it
    assert all(one is other for one, other in zip(after.parameters(), parameters, strict=True))
    torch.testing.assert_close(after(images), seen)


def norms_of(network):
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


LEARN = """
import json, time
from datetime import timedelta
import torch
from torch import nn
from torch.distributed.distributed_c10d import _set_pg_timeout
from wordmask.training.team import Team

torch.set_num_threads(1)
team = Team()
network = nn.Linear(3, 2)
nn.init.ones_(network.weight)
nn.init.zeros_(network.bias)
together = team.wrap(network)
own = (torch.arange(24.0).reshape(8, 3) / 10)[team.share(8)]
with team.quietly(together):
    together(own[:2]).square().sum().backward()
alone = network.weight.grad.tolist()
together(own[2:]).square().sum().backward()
mean = [torch.tensor([1.0, 2.0]) * team.place, torch.tensor(3.0 + team.place)]
team.average(mean)
_set_pg_timeout(timedelta(seconds=2), torch.distributed.group.WORLD)  # as accelerators have ten minutes
if team.is_first:
    time.sleep(5)  # as somebody who takes figures
team.wait()
_set_pg_timeout(timedelta(minutes=5), torch.distributed.group.WORLD)
print(json.dumps({
    "place": team.place, "count": team.count, "first": team.is_first, "device": str(team.device),
    "alone": alone, "gradient": network.weight.grad.tolist(),
    "mean": [value.tolist() for value in mean], "sum": team.sum(torch.tensor(team.place + 1)).item(),
}))
"""


def gradient(images):
    """Of the summed squares of both outputs, each of which is the sum of a picture's numbers."""
    return [(2 * images.sum(1, keepdims=True) * images).sum(0)] * 2


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.mps.is_available(), reason="processes on a Mac must be told to take the processor")
def test_two_processes_sum_average_and_learn_as_one():
    """On the device that they find themselves, which here is the processor."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    options = {"stdout": subprocess.PIPE, "text": True}
    both = [
        subprocess.Popen([sys.executable, "-c", LEARN], env={**environment, **place}, **options)
        for place in launched(2)
    ]
    told = [json.loads(process.communicate(timeout=PATIENCE)[0].splitlines()[-1]) for process in both]
    images = np.arange(24).reshape(8, 3) / 10
    for place, said in enumerate(told):
        assert (said["place"], said["count"], said["first"], said["device"]) == (place, 2, place == 0, "cpu")
        assert said["mean"] == [[0.5, 1.0], 3.5]
        assert said["sum"] == 3
        np.testing.assert_allclose(said["alone"], gradient(images[4 * place : 4 * place + 2]), rtol=1e-5)
        np.testing.assert_allclose(said["gradient"], np.array(gradient(images)) / 2, rtol=1e-5)
