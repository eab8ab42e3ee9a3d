"""Where weights come from: files, the catalogue, the hub, any address; and what is said where they cannot."""

import hashlib
import logging
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import huggingface_hub.constants
import pytest
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

from wordmask.weights import addresses, catalogue, fetching
from wordmask.weights.addresses import resolve
from wordmask.weights.cache import cache_dir, cached_path
from wordmask.weights.download import DownloadError, UnreachableError
from wordmask.weights.loading import (
    WeightsError,
)

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
