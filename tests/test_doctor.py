"""`wordmask doctor`: what a machine has and what was chosen on it, without a network and without an import too many."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from wordmask.cli import checkup
from wordmask.compute import Processor
from wordmask.encoders.precision import MEASURED, Measurement, this_machine
from wordmask.extras import BRINGS, EXTRA_OF


@pytest.fixture
def measuring(monkeypatch):
    """A processor with both precisions, on which bf16 takes half the time; gives the networks that were measured."""
    seen = []

    def new(sample, machine):
        seen.append(sample.what)
        return Measurement(sample.what, {"fp32": 0.02, "bf16": 0.01}, machine, sample.shape, "2026-01-01")

    monkeypatch.setattr(MEASURED, "_new", new)
    monkeypatch.setattr(MEASURED, "_known", {})
    monkeypatch.setattr("wordmask.compute.has_bf16", lambda device: True)
    return seen


def test_it_says_what_the_machine_has(command):
    status, out, err = command("doctor")
    assert (status, err) == (0, "")
    for word in ("processor", "memory", "accelerator", "torch", "[distill]", "plug-in", "cache", "precision"):
        assert f"\n{word} " in out
    assert "switched off by WORDMASK_OFFLINE, HF_HUB_OFFLINE" in out
    assert "auto is fp32, as WORDMASK_PRECISION says" in out


def test_the_json_has_the_same(command):
    status, out, _ = command("doctor", "--json")
    told = json.loads(out)
    assert status == 0
    assert set(told["extras"]) == set(EXTRA_OF.values()) == set(BRINGS)
    assert {"name": "world"}.items() <= told["plugins"][0].items()
    assert told["processor"]["threads"] >= 1
    assert told["torch_matches"] in (True, None)
    assert told["precision"]["measured"] == []


def test_what_was_chosen_is_told_with_its_times(command, monkeypatch):
    monkeypatch.setattr(MEASURED, "_known", {})
    found = Measurement("CLIP ViT-B-16", {"fp32": 0.0612, "bf16": 0.1}, this_machine(), "shape", "2026-01-02")
    MEASURED._write("a" * 64, found)
    MEASURED._write("b" * 64, replace(found, machine="another"))
    _, out, _ = command("doctor")
    assert "CLIP ViT-B-16: fp32; a part of it takes fp32 61.2 ms, bf16 100.0 ms (measured 2026-01-02)" in out
    (row,) = json.loads(command("doctor", "--json")[1])["precision"]["measured"]
    assert (row["network"], row["chosen"], row["now"]) == ("CLIP ViT-B-16", "fp32", False)


@pytest.mark.parametrize(
    ("method", "networks"),
    [("clip-diy", ["CLIP world/clip"]), ("found", ["DINO world/dino"]), ("namedmask", ["DeepLabV3+ resnet10t"])],
)
def test_a_method_is_measured_now(command, measuring, method, networks):
    for _ in range(2):  # also what is known
        measuring.clear()
        status, out, err = command("doctor", "--measure", method, "--preset", "world", "--json")
        assert status == 0, err
        assert measuring == networks
        rows = json.loads(out)["precision"]["measured"]
        assert [(row["network"], row["chosen"], row["now"]) for row in rows] == [(networks[0], "bf16", True)]
    assert json.loads(command("doctor", "--json")[1])["precision"]["measured"][0]["now"] is False


def test_nothing_is_fetched_to_be_measured(command, measuring, monkeypatch):
    monkeypatch.delenv("WORDMASK_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    status, _, err = command("doctor", "--measure", "maskclip")
    assert status == 1
    assert "doctor fetches nothing, and not all that maskclip needs is here" in err
    assert "switched off (for doctor, not for other commands)" in err
    assert "HF_HUB_OFFLINE" not in err  # which nobody has set
    assert measuring == []


def test_what_cannot_be_measured_is_said(command, measuring, monkeypatch):
    status, _, err = command("doctor", "--measure", "maskdiy")
    assert status == 1
    assert "no method is called 'maskdiy'" in err
    monkeypatch.setattr("wordmask.encoders.precision.offered_here", lambda: ("fp32",))
    status, _, err = command("doctor", "--measure", "maskclip", "--preset", "world")
    assert status == 1
    assert "nothing to measure" in err


@pytest.mark.parametrize(
    ("torch_version", "torchvision_version", "match"),
    [
        ("2.14.1", "0.29.1", True),
        ("2.6.0+cpu", "0.21.0+cpu", True),
        ("2.14.1", "0.28.0", False),
        ("3.0", "0.31", None),
        (None, "0.29", None),
        ("nightly", "0.29", None),
    ],
)
def test_torch_and_torchvision_belong_together(torch_version, torchvision_version, match):
    assert checkup.torch_matches(torch_version, torchvision_version) is match


def told(monkeypatch, **machine):
    monkeypatch.setattr(checkup, "processor", lambda: Processor("One", "", machine.get("flags")))
    monkeypatch.setattr(checkup, "cores", lambda: (machine.get("cores", 1), 8))
    monkeypatch.setattr(checkup.torch, "get_num_threads", lambda: 1)
    known = {"torch": "2.14.1", "torchvision": "0.29.0"} | machine.get("libraries", {})
    monkeypatch.setattr(checkup, "_version", lambda name: known.get(name))
    monkeypatch.setattr(checkup, "is_installed", lambda package: package not in machine.get("missing", ()))
    return " ".join(checkup.checkup()["faster"])


def test_what_would_make_it_faster_is_said(monkeypatch):
    assert told(monkeypatch) == ""
    assert "1 of 4 cores" in told(monkeypatch, cores=4)
    assert "wordmask[export]" in told(monkeypatch, missing=("onnxruntime",))
    assert "not of one release" in told(monkeypatch, libraries={"torchvision": "0.20.0"})
    older = {"torch": "2.7.0", "torchvision": "0.22.0"}
    assert "from 2.11 on" in told(monkeypatch, flags=("avx2", "amx_bf16"), libraries=older)
    assert told(monkeypatch, flags=("avx2",), libraries=older) == ""


def test_what_is_not_asked_for_is_not_imported():
    code = (
        "import sys; from wordmask.cli import main; sys.argv = ['wordmask', 'doctor']\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print('imported', sorted(set({sorted(EXTRA_OF)}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "imported []", done.stderr
