"""Addresses of weights: files, folders, catalogue names, and what plug-ins bring."""

import json
import shutil
import sys
from types import ModuleType

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from wordmask.compute import PLAIN, Compute
from wordmask.distillation.identities import brought_identity, clip_identity, start_identity, weights_identity
from wordmask.encoders.clip import ClipError
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.dino import DinoError
from wordmask.encoders.statistics import IMAGENET, ImageStatistics
from wordmask.encoders.timm_building import TimmFolderError, dino_at, load_timm_folder
from wordmask.fingerprints import digest_of_files, known_digest
from wordmask.methods import settings_of
from wordmask.plugins import Plugin, installed
from wordmask.saliency.base import SaliencyError
from wordmask.saliency.selfmask import SelfMaskSettings, load_network, write_network
from wordmask.segmenters.deeplab import DeepLabV3Plus, fill_backbone, small_resnet_settings
from wordmask.weights.addresses import Found, files_of, find, fingerprint_of, full, is_brought, resolve
from wordmask.weights.checkpoints import WeightsError
from wordmask.weights.loading import fingerprint
from wordmask_world import models
from wordmask_world.models import WorldModelError


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Another package, which brings weights."""
    module = ModuleType("another_package")
    module.find = lambda name: Found(tmp_path / name, f"theirs {name}", ("moss",))
    monkeypatch.setitem(sys.modules, "another_package", module)
    plugin = Plugin(addresses={"theirs": "another_package:find"}, aliases={"old word": "theirs:old"})
    brought = (*installed(), plugin)
    monkeypatch.setattr("wordmask.plugins.installed", lambda: brought)
    return tmp_path


def test_a_scheme_alone_stands_for_what_is_asked_for(package):
    asked = [("theirs", "dino"), ("theirs:dino", "clip"), ("old word", "clip"), ("dino-vit-s-8", "dino")]
    assert [full(*each) for each in asked] == ["theirs:dino", "theirs:dino", "theirs:old", "dino-vit-s-8"]
    assert (find("theirs", "heads").path, find("old word").name) == (package / "heads", "theirs old")
    assert all(map(is_brought, ("theirs", "theirs:x", "old word")))
    assert not any(map(is_brought, ("ours:x", "https://theirs", None)))


def test_what_an_address_is_known_by_changes_with_any_of_its_files(tmp_path, package):
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    files = [folder / "config.json", folder / "deep" / "merges.txt.gz", folder / "model.safetensors"]
    for file in files:
        file.write_bytes(b"one")
    seen = {fingerprint_of(folder)}
    assert seen == {fingerprint_of("theirs:folder")} == {digest_of_files(sorted(files))}
    for number, file in enumerate(files):
        file.write_bytes(b"another" + bytes(number + 1))
        seen.add(fingerprint_of(folder))
    assert len(seen) == 1 + len(files)
    assert fingerprint_of(files[0]) == known_digest(files[0])
    for elsewhere in ("dino-vit-s-8", "https://example.org/a.pt"):
        assert fingerprint_of(elsewhere) == elsewhere
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"of this machine alone")
    assert files_of(folder) == sorted(files)
    assert files_of(files[0]) == files[:1]
    assert files_of(tmp_path / "nothing") == []


def test_runs_know_their_networks_by_what_they_always_did(tmp_path):
    """Found, SelfMask, then the encoders with their configs and tokenizers: existing runs hold this hash."""
    weights = models.WEIGHTS
    encoders = sorted(path for path in weights.glob("*/*.*") if "__pycache__" not in path.parts)
    assert {"merges.txt.gz", "config.json"} <= {path.name for path in encoders}
    whole = digest_of_files([weights / "found.safetensors", weights / "selfmask.safetensors", *encoders])
    assert clip_identity("world", None) == f"world{whole}"
    for method in ("found", "seed", "selfmask", "spectral"):
        assert brought_identity(settings_of("saliency", method, "world")) == whole
        assert brought_identity(settings_of("saliency", method)) == ""
    for start, folder in (("world", "resnet"), ("world-clip", "clip-resnet")):
        assert start_identity(start) == f"{start} {digest_of_files(sorted((weights / folder).glob('*.*')))}"
    for start in ("timm", "dino-resnet50", None):
        assert start_identity(start) == start
    file = tmp_path / "clip.pt"
    file.write_bytes(b"clip")
    assert clip_identity("ViT-B-16", str(file)) == weights_identity(str(file)) == known_digest(file)
    assert (clip_identity("ViT-B-16/openai", None), weights_identity("dino-vit-s-8")) == ("", "dino-vit-s-8")


def test_all_that_the_world_s_package_carries_counts(tmp_path, monkeypatch):
    shutil.copytree(models.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(models, "WEIGHTS", tmp_path / "weights")
    seen = {models.fingerprint()}
    files = ("clip/merges.txt.gz", "dino/config.json", "clip-dinoiser.safetensors", "namedmask.safetensors")
    for name in (*files, "__init__.py"):  # the last: another version of the package, with the same models
        (tmp_path / "weights" / name).write_bytes(b"# another")
        seen.add(models.fingerprint())
    assert len(seen) == 5


def test_what_the_world_has_not_is_said_with_the_way_to_have_it(tmp_path, monkeypatch):
    with pytest.raises(WorldModelError, match=r"the world has no model 'clyp'; choose one of clip, clip-resnet"):
        find("world:clyp")
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    for name, trained_by in models.TRAINED_BY.items():
        with pytest.raises(WorldModelError, match=f"world's {name} .*train it with `wordmask {trained_by}`"):
            find(f"world:{name}")
    assert issubclass(WorldModelError, WeightsError)


def test_a_clip_comes_from_a_folder_with_its_own_tokenizer(tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(models.WEIGHTS / "clip", folder)
    own, world = clip_at(folder, None, PLAIN), clip_at("world", None, PLAIN)
    assert (own.name, world.name) == ("mine", "world/clip")
    assert own.text_fingerprint == world.text_fingerprint
    assert own.image_fingerprint == world.image_fingerprint
    assert own.grounds != world.grounds
    (folder / "merges.txt.gz").unlink()  # OpenAI's merges, then
    assert clip_at(folder, None, PLAIN).text_fingerprint != world.text_fingerprint
    assert clip_at(folder, None, Compute("cpu", "bf16")).precision == "bf16"
    (tmp_path / "empty").mkdir()
    for address, file, told in (
        (folder, "other.pt", "brings its own weights; name the architecture that other.pt is of"),
        (tmp_path / "empty", None, "is a folder without open_clip_config.json"),
        ("ViT-B-16", None, "names no weights: write ARCHITECTURE/TAG, or give clip_weights=FILE"),
    ):
        with pytest.raises(ClipError, match=told):
            clip_at(address, file, PLAIN)


def test_a_dino_comes_from_a_folder(tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(models.WEIGHTS / "dino", folder)
    own, world = dino_at(folder, None, PLAIN), dino_at("world", None, PLAIN)
    assert (own.name, world.name) == ("mine", "world/dino")
    assert own.fingerprint == world.fingerprint
    assert dino_at(str(folder), None, Compute("cpu", "bf16")).precision == "bf16"
    with pytest.raises(DinoError, match="brings its own weights"):
        dino_at(folder, "other.pt", PLAIN)


def test_a_folder_of_timm_s_as_the_hub_has_it_loses_its_classifier(tmp_path):
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32, depth=1)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    half = [0.5, 0.5, 0.5]
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 5, "model_args": {"img_size": 32, "depth": 1}}
    config["pretrained_cfg"] = {"mean": half, "std": half, "hf_hub_id": "somebody/else"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    dino = dino_at(tmp_path, None, PLAIN)
    assert dino.statistics == ImageStatistics(tuple(half), tuple(half))
    assert torch.equal(dino.model.cls_token, network.cls_token)
    assert not any(name.startswith("head") for name in dino.model.state_dict())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"architecture": "vit_none"}, "no network of timm's is called 'vit_none'"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "may not hold checkpoint_path"),
        ({"model_args": []}, None),
        ({"architecture": None}, "no network"),
        ({"model_args": 7}, "no readable config"),
    ],
)
def test_a_folder_that_asks_for_more_than_a_network_is_refused(tmp_path, changed, told):
    shutil.copytree(models.WEIGHTS / "resnet", tmp_path / "net")
    config = json.loads((tmp_path / "net" / "config.json").read_text()) | changed
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    with pytest.raises(TimmFolderError if told else WeightsError, match=told):
        load_timm_folder(tmp_path / "net")


def test_a_backbone_starts_from_a_folder_as_from_what_a_plug_in_brings(tmp_path):
    networks = [DeepLabV3Plus(2, small_resnet_settings()) for _ in range(3)]
    for network, start in zip(networks, ("world", "world:resnet", models.WEIGHTS / "resnet"), strict=True):
        fill_backbone(network, start)
    assert len({fingerprint(network.backbone) for network in networks}) == 1
    fill_backbone(networks[0], "world-clip")
    assert fingerprint(networks[0].backbone) != fingerprint(networks[1].backbone)


def test_a_file_cannot_have_an_encoder_fetched(tmp_path):
    network = load_network("world")
    write_network(tmp_path / "small.safetensors", network, encoder="https://example.org/dino.pt")
    with pytest.raises(SaliencyError, match=r"example.org.*which no package of this installation brings"):
        load_network(tmp_path / "small.safetensors")


def test_files_and_folders_are_their_own_addresses(tmp_path):
    (tmp_path / "one").mkdir()
    file = tmp_path / "one" / "a.pt"
    file.write_bytes(b"a")
    assert find(tmp_path / "one") == Found(tmp_path / "one")
    assert resolve(str(file)) == file
    assert SelfMaskSettings(network=file).network == str(file)
    with pytest.raises(WeightsError, match="is a folder: name the weight file in it"):
        resolve(tmp_path / "one")


def test_statistics_are_those_of_the_libraries():
    assert ImageStatistics() == ImageStatistics(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    assert ImageStatistics(timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD) == IMAGENET


def test_compute_is_settled_as_it_is_made():
    settled = Compute()
    assert settled == Compute(settled.device, settled.precision)
    assert "auto" not in (settled.device, settled.precision)
    assert (Compute("cpu", "bf16").dtype, Compute("cpu", "fp32")) == (torch.bfloat16, PLAIN)
    with pytest.raises(AttributeError):
        settled.device = "cpu"


def test_an_empty_address_is_no_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find(".").path.is_dir()
    for read in (find, resolve):
        with pytest.raises(WeightsError, match="an address of weights is empty"):
            read("")
    with pytest.raises(ClipError, match="clip='' is no folder on this machine"):
        clip_at("", None, PLAIN)


@pytest.mark.parametrize(
    "read", [find, lambda address: clip_at(address, None, PLAIN), lambda address: dino_at(address, None, PLAIN)]
)
def test_an_unknown_scheme_is_refused_with_those_that_there_are(read, package):
    with pytest.raises(WeightsError, match=r"no scheme is called 'nope'; .*open_clip:, timm:.*world:, theirs:"):
        read("nope:x")


def test_a_drive_of_windows_is_no_scheme():
    with pytest.raises(WeightsError, match="is no file on this machine; nor is it"):
        find("C:\\weights.pt")


def test_a_network_of_another_kind_is_refused_by_the_address_that_was_given(tmp_path):
    file = tmp_path / "file.pt"
    file.write_bytes(b"")
    for read, address, error, told in (
        (clip_at, "world:dino", ClipError, "clip='world:dino' is no CLIP"),
        (clip_at, "world:found", ClipError, "clip='world:found' is no CLIP"),
        (dino_at, "world:clip", DinoError, "dino='world:clip' is no DINO"),
        (clip_at, file, ClipError, "is a file: give clip=ARCHITECTURE, clip_weights=FILE"),
        (dino_at, file, DinoError, "is a file: give dino=ARCHITECTURE, dino_weights=FILE"),
    ):
        with pytest.raises(error, match=told):
            read(address, None, PLAIN)
    with pytest.raises(WeightsError, match="'world:dino' is a whole network in a folder, no file of weights for head"):
        resolve("world:dino", "head")


def test_a_scheme_alone_that_has_nothing_of_the_kind_says_how_to_name_it():
    with pytest.raises(WeightsError, match=r"world has nothing for dino_weights; write world:NAME \(.* clip-resnet,"):
        dino_at("vit_small_patch16_224.dino", "world", PLAIN)
    with pytest.raises(WorldModelError, match="the world has no model 'nothing'"):
        find("world:nothing")
