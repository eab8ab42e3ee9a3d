"""Results are kept under the networks that made them, not under the names of their files."""

import json

import pytest
import torch
from torch import nn

from support.squares import Guess, Squares
from wordmask import saliency, segmenters
from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.benchmarks.evaluation import evaluate
from wordmask.benchmarks.networks import networks_fingerprint, networks_of
from wordmask.benchmarks.tables.run import Run, RunError


class Trained(Guess):
    def __init__(self):
        super().__init__()
        self.network = nn.Linear(2, 3)


@pytest.mark.parametrize(
    ("method", "settings", "count"),
    [
        ("maskclip", {}, 1),
        ("clip-diy", {}, 3),  # CLIP, DINO, FOUND's head
        ("clip-dinoiser", {}, 2),
        ("clip-dinoiser", {"affinity": "dino", "background": "found"}, 4),
        ("reco", {"archive": "."}, 2),
        ("selfmask-clip", {}, 2),
    ],
)
def test_every_network_of_a_method_counts(method, settings, count):
    segmenter = segmenters.load(method, preset="world", device="cpu", precision="fp32", **settings)
    networks = networks_of(segmenter)
    assert len(networks) == count
    told = {networks_fingerprint(segmenter)}
    for network in networks:
        with torch.no_grad():
            next(network.parameters()).view(-1)[0] += 1
        told.add(networks_fingerprint(segmenter))
    assert len(told) == 1 + count


def test_saliency_methods_have_networks_too():
    assert len(networks_of(saliency.load("found", preset="world", device="cpu"))) == 2
    assert networks_fingerprint(Guess()) is None


def test_a_folder_is_not_gone_on_with_by_networks_that_were_trained_anew(tmp_path):
    segmenter = Trained()
    first = evaluate(segmenter, Squares(4), out=tmp_path / "run", page=False)
    assert evaluate(segmenter, Squares(4), out=tmp_path / "run", page=False) == first
    with pytest.raises(BenchmarkError, match="holds an evaluation made with networks .* choose another --out"):
        evaluate(Trained(), Squares(4), out=tmp_path / "run", page=False)


def test_a_folder_that_does_not_say_its_networks_is_refused(tmp_path):
    segmenter = Trained()
    evaluate(segmenter, Squares(4), out=tmp_path / "run", page=False)
    plan = tmp_path / "run" / "evaluation.json"
    told = json.loads(plan.read_text())
    del told["networks"]
    plan.write_text(json.dumps(told))
    with pytest.raises(BenchmarkError, match="made with networks None, not"):
        evaluate(segmenter, Squares(4), out=tmp_path / "run", page=False)
    plan.write_text("[]")
    with pytest.raises(BenchmarkError, match=r"evaluation\.json: is damaged"):
        evaluate(segmenter, Squares(4), out=tmp_path / "run", page=False)


def test_a_table_s_weights_are_told_by_their_content(tmp_path):
    student = tmp_path / "student.safetensors"
    student.write_bytes(b"first")
    given = {"namedmask": str(student), "maskclip": "https://example.org/clip.pt"}
    Run(tmp_path / "run", weights=given).keep("ours", {"a": 1.0}, seconds=1)
    assert Run(tmp_path / "run", weights=given).kept("ours", "a") == 1
    student.write_bytes(b"again")
    with pytest.raises(RunError, match="--fresh to measure anew"):
        Run(tmp_path / "run", weights=given)
