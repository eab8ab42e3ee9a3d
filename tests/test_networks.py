"""Results are kept under the networks that made them, not under the names of their files."""

import json

import pytest
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
    told = {networks_fingerprint(segmenter)}
    for network in networks_of(segmenter):
        next(network.parameters()).data.view(-1)[0] += 1
        told.add(networks_fingerprint(segmenter))
    assert len(networks_of(segmenter)) == count
    assert len(told) == 1 + count


def test_saliency_methods_have_networks_too():
    assert len(networks_of(saliency.load("found", preset="world", device="cpu"))) == 2
    assert networks_fingerprint(Guess()) is None


def test_a_folder_is_gone_on_with_only_by_the_networks_that_it_says(tmp_path):
    segmenter, plan = Trained(), tmp_path / "run" / "evaluation.json"

    def evaluated(own=segmenter):
        return evaluate(own, Squares(4), out=tmp_path / "run", page=False)

    assert evaluated() == evaluated()
    with pytest.raises(BenchmarkError, match="holds an evaluation made with networks .* choose another --out"):
        evaluated(Trained())
    told = json.loads(plan.read_text())
    del told["networks"]
    for kept, message in ((json.dumps(told), "made with networks None, not"), ("[]", r"evaluation\.json: is damaged")):
        plan.write_text(kept)
        with pytest.raises(BenchmarkError, match=message):
            evaluated()


def test_a_table_s_weights_are_told_by_their_content(tmp_path):
    student = tmp_path / "student.safetensors"
    student.write_bytes(b"first")
    given = {"namedmask": str(student), "maskclip": "https://example.org/clip.pt"}
    Run(tmp_path / "run", weights=given).keep("ours", {"a": 1.0}, seconds=1)
    assert Run(tmp_path / "run", weights=given).kept("ours", "a") == 1
    student.write_bytes(b"again")
    with pytest.raises(RunError, match="--fresh to measure anew"):
        Run(tmp_path / "run", weights=given)
