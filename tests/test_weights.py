"""Weights: read from any file that holds some, never run, loaded whole or not at all, written alike."""

import argparse
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from support.weight_files import LFS_POINTER, ONE, STATE, RunsWhenUnpickled, pickled, same, saved, zipped
from wordmask.files import NoRoomError
from wordmask.weights.loading import (
    WeightsError,
    fingerprint,
    load_into,
    read_embedding_pickle,
    read_metadata,
    read_state_dict,
    write_state_dict,
)

# Reading


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_safetensors_are_known_by_content(tmp_path, name):
    save_file(STATE, tmp_path / name)
    assert same(read_state_dict(tmp_path / name), STATE)


def test_parameters_come_back_as_plain_tensors(tmp_path):
    tensor = read_state_dict(saved(tmp_path / "a.pt", {"weight": nn.Parameter(torch.ones(2))}))["weight"]
    assert (type(tensor), tensor.requires_grad) == (Tensor, False)


WRAPPED = {"unwrap": ("model", "state_dict")}
DINOISER = {"bkg_decoder.bias": ONE}
INSIDE = {f"backbone.{name}": value for name, value in STATE.items()}
READ = {
    "no wrapping": (STATE, WRAPPED, STATE),
    "a wrapping": ({"model": STATE}, WRAPPED, STATE),
    "wrappings in the order given": ({"model": {"state_dict": STATE}, "other": {"weight": ONE}}, WRAPPED, STATE),
    "CLIP-DINOiser's": ({"epoch": 3, "model_state_dict": DINOISER}, {"unwrap": ("model_state_dict",)}, DINOISER),
    "numbers beside the tensors are left out": ({**STATE, "epoch": 3, "names": ["a"], "version": "1"}, {}, STATE),
    "prefixes in the order given": (
        {f"module.{name}": value for name, value in INSIDE.items()},
        {"strip": ("module.", "backbone.")},
        STATE,
    ),
    "no prefix that is inside": ({f"a.{name}": ONE for name in INSIDE}, {"strip": ("backbone.",)}, None),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("case", READ)
def test_torch_checkpoint_is_read(tmp_path, case, legacy):
    content, options, expected = READ[case]
    assert same(read_state_dict(saved(tmp_path / "a.pt", content, legacy), **options), expected or content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model_state_dict": STATE, "mean": ONE}, "dictionaries among its values .model_state_dict."),
        ({"module.weight": ONE, "weight": ONE}, "both 'weight'"),
        ([ONE], "holds a list"),
        ({"epoch": 3}, "holds no tensors, only epoch"),
        ({}, "holds no tensors, only nothing"),
        ({3: ONE}, "under 3"),
        ({**STATE, "args": argparse.Namespace(lr=1)}, r"argparse\.Namespace"),
    ],
)
def test_file_without_a_state_dict_is_told(tmp_path, content, reason):
    with pytest.raises(WeightsError, match=reason):
        read_state_dict(saved(tmp_path / "a.pt", content), strip=("module.",))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).half()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("size", torch.tensor(224))
        self.register_buffer("tail", torch.arange(6.0)[4:])
        self.register_buffer("nothing", torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * self.scale


@pytest.mark.parametrize("make", [Block, lambda: nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2))])
def test_torchscript_archive_gives_its_tensors_without_running(tmp_path, make):
    block = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript; OpenAI's files stay
        torch.jit.script(block).save(tmp_path / "RN50.pt")
    with zipfile.ZipFile(tmp_path / "RN50.pt") as archive:  # lists beside the tensors need a function
        assert (b"build_intlist" in archive.read("RN50/data.pkl")) == isinstance(block, nn.Sequential)
    assert same(read_state_dict(tmp_path / "RN50.pt"), block.state_dict())


# Refusing


@pytest.mark.parametrize("name", ["w" * 5000, "w\0.pt"], ids=["long", "null"])
def test_a_name_that_no_file_can_have_is_told(tmp_path, name):
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state_dict(tmp_path / name)


RUNNING = {
    "zip": (lambda path, attack: saved(path, {**STATE, "extra": attack}), r"is refused: it asks to run \w+\.mkdir"),
    "legacy": (lambda path, attack: saved(path, {"extra": attack}, True), r"is refused: it asks to run \w+\.mkdir"),
    "torchscript": (
        lambda path, attack: zipped(path, constants=b"", data=pickle.dumps(attack)),
        r"asks to run (posix|nt)\.mkdir",
    ),
    "plain pickle": (lambda path, attack: pickled(path, {"weight": attack}), "plain pickle"),
    "embeddings": (lambda path, attack: pickled(path, {"a": attack}), r"asks to run (posix|nt)\.mkdir"),
}


@pytest.mark.parametrize("kind", RUNNING)
def test_checkpoint_that_runs_a_program_is_refused(tmp_path, kind):
    write, reason = RUNNING[kind]
    path = write(tmp_path / "a", RunsWhenUnpickled(tmp_path / "witness"))
    with pytest.raises(WeightsError, match=reason) as caught:
        (read_embedding_pickle if kind == "embeddings" else read_state_dict)(path)
    assert not (tmp_path / "witness").exists()
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.pkl"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n  <!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"<HTML><title>404</title></HTML>", "is a web page"),
        (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "is a web page"),
        (LFS_POINTER, "Git LFS pointer.*git lfs pull"),
    ],
)
def test_impostor_is_called_what_it_is(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    read = read_embedding_pickle if name.endswith(".pkl") else read_state_dict
    with pytest.raises(WeightsError, match=reason):
        read(tmp_path / name)


def test_unknown_content_is_told(tmp_path):
    for name in ("a.pt", "a.safetensors"):
        (tmp_path / name).write_bytes(b'{"error": "not found"}')
    zipped(tmp_path / "b.pt", picture="{}")
    reasons = {"a.pt": "neither safetensors nor", "a.safetensors": "damaged", "b.pt": "zip", "c.pt": "No such file"}
    for name, reason in reasons.items():
        with pytest.raises(WeightsError, match=reason):
            read_state_dict(tmp_path / name)


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "pickle"])
def test_file_cut_short_is_damaged(tmp_path, kind, kept):
    path = tmp_path / f"a.{kind}"
    state = {"weight": torch.randn(500)}
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pickle":
        pickled(path, state)
    else:
        saved(path, state, legacy=kind == "legacy")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightsError, match="damaged or cut short"):
        (read_embedding_pickle if kind == "pickle" else read_state_dict)(path)


# Embedding pickles


def test_pickled_embeddings_are_read(tmp_path):
    rows = torch.randn(3, 8)
    content = {"1.JPEG": rows[0], "2.JPEG": rows[1].half(), "3.JPEG": rows[2].clone().requires_grad_()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embeddings = read_embedding_pickle(pickled(tmp_path / "a.pkl", content))
    assert same(embeddings, content)
    assert not any(value.requires_grad for value in embeddings.values())


def test_program_inside_a_tensors_storage_is_refused(tmp_path):
    """torch's own way to unpickle a tensor would run what its storage bytes ask for."""
    inner = saved(tmp_path / "inner.pt", RunsWhenUnpickled(tmp_path / "witness"), legacy=True).read_bytes()

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner,)

    path = pickled(tmp_path / "a.pkl", {"a": Storage()})
    with pytest.raises(WeightsError):
        read_embedding_pickle(path)
    assert not (tmp_path / "witness").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "witness").exists(), "the attack works where it is not refused"


@pytest.mark.parametrize("content", [{"a": [1.0]}, {3: ONE}, {}, [ONE]])
def test_pickle_of_anything_else_is_no_embeddings(tmp_path, content):
    with pytest.raises(WeightsError):
        read_embedding_pickle(pickled(tmp_path / "a.pkl", content))


# Loading


def test_every_misfit_is_listed_and_nothing_is_touched():
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = {"0.weight": torch.ones(2, 4), "0.bias": torch.ones(2), "head.weight": ONE}
    with pytest.raises(WeightsError, match="^SelfMask: ") as caught:
        load_into(module, state, what="SelfMask")
    for misfit in (
        "2 missing (1.bias, 1.weight)",
        "1 unexpected (head.weight)",
        "0.weight: expected (2, 3) got (2, 4)",
    ):
        assert misfit in str(caught.value)
    assert same(module.state_dict(), before)


@pytest.mark.parametrize(
    ("state", "options", "reason"),
    [
        (
            {**STATE, **{f"extra.{number:02}": ONE for number in range(20)}},
            {},
            r"20 unexpected \(extra\.00, .*extra\.07, \.\.\.\)",
        ),
        ({**STATE, "weight": STATE["weight"].long()}, {}, r"weight: expected torch\.float32 got torch\.int64"),
        (STATE, {"rename": lambda _: "weight"}, "both 'weight' once renamed"),
    ],
    ids=["long lists are shortened and counted", "integers never become weights", "names that collide"],
)
def test_what_does_not_fit_is_told(state, options, reason):
    with pytest.raises(WeightsError, match=reason):
        load_into(nn.Linear(3, 2), state, what="head", **options)


def test_patterns_excuse_names():
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    state = {f"0.{name}": value for name, value in STATE.items()} | {"head.weight": ONE}
    load_into(module, state, what="net", allow_missing=("1.*",), allow_extra=("head.*",))
    assert torch.equal(module[0].weight, STATE["weight"])
    assert torch.equal(module[1].weight, torch.ones(2))
    with pytest.raises(WeightsError, match="num_batches_tracked"):
        load_into(module, state, what="net", allow_missing=("1.weight", "1.bias", "1.running*"), allow_extra=("*",))


def test_names_are_mapped():
    module = nn.Linear(3, 2)
    state = {name[0]: value for name, value in STATE.items()}
    load_into(module, state, what="head", rename={"w": "weight", "b": "bias"}.__getitem__)
    assert same(module.state_dict(), STATE)


def test_module_keeps_its_dtype_and_its_parameters():
    module = nn.Linear(3, 2).to(torch.bfloat16).requires_grad_(False)
    parameter = module.weight
    load_into(module, {name: value.half() for name, value in STATE.items()}, what="head")
    assert module.weight is parameter
    assert (module.weight.dtype, module.weight.requires_grad) == (torch.bfloat16, False)
    assert torch.equal(module.weight.float(), STATE["weight"])


def test_module_without_values_takes_every_one_or_none(tmp_path):
    module = nn.Linear(3, 2, device="meta").requires_grad_(False)
    with pytest.raises(WeightsError, match=r"1 missing \(bias\)"):
        load_into(module, {"weight": STATE["weight"]}, what="head", allow_missing=("*",))
    assert module.weight.is_meta
    load_into(module, read_state_dict(saved(tmp_path / "a.pt", STATE)), what="head")
    assert same(module.state_dict(), STATE)
    assert not module.weight.requires_grad


# Writing


def test_written_weights_come_back(tmp_path):
    square = torch.arange(6.0).reshape(2, 3)
    state = {"plain": square, "turned": square.t(), "row": square[1], "none": torch.empty(0, 3), "flag": ONE.bool()}
    metadata = {"names": '["dog", "Füße"]', "b": "line\nbreak\x01", "a": ""}
    path = tmp_path / "new" / "a.safetensors"
    write_state_dict(path, state, metadata)
    assert same(read_state_dict(path), state)
    assert read_metadata(path) == metadata
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]
    (tmp_path / "b").touch()  # whoever may read others may read it
    assert path.stat().st_mode == (tmp_path / "b").stat().st_mode


def test_equal_weights_give_equal_files(tmp_path):
    """Also in another process, whose hash tables are ordered otherwise."""
    metadata = {f"key {number}": str(number) for number in range(20)}
    write_state_dict(tmp_path / "a", STATE, metadata)
    write_state_dict(tmp_path / "b", dict(reversed(STATE.items())), dict(reversed(metadata.items())))
    code = (
        "import sys, torch; from wordmask.weights.loading import *;"
        "write_state_dict(sys.argv[1] + '/c', read_state_dict(sys.argv[1] + '/a'), read_metadata(sys.argv[1] + '/a'))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_state_dict(path, STATE, {})
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(NoRoomError, match=r"a\.safetensors .No space left on device"):
        write_state_dict(path, {"other": torch.ones(3)}, {})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_metadata_of_another_kind_of_file_is_an_error(tmp_path):
    for path in (saved(tmp_path / "a.pt", STATE), tmp_path / "none.safetensors"):
        with pytest.raises(WeightsError, match="no readable safetensors"):
            read_metadata(path)


# Fingerprints


def test_fingerprint_is_of_the_content_alone():
    module = nn.Linear(3, 2)
    load_into(module, STATE, what="head")
    turned = {**STATE, "weight": STATE["weight"].t().contiguous().t()}
    strided = {**STATE, "bias": torch.tensor([1.0, 0.0, -1.0])[::2]}
    for state in (STATE, module, dict(reversed(STATE.items())), turned, strided):
        assert fingerprint(state) == "b1ba5b3498de371b9c8ee652b56c9daf"  # in every process


@pytest.mark.parametrize(
    "other",
    [
        {**STATE, "bias": torch.tensor([1.0, -1.0000001])},
        {**STATE, "bias": STATE["bias"].double()},
        {**STATE, "bias": STATE["bias"].reshape(1, 2)},
        {"weight": STATE["weight"], "bias2": STATE["bias"]},
        {"weight": STATE["weight"]},
        {**STATE, "empty": torch.empty(0)},
    ],
)
def test_fingerprint_tells_any_change(other):
    assert fingerprint(other) != fingerprint(STATE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.int64, torch.complex64])
def test_fingerprint_takes_every_dtype(dtype):
    one, two = ({"a": torch.tensor([1, 0, value], dtype=dtype)} for value in (0, 1))
    assert fingerprint(one) != fingerprint(two)


def test_fingerprint_of_nothing_is_an_error():
    with pytest.raises(WeightsError, match="meta device"):
        fingerprint(nn.Linear(2, 2, device="meta"))
