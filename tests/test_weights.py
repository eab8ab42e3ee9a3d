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


class RunsWhenUnpickled:
    """What a pickle may hide: loading it creates a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.witness),)


def same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def saved(path: Path, content: object, **options: object) -> Path:
    torch.save(content, path, **options)  # type: ignore[arg-type]
    return path


# Reading


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_checkpoint_is_read(tmp_path: Path, legacy: bool) -> None:
    path = saved(tmp_path / "a.pt", STATE, _use_new_zipfile_serialization=not legacy)
    assert same(read_state_dict(path), STATE)


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_safetensors_are_known_by_content(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)
    assert same(read_state_dict(tmp_path / name), STATE)


def test_parameters_come_back_as_plain_tensors(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"weight": nn.Parameter(torch.ones(2))})
    tensor = read_state_dict(path)["weight"]
    assert type(tensor) is Tensor
    assert not tensor.requires_grad


@pytest.mark.parametrize("content", [STATE, {"model": STATE}, {"model": STATE, "epoch": 3}])
def test_wrapping_is_taken_off_where_there_is_any(tmp_path: Path, content: object) -> None:
    path = saved(tmp_path / "a.pt", content)
    assert same(read_state_dict(path, unwrap=("model", "state_dict")), STATE)


def test_wrappings_are_taken_off_in_the_order_given(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"teacher": {"state_dict": STATE}, "student": {"weight": torch.zeros(1)}})
    assert same(read_state_dict(path, unwrap=("teacher", "state_dict")), STATE)


def test_clip_dinoiser_layout_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "last.pt", {"epoch": 3, "model_state_dict": {"bkg_decoder.bias": torch.ones(1)}})
    assert read_state_dict(path, unwrap=("model_state_dict",)) == {"bkg_decoder.bias": torch.ones(1)}


def test_wrapping_nobody_asked_to_take_off_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"epoch": 3, "model_state_dict": STATE, "mean": torch.ones(1)})
    with pytest.raises(WeightsError, match="dictionaries among its values .model_state_dict."):
        read_state_dict(path)


def test_numbers_beside_the_tensors_are_left_out(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {**STATE, "epoch": 3, "names": ["a"], "version": "1"})
    assert same(read_state_dict(path), STATE)


def test_prefixes_are_stripped_in_the_order_given(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {f"module.backbone.{name}": value for name, value in STATE.items()})
    assert same(read_state_dict(path, strip=("module.", "backbone.")), STATE)
    assert set(read_state_dict(path, strip=("backbone.",))) == {"module.backbone.weight", "module.backbone.bias"}


def test_names_that_would_collide_are_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"module.weight": torch.ones(1), "weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="both 'weight'"):
        read_state_dict(path, strip=("module.",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.ones(1)], "holds a list"),
        ({"epoch": 3}, "holds no tensors, only epoch"),
        ({}, "holds no tensors, only nothing"),
        ({3: torch.ones(1)}, "under 3"),
    ],
)
def test_file_without_a_state_dict_is_told(tmp_path: Path, content: object, reason: str) -> None:
    with pytest.raises(WeightsError, match=reason):
        read_state_dict(saved(tmp_path / "a.pt", content))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).half()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("size", torch.tensor(224))
        self.register_buffer("tail", torch.arange(6.0)[4:])
        self.register_buffer("nothing", torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * self.scale


def test_torchscript_archive_gives_its_tensors_without_running(tmp_path: Path) -> None:
    block = Block()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript; OpenAI's files stay
        torch.jit.script(block).save(tmp_path / "RN50.pt")
    assert same(read_state_dict(tmp_path / "RN50.pt"), block.state_dict())


def test_torchscript_archive_with_lists_beside_its_tensors_is_read(tmp_path: Path) -> None:
    block = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(block).save(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert b"build_intlist" in archive.read("a/data.pkl")
    assert same(read_state_dict(tmp_path / "a.pt"), block.state_dict())


def test_torchscript_archive_that_wants_more_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/data.pkl", pickle.dumps(RunsWhenUnpickled(tmp_path / "witness")))
    with pytest.raises(WeightsError, match=r"asks to run (posix|nt)\.mkdir"):
        read_state_dict(tmp_path / "a.pt")
    assert not (tmp_path / "witness").exists()


# Refusing


@pytest.mark.parametrize("name", ["w" * 5000, "w\0.pt"], ids=["long", "null"])
def test_a_name_that_no_file_can_have_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoint_that_runs_a_program_is_refused(tmp_path: Path, legacy: bool) -> None:
    content = {**STATE, "extra": RunsWhenUnpickled(tmp_path / "witness")}
    path = saved(tmp_path / "a.pt", content, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"is refused: it asks to run (posix|nt)\.mkdir") as caught:
        read_state_dict(path)
    assert not (tmp_path / "witness").exists()
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_checkpoint_with_a_foreign_class_is_refused_by_its_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {**STATE, "args": argparse.Namespace(lr=1)})
    with pytest.raises(WeightsError, match=r"argparse\.Namespace"):
        read_state_dict(path)


def test_plain_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"weight": RunsWhenUnpickled(tmp_path / "witness")}))
    with pytest.raises(WeightsError, match="plain pickle"):
        read_state_dict(tmp_path / "a.pt")
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.pkl"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n  <!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"<HTML><title>404</title></HTML>", "is a web page"),
        (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer.*git lfs pull"),
    ],
)
def test_impostor_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    read = read_embedding_pickle if name.endswith(".pkl") else read_state_dict
    with pytest.raises(WeightsError, match=reason):
        read(tmp_path / name)


def test_unknown_content_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b'{"error": "not found"}')
    with pytest.raises(WeightsError, match="neither safetensors nor"):
        read_state_dict(tmp_path / "a.pt")
    (tmp_path / "a.safetensors").write_bytes(b'{"error": "not found"}')
    with pytest.raises(WeightsError, match="damaged"):
        read_state_dict(tmp_path / "a.safetensors")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("folder/picture.json", "{}")
    with pytest.raises(WeightsError, match="zip archive"):
        read_state_dict(tmp_path / "b.pt")
    with pytest.raises(WeightsError, match="No such file"):
        read_state_dict(tmp_path / "c.pt")


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "pickle"])
def test_file_cut_short_is_damaged(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / f"a.{kind}"
    state = {"weight": torch.randn(500)}
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        saved(path, state, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightsError, match="damaged or cut short"):
        (read_embedding_pickle if kind == "pickle" else read_state_dict)(path)


# Embedding pickles


def test_pickled_embeddings_are_read(tmp_path: Path) -> None:
    rows = torch.randn(4, 8)
    content = {
        "n01440764_1.JPEG": rows[0],
        "n01440764_2.JPEG": rows[1].half(),
        "n01440764_3.JPEG": rows[2].clone().requires_grad_(),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embeddings = read_embedding_pickle(tmp_path / "a.pkl")
    assert same(embeddings, content)
    assert not any(value.requires_grad for value in embeddings.values())


def test_pickled_embeddings_that_run_a_program_are_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": RunsWhenUnpickled(tmp_path / "witness")}))
    with pytest.raises(WeightsError, match=r"asks to run (posix|nt)\.mkdir"):
        read_embedding_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "witness").exists()


def test_program_inside_a_tensors_storage_is_refused(tmp_path: Path) -> None:
    """torch's own way to unpickle a tensor would run what its storage bytes ask for."""
    saved(tmp_path / "inner.pt", RunsWhenUnpickled(tmp_path / "witness"), _use_new_zipfile_serialization=False)
    inner = (tmp_path / "inner.pt").read_bytes()

    class Storage:
        def __reduce__(self) -> tuple[object, ...]:
            return torch.storage._load_from_bytes, (inner,)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": Storage()}))
    with pytest.raises(WeightsError):
        read_embedding_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "witness").exists()
    pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert (tmp_path / "witness").exists(), "the attack works where it is not refused"


@pytest.mark.parametrize("content", [{"a": [1.0]}, {3: torch.ones(1)}, {}, [torch.ones(1)]])
def test_pickle_of_anything_else_is_no_embeddings(tmp_path: Path, content: object) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError):
        read_embedding_pickle(tmp_path / "a.pkl")


# Loading


def test_weights_are_loaded() -> None:
    module = nn.Linear(3, 2)
    load_into(module, STATE, what="head")
    assert same(module.state_dict(), STATE)


def test_every_misfit_is_listed_and_nothing_is_touched() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = {"0.weight": torch.ones(2, 4), "0.bias": torch.ones(2), "head.weight": torch.ones(1)}
    with pytest.raises(WeightsError) as caught:
        load_into(module, state, what="SelfMask")
    message = str(caught.value)
    assert message.startswith("SelfMask: ")
    assert "2 missing (1.bias, 1.weight)" in message
    assert "1 unexpected (head.weight)" in message
    assert "0.weight: expected (2, 3) got (2, 4)" in message
    assert same(module.state_dict(), before)


def test_long_lists_are_shortened_and_counted() -> None:
    state = {f"extra.{number:02}": torch.ones(1) for number in range(20)}
    with pytest.raises(WeightsError, match=r"20 unexpected \(extra\.00, .*extra\.07, \.\.\.\)"):
        load_into(nn.Linear(3, 2), {**STATE, **state}, what="head")


def test_patterns_excuse_names() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    state = {f"0.{name}": value for name, value in STATE.items()} | {"head.weight": torch.ones(1)}
    load_into(module, state, what="net", allow_missing=("1.*",), allow_extra=("head.*",))
    assert torch.equal(module[0].weight, STATE["weight"])
    assert torch.equal(module[1].weight, torch.ones(2))
    with pytest.raises(WeightsError, match="num_batches_tracked"):
        load_into(module, state, what="net", allow_missing=("1.weight", "1.bias", "1.running*"), allow_extra=("*",))


def test_names_are_mapped() -> None:
    module = nn.Linear(3, 2)
    load_into(
        module, {"w": STATE["weight"], "b": STATE["bias"]}, what="head", rename={"w": "weight", "b": "bias"}.__getitem__
    )
    assert same(module.state_dict(), STATE)
    with pytest.raises(WeightsError, match="both 'weight' once renamed"):
        load_into(module, STATE, what="head", rename=lambda _: "weight")


def test_module_keeps_its_dtype_and_its_parameters() -> None:
    module = nn.Linear(3, 2).to(torch.bfloat16).requires_grad_(False)
    parameter = module.weight
    load_into(module, {name: value.half() for name, value in STATE.items()}, what="head")
    assert module.weight is parameter
    assert module.weight.dtype == torch.bfloat16
    assert torch.equal(module.weight.float(), STATE["weight"])
    assert not module.weight.requires_grad


def test_integers_never_become_weights() -> None:
    with pytest.raises(WeightsError, match=r"weight: expected torch\.float32 got torch\.int64"):
        load_into(nn.Linear(3, 2), {**STATE, "weight": STATE["weight"].long()}, what="head")


def test_module_without_values_takes_them(tmp_path: Path) -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    module.requires_grad_(False)
    load_into(module, read_state_dict(saved(tmp_path / "a.pt", STATE)), what="head")
    assert same(module.state_dict(), STATE)
    assert not module.weight.requires_grad


def test_module_without_values_needs_every_one() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    with pytest.raises(WeightsError, match=r"1 missing \(bias\)"):
        load_into(module, {"weight": STATE["weight"]}, what="head", allow_missing=("*",))
    assert module.weight.is_meta


# Writing


def test_written_weights_come_back(tmp_path: Path) -> None:
    square = torch.arange(6.0).reshape(2, 3)
    state = {
        "plain": square,
        "turned": square.t(),
        "row": square[1],
        "none": torch.empty(0, 3),
        "flag": torch.tensor(True),
    }
    metadata = {"names": '["dog", "Füße"]', "b": "line\nbreak\x01", "a": ""}
    path = tmp_path / "new" / "a.safetensors"
    write_state_dict(path, state, metadata)
    assert same(read_state_dict(path), state)
    assert read_metadata(path) == metadata
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


def test_a_written_file_may_be_read_by_whoever_may_read_others(tmp_path):
    write_state_dict(tmp_path / "a.safetensors", {"w": torch.zeros(2)}, {})
    (tmp_path / "b").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    """Also in another process, whose hash tables are ordered otherwise."""
    metadata = {f"key {number}": str(number) for number in range(20)}
    write_state_dict(tmp_path / "a", STATE, metadata)
    write_state_dict(tmp_path / "b", dict(reversed(STATE.items())), dict(reversed(metadata.items())))
    code = (
        "import sys, torch; from wordmask.weights.loading import *;"
        "write_state_dict(sys.argv[1] + '/c', read_state_dict(sys.argv[1] + '/a'), read_metadata(sys.argv[1] + '/a'))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in "abc"}
    assert len(digests) == 1


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    write_state_dict(path, STATE, {})
    before = path.read_bytes()

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoRoomError, match=r"a\.safetensors .No space left on device"):
        write_state_dict(path, {"other": torch.ones(3)}, {})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_metadata_of_another_kind_of_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no readable safetensors"):
        read_metadata(saved(tmp_path / "a.pt", STATE))
    with pytest.raises(WeightsError, match="no readable safetensors"):
        read_metadata(tmp_path / "none.safetensors")


# Fingerprints


def test_fingerprint_is_of_the_content_alone() -> None:
    module = nn.Linear(3, 2)
    load_into(module, STATE, what="head")
    assert fingerprint(module) == fingerprint(STATE) == fingerprint(dict(reversed(STATE.items())))
    assert fingerprint({**STATE, "weight": STATE["weight"].t().contiguous().t()}) == fingerprint(STATE)
    assert fingerprint({**STATE, "bias": torch.tensor([1.0, 0.0, -1.0])[::2]}) == fingerprint(STATE)


def test_fingerprint_is_the_same_in_every_process() -> None:
    assert fingerprint(STATE) == "b1ba5b3498de371b9c8ee652b56c9daf"


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
def test_fingerprint_tells_any_change(other: dict[str, Tensor]) -> None:
    assert fingerprint(other) != fingerprint(STATE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.int64, torch.complex64])
def test_fingerprint_takes_every_dtype(dtype: torch.dtype) -> None:
    one, two = ({"a": torch.tensor([1, 0, value], dtype=dtype)} for value in (0, 1))
    assert fingerprint(one) != fingerprint(two)


def test_fingerprint_of_nothing_is_an_error() -> None:
    with pytest.raises(WeightsError, match="meta device"):
        fingerprint(nn.Linear(2, 2, device="meta"))


# Finding


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes | Exception]:
    """A stand-in for the hub: "org/repository/file" -> content, or the error it answers with."""
    files: dict[str, bytes | Exception] = {}

    def hf_hub_download(repository: str, file: str, *, revision: str | None = None) -> str:
        answer = files.get(f"{repository}@{revision}/{file}" if revision else f"{repository}/{file}")
        if answer is None:
            raise EntryNotFoundError(f"no {file} in {repository}")
        if isinstance(answer, Exception):
            raise answer
        (tmp_path / file).write_bytes(answer)
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    monkeypatch.setattr(fetching, "unreachable", lambda _: {})
    for switch in ("WORDMASK_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    return files


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A stand-in for the downloader: URL -> content."""
    pages: dict[str, bytes] = {}

    def download(
        url: str, target: Path, *, bytes: int | None = None, sha256: str | None = None, progress: bool | None = None
    ) -> Path:
        if not target.exists():
            if url not in pages:
                raise DownloadError(f"cannot fetch {url}")
            if sha256 not in {None, hashlib.sha256(pages[url]).hexdigest()}:
                raise DownloadError(f"{url} is another file")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(pages[url])
        return target

    monkeypatch.setattr(fetching, "download", download)
    monkeypatch.setattr(addresses, "download", download)
    monkeypatch.setattr(fetching, "unreachable", lambda _: {})
    for switch in ("WORDMASK_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    return pages


def test_file_is_its_own_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "mine.pt", STATE)
    assert resolve(path) == path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/mine.pt") == path


def test_file_goes_before_a_name_of_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "found", STATE)
    assert resolve("found") == Path("found")


def test_name_of_the_catalogue_is_fetched_into_its_folder(web: dict[str, bytes]) -> None:
    entry = catalogue.find("found")
    web[entry.source] = b"weights"
    path = resolve("found")
    assert path == cache_dir() / "found" / "decoder_weights.pt"
    assert path.read_bytes() == b"weights"


def test_catalogued_address_is_the_same_as_its_name(web: dict[str, bytes]) -> None:
    entry = catalogue.find("found")
    web[entry.source] = b"weights"
    assert resolve(entry.source) == resolve("found")


def test_any_other_address_is_fetched_to_its_own_place(web: dict[str, bytes]) -> None:
    url = f"https://example.org/a.pt?signature={'x' * 5000}"
    web[url] = b"weights"
    assert resolve(url) == cached_path(url)


def test_next_place_is_tried_and_told(web: dict[str, bytes], caplog: pytest.LogCaptureFixture) -> None:
    entry = catalogue.find("selfmask-nq20")
    web[entry.mirrors[0]] = b"weights"
    with caplog.at_level(logging.WARNING):
        path = resolve("selfmask-nq20")
    assert path == catalogue.place(entry, entry.mirrors[0])
    assert f"cannot fetch {entry.source}; trying the next place that has selfmask-nq20" in caplog.text


def test_copy_that_is_here_goes_before_a_download(web: dict[str, bytes]) -> None:
    entry = catalogue.find("selfmask-nq20")
    here = catalogue.place(entry, entry.mirrors[0])
    here.parent.mkdir(parents=True)
    here.write_bytes(b"weights")
    web[entry.source] = b"other copy"
    assert resolve("selfmask-nq20") == here


def test_failure_names_every_place(web: dict[str, bytes]) -> None:
    entry = catalogue.find("selfmask-nq20")
    with pytest.raises(DownloadError) as caught:
        resolve("selfmask-nq20")
    assert all(address in str(caught.value) for address in entry.addresses)


def test_offline_message_names_the_file_and_its_place() -> None:
    entry = catalogue.find("found")
    with pytest.raises(DownloadError, match="switched off") as caught:
        resolve("found")
    assert entry.source in str(caught.value)
    assert str(catalogue.place(entry, entry.source)) in str(caught.value)


def test_offline_message_for_the_hub_says_how_to_bring_it(hub: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDMASK_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"run `hf download laion/CLIP-ViT-B-16-laion2B-s34B-b88K "):
        resolve("clip-vit-b-16-laion2b")


@pytest.mark.parametrize("source", ["clip-vit-b-16-laion2b", "open_clip:ViT-B-16/laion2b_s34b_b88k"])
def test_clip_comes_from_the_hub(hub: dict[str, bytes | Exception], source: str) -> None:
    hub["laion/CLIP-ViT-B-16-laion2B-s34B-b88K/open_clip_pytorch_model.bin"] = b"weights"
    assert resolve(source).name == "open_clip_pytorch_model.bin"
    hub["laion/CLIP-ViT-B-16-laion2B-s34B-b88K/open_clip_model.safetensors"] = b"weights"
    assert resolve(source).name == "open_clip_model.safetensors"


def test_original_of_openai_serves_when_the_hub_does_not(
    hub: dict[str, bytes | Exception], web: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = catalogue.find("clip-rn50-openai")
    digest = hashlib.sha256(b"original").hexdigest()
    changed = catalogue.Weight(entry.name, entry.kind, entry.source, "MIT", 8, digest, mirrors=entry.mirrors)
    monkeypatch.setattr(catalogue, "find", lambda _: changed)
    web[entry.mirrors[0]] = b"original"
    assert resolve("clip-rn50-openai").read_bytes() == b"original"
    catalogue.place(changed, entry.mirrors[0]).unlink()
    web[entry.mirrors[0]] = b"forged"
    with pytest.raises(DownloadError, match="is another file"):
        resolve("clip-rn50-openai")


def test_weights_outside_the_catalogue_are_asked_of_their_library(hub: dict[str, bytes | Exception]) -> None:
    hub["timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"] = b"clip"
    hub["timm/vit_giant_patch14_dinov2.lvd142m/model.safetensors"] = b"dino"
    assert resolve("open_clip:ViT-B-32/openai").read_bytes() == b"clip"
    assert resolve("timm:vit_giant_patch14_dinov2.lvd142m").read_bytes() == b"dino"
    with pytest.raises(WeightsError, match="open_clip has no weights 'none' for 'ViT-B-32'"):
        resolve("open_clip:ViT-B-32/none")
    with pytest.raises(WeightsError, match="timm has no weights on the hub for 'none'"):
        resolve("timm:none")


def test_any_repository_of_the_hub_can_be_named(hub: dict[str, bytes | Exception]) -> None:
    hub["me/mine/model.safetensors"] = b"default"
    hub["me/mine@v2/deep/other.bin"] = b"named"
    assert resolve("hf-hub:me/mine").read_bytes() == b"default"
    (Path(huggingface_hub.constants.HF_HUB_CACHE).parent / "deep").mkdir()
    assert resolve("hf-hub:me/mine@v2/deep/other.bin").read_bytes() == b"named"
    with pytest.raises(DownloadError, match=r"has no weights called model\.gguf"):
        resolve("hf-hub:me/mine/model.gguf")
    with pytest.raises(WeightsError, match="names no repository"):
        resolve("hf-hub:mine")


def test_gated_weights_say_how_to_get_in(hub: dict[str, bytes | Exception]) -> None:
    response = Mock(headers={})
    hub["timm/vit_small_patch16_dinov3.lvd1689m/model.safetensors"] = GatedRepoError("gated", response=response)
    with pytest.raises(DownloadError, match="accept its licence on that page, then sign in"):
        resolve("dinov3-vit-s-16")


def test_unreachable_hub_is_told(hub: dict[str, bytes | Exception]) -> None:
    hub["timm/vit_small_patch8_224.dino/model.safetensors"] = LocalEntryNotFoundError("no network")
    with pytest.raises(DownloadError, match="the hub cannot be reached"):
        resolve("dino-vit-s-8-timm")
    hub["timm/vit_small_patch8_224.dino/model.safetensors"] = ValueError("a line\nand more")
    with pytest.raises(DownloadError, match="a line$"):
        resolve("dino-vit-s-8-timm")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every server is a port of this machine at which nobody listens; the folder is the hub's cache."""
    for switch in ("WORDMASK_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, proxy)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize(
    "source", ["clip-vit-b-16-laion2b", "selfmask-nq20", "dino-vit-s-8", "timm:vit_giant_patch14_dinov2.lvd142m"]
)
def test_without_a_network_the_ways_out_are_told_at_once_and_in_one_line(
    no_network: Path, caplog: pytest.LogCaptureFixture, source: str
) -> None:
    start = time.monotonic()
    with caplog.at_level(logging.INFO), pytest.raises(UnreachableError) as caught:
        resolve(source)
    assert time.monotonic() - start < 3
    assert caplog.text == ""
    message = str(caught.value)
    assert "\n" not in message
    assert all(way in message for way in ("--weights FILE", "copy the cache", "--preset world", "refused"))
    assert str(no_network if source.startswith(("clip", "timm")) else cache_dir()) in message


def test_what_is_in_the_hub_s_cache_needs_no_network(no_network: Path) -> None:
    home = no_network / "models--laion--CLIP-ViT-B-16-laion2B-s34B-b88K"
    file = home / "snapshots" / "abc" / "open_clip_model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    for source in ("clip-vit-b-16-laion2b", "open_clip:ViT-B-16/laion2b_s34b_b88k"):
        assert resolve(source) == file


def test_what_was_fetched_before_needs_no_network(no_network: Path) -> None:
    entry = catalogue.find("selfmask-nq20")
    url = "https://example.org/a.pt"
    for here in (catalogue.place(entry, entry.mirrors[0]), cached_path(url)):
        here.parent.mkdir(parents=True)
        here.write_bytes(b"weights")
    assert resolve("selfmask-nq20").read_bytes() == resolve(url).read_bytes() == b"weights"


def test_a_mirror_serves_when_the_source_cannot_be_reached(
    web: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = catalogue.find("selfmask-nq20")
    web[entry.source] = web[entry.mirrors[0]] = b"weights"
    monkeypatch.setattr(fetching, "unreachable", lambda _: {entry.source: "the host is not found"})
    assert resolve("selfmask-nq20") == catalogue.place(entry, entry.mirrors[0])
    assert "the host is not found; trying the next place" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_no_file_of_weights(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.pt")
    for source in (tmp_path / "weights.pt", "/dev/zero"):
        with pytest.raises(WeightsError, match="is a pipe or a device"):
            resolve(source)


def test_unknown_source_lists_the_three_ways() -> None:
    with pytest.raises(WeightsError) as caught:
        resolve("selfmask")
    message = str(caught.value)
    assert message.startswith("'selfmask' is no file on this machine; nor is it an http(s) address; no weights in the")
    assert "did you mean selfmask-nq20" in message


def test_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is a folder: name the weight file in it"):
        resolve(tmp_path)


def test_folder_does_not_hide_a_name_of_the_catalogue(
    web: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web[catalogue.find("found").source] = b"weights"
    (tmp_path / "found").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("found").read_bytes() == b"weights"


def test_impossible_name_is_told() -> None:
    with pytest.raises(WeightsError, match="cannot be looked up"):
        resolve("x" * 5000)
