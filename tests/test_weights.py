"""Weights: found by name, file or address; read without running them; loaded whole or not at all."""

import argparse
import hashlib
import logging
import os
import pickle
import socket
import subprocess
import sys
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor, nn

from wordmask.files import NoRoomError
from wordmask.weights import addresses, catalogue, fetching
from wordmask.weights.addresses import resolve
from wordmask.weights.cache import cache_dir, cached_path
from wordmask.weights.download import DownloadError, UnreachableError
from wordmask.weights.loading import (
    WeightsError,
    fingerprint,
    load_into,
    read_embedding_pickle,
    read_metadata,
    read_state_dict,
    write_state_dict,
)

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, -1.0])}
ONE = torch.ones(1)
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


class RunsWhenUnpickled:
    """What a pickle may hide: loading it creates a file."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def saved(path, content, legacy=False):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def pickled(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"a/{name}.pkl", content)
    return path


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


# Finding

LAION = "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
DINO = "timm/vit_small_patch8_224.dino/model.safetensors"
GATED = GatedRepoError("gated", response=Mock(headers={}))


@pytest.fixture
def online(monkeypatch, tmp_path):
    """The network may be asked; the hub keeps what it fetched in the folder that this returns."""
    for switch in ("WORDMASK_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def hub(online, monkeypatch, tmp_path):
    """A stand-in for the hub: "org/repository/file" -> content, or the error it answers with."""
    files = {}

    def hf_hub_download(repository, file, *, revision=None):
        answer = files.get(f"{repository}@{revision}/{file}" if revision else f"{repository}/{file}")
        if answer is None:
            raise EntryNotFoundError(f"no {file} in {repository}")
        if isinstance(answer, Exception):
            raise answer
        return str(put(tmp_path / file, answer))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    monkeypatch.setattr(fetching, "unreachable", lambda _: {})
    return files


@pytest.fixture
def web(online, monkeypatch):
    """A stand-in for the downloader: URL -> content."""
    pages = {}

    def download(url, target, *, bytes=None, sha256=None, progress=None):
        if not target.exists():
            if url not in pages:
                raise DownloadError(f"cannot fetch {url}")
            if sha256 not in {None, hashlib.sha256(pages[url]).hexdigest()}:
                raise DownloadError(f"{url} is another file")
            put(target, pages[url])
        return target

    for module in (fetching, addresses):
        monkeypatch.setattr(module, "download", download)
    monkeypatch.setattr(fetching, "unreachable", lambda _: {})
    return pages


def put(path, content=b"weights"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_file_is_its_own_answer_before_a_name_of_the_catalogue(tmp_path, monkeypatch):
    path = put(tmp_path / "found")
    assert resolve(path) == path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/found") == path
    monkeypatch.chdir(tmp_path)
    assert resolve("found") == Path("found")


def test_name_of_the_catalogue_is_fetched_into_its_folder(web, tmp_path, monkeypatch):
    entry = catalogue.find("found")
    web[entry.source] = b"weights"
    (tmp_path / "found").mkdir()  # a folder does not hide the name
    monkeypatch.chdir(tmp_path)
    path = resolve("found")
    assert path == resolve(entry.source) == cache_dir() / "found" / "decoder_weights.pt"
    assert path.read_bytes() == b"weights"


def test_any_other_address_is_fetched_to_its_own_place(web):
    url = f"https://example.org/a.pt?signature={'x' * 5000}"
    web[url] = b"weights"
    assert resolve(url) == cached_path(url)


SELFMASK = catalogue.find("selfmask-nq20")


def test_every_place_is_tried_in_turn_and_told(web, caplog, monkeypatch):
    with pytest.raises(DownloadError) as caught:
        resolve("selfmask-nq20")
    assert all(address in str(caught.value) for address in SELFMASK.addresses)
    web[SELFMASK.mirrors[0]] = b"weights"
    copy = catalogue.place(SELFMASK, SELFMASK.mirrors[0])
    caplog.clear()
    assert resolve("selfmask-nq20") == copy
    assert f"cannot fetch {SELFMASK.source}; trying the next place that has selfmask-nq20" in caplog.text
    web[SELFMASK.source] = b"other copy"
    assert resolve("selfmask-nq20") == copy  # that is here goes before a download
    copy.unlink()
    monkeypatch.setattr(fetching, "unreachable", lambda _: {SELFMASK.source: "the host is not found"})
    assert resolve("selfmask-nq20") == copy
    assert "the host is not found; trying the next place" in caplog.text


def test_offline_message_says_how_to_bring_the_file(hub, monkeypatch):
    monkeypatch.setenv("WORDMASK_OFFLINE", "1")
    entry = catalogue.find("found")
    with pytest.raises(DownloadError, match="switched off") as caught:
        resolve("found")
    assert entry.source in str(caught.value)
    assert str(catalogue.place(entry, entry.source)) in str(caught.value)
    with pytest.raises(DownloadError, match=f"run `hf download {LAION} "):
        resolve("clip-vit-b-16-laion2b")


@pytest.mark.parametrize("source", ["clip-vit-b-16-laion2b", "open_clip:ViT-B-16/laion2b_s34b_b88k"])
def test_clip_comes_from_the_hub(hub, source):
    for name in ("open_clip_pytorch_model.bin", "open_clip_model.safetensors"):  # the latter where there is one
        hub[f"{LAION}/{name}"] = b"weights"
        assert resolve(source).name == name


def test_original_of_openai_serves_when_the_hub_does_not(hub, web, monkeypatch):
    entry = catalogue.find("clip-rn50-openai")
    changed = replace(entry, bytes=8, sha256=hashlib.sha256(b"original").hexdigest())
    find = catalogue.find
    monkeypatch.setattr(catalogue, "find", lambda name: changed if name == entry.name else find(name))
    web[entry.mirrors[0]] = b"original"
    assert resolve("clip-rn50-openai").read_bytes() == b"original"
    catalogue.place(changed, entry.mirrors[0]).unlink()
    web[entry.mirrors[0]] = b"forged"
    with pytest.raises(DownloadError, match="is another file"):
        resolve("clip-rn50-openai")


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("open_clip:ViT-B-32/openai", "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"),
        ("timm:vit_giant_patch14_dinov2.lvd142m", "timm/vit_giant_patch14_dinov2.lvd142m/model.safetensors"),
        ("hf-hub:me/mine", "me/mine/model.safetensors"),
        ("hf-hub:me/mine@v2/deep/other.bin", "me/mine@v2/deep/other.bin"),
    ],
)
def test_weights_outside_the_catalogue_are_asked_of_their_library(hub, source, file):
    hub[file] = source.encode()
    assert resolve(source).read_bytes() == source.encode()


@pytest.mark.parametrize(
    ("source", "answer", "error", "says"),
    [
        ("dino-vit-s-8-timm", GATED, DownloadError, "accept its licence on that page, then sign in"),
        ("dino-vit-s-8-timm", LocalEntryNotFoundError("no network"), DownloadError, "the hub cannot be reached"),
        ("dino-vit-s-8-timm", ValueError("a line\nand more"), DownloadError, "a line$"),
        ("hf-hub:me/mine/model.gguf", b"", DownloadError, r"has no weights called model\.gguf"),
        ("hf-hub:mine", b"", WeightsError, "names no repository"),
        ("open_clip:ViT-B-32/none", b"", WeightsError, "open_clip has no weights 'none' for 'ViT-B-32'"),
        ("timm:none", b"", WeightsError, "timm has no weights on the hub for 'none'"),
    ],
)
def test_what_the_hub_refuses_is_told(hub, source, answer, error, says):
    hub[DINO] = answer
    with pytest.raises(error, match=says):
        resolve(source)


@pytest.fixture
def no_network(online, monkeypatch):
    """Every server is a port of this machine at which nobody listens; the folder is the hub's cache."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, proxy)
    monkeypatch.setenv("no_proxy", "")
    return online


@pytest.mark.parametrize(
    "source", ["clip-vit-b-16-laion2b", "selfmask-nq20", "dino-vit-s-8", "timm:vit_giant_patch14_dinov2.lvd142m"]
)
def test_without_a_network_the_ways_out_are_told_at_once_and_in_one_line(no_network, caplog, source):
    start = time.monotonic()
    with caplog.at_level(logging.INFO), pytest.raises(UnreachableError) as caught:
        resolve(source)
    assert time.monotonic() - start < 3
    assert caplog.text == ""
    message = str(caught.value)
    assert "\n" not in message
    assert all(way in message for way in ("--weights FILE", "copy the cache", "--preset world", "refused"))
    assert str(no_network if source.startswith(("clip", "timm")) else cache_dir()) in message


def test_what_is_in_the_hub_s_cache_needs_no_network(no_network):
    home = no_network / f"models--{LAION.replace('/', '--')}"
    file = put(home / "snapshots" / "abc" / "open_clip_model.safetensors")
    put(home / "refs" / "main", b"abc")
    for source in ("clip-vit-b-16-laion2b", "open_clip:ViT-B-16/laion2b_s34b_b88k"):
        assert resolve(source) == file


def test_what_was_fetched_before_needs_no_network(no_network):
    url = "https://example.org/a.pt"
    for source, here in ((url, cached_path(url)), (SELFMASK.name, catalogue.place(SELFMASK, SELFMASK.mirrors[0]))):
        put(here)
        assert resolve(source) == here


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_no_file_of_weights(tmp_path):
    os.mkfifo(tmp_path / "weights.pt")
    for source in (tmp_path / "weights.pt", "/dev/zero"):
        with pytest.raises(WeightsError, match="is a pipe or a device"):
            resolve(source)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("selfmask", "^'selfmask' is no file on this machine; nor is it an http.*did you mean selfmask-nq20"),
        (".", "is a folder: name the weight file in it"),
        ("x" * 5000, "cannot be looked up"),
    ],
    ids=["unknown", "folder", "impossible"],
)
def test_what_is_no_source_of_weights_is_told(source, says):
    with pytest.raises(WeightsError, match=says):
        resolve(source)
