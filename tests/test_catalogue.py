"""The catalogue of published files: complete, consistent with the libraries it points into, and quick to read."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import huggingface_hub
import huggingface_hub.constants
import open_clip
import pytest
import timm
import torch
from open_clip.pretrained import get_pretrained_cfg

from wordmask.weights import catalogue
from wordmask.weights.cache import cache_dir
from wordmask.weights.catalogue import CATALOGUE, CatalogueError, Weight, as_row, find, local

NAMEDMASK = "https://www.robots.ox.ac.uk/~vgg/research/namedmask/shared_files"
PUBLISHED = [
    "open_clip:ViT-B-16/laion2b_s34b_b88k",
    "open_clip:ViT-B-32/laion2b_s34b_b79k",
    "open_clip:ViT-B-16/openai",
    "open_clip:ViT-L-14/openai",
    "open_clip:ViT-L-14-336/openai",
    "open_clip:RN50/openai",
    "open_clip:RN50x16/openai",
    "https://dl.fbaipublicfiles.com/dino/dino_deitsmall8_300ep_pretrain/dino_deitsmall8_300ep_pretrain.pth",
    "https://dl.fbaipublicfiles.com/dino/dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth",
    "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    "https://dl.fbaipublicfiles.com/dino/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth",
    "https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth",
    "timm:vit_small_patch8_224.dino",
    "timm:vit_small_patch16_224.dino",
    "timm:vit_base_patch8_224.dino",
    "timm:vit_base_patch16_224.dino",
    "timm:vit_small_patch14_dinov2.lvd142m",
    "timm:vit_base_patch14_dinov2.lvd142m",
    "timm:vit_large_patch14_dinov2.lvd142m",
    "timm:vit_small_patch16_dinov3.lvd1689m",
    "timm:vit_base_patch16_dinov3.lvd1689m",
    "timm:vit_large_patch16_dinov3.lvd1689m",
    "https://github.com/valeoai/FOUND/raw/main/data/weights/decoder_weights.pt",
    "https://github.com/wysoczanska/clip_dinoiser/raw/main/checkpoints/last.pt",
    "https://www.robots.ox.ac.uk/~vgg/research/selfmask/shared_files/selfmask_nq10.pt",
    "https://www.robots.ox.ac.uk/~vgg/research/selfmask/shared_files/selfmask_nq20.pt",
    "https://github.com/NoelShin/selfmask/releases/download/v1.0.0/selfmask_nq20.pt",
    "https://www.robots.ox.ac.uk/~vgg/research/reco/shared_files/filename_to_ViT_L_14_336px_train_img_embedding.pkl",
    "https://www.robots.ox.ac.uk/~vgg/research/reco/shared_files/filename_to_ViT_L_14_336px_val_img_embedding.pkl",
    f"{NAMEDMASK}/voc2012/namedmask_voc2012.pt",
    f"{NAMEDMASK}/coco2017/namedmask_coco2017.pt",
    f"{NAMEDMASK}/coca/namedmask_coca.pt",
    f"{NAMEDMASK}/cityscapes/namedmask_cityscapes_object.pt",
    f"{NAMEDMASK}/imagenet-s/namedmask_imagenet_s50.pt",
    f"{NAMEDMASK}/imagenet-s/namedmask_imagenet_s300.pt",
    f"{NAMEDMASK}/imagenet-s/namedmask_imagenet_s919.pt",
    f"{NAMEDMASK}/voc2012/voc2012_category_to_p_images_n500.json",
    f"{NAMEDMASK}/coca/coca_category_to_p_images_n500.json",
    f"{NAMEDMASK}/coco2017/coco2017_category_to_p_images_n500.json",
    f"{NAMEDMASK}/cityscapes/cityscapes_object_category_to_p_images_n500.json",
    f"{NAMEDMASK}/voc2012/experts/expert_aeroplane.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_bicycle.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_bird.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_boat.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_bottle.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_bus.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_car.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_cat.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_chair.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_cow.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_dining_table.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_dog.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_horse.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_motorbike.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_person.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_potted_plant.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_sheep.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_sofa.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_train.pt",
    f"{NAMEDMASK}/voc2012/experts/expert_tv_monitor.pt",
]


@pytest.fixture(autouse=True)
def empty_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put_in_hub_cache(hub: Path, repository: str, file: str) -> Path:
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123abcd")
    path = folder / "snapshots" / "0123abcd" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize("address", PUBLISHED)
def test_published_file_is_listed(address: str) -> None:
    entry = catalogue.at(address)
    assert entry is not None
    assert address in entry.addresses


def test_names_and_addresses_are_unique() -> None:
    names = [entry.name for entry in CATALOGUE]
    addresses = [address for entry in CATALOGUE for address in entry.addresses]
    assert len(set(names)) == len(names)
    assert len(set(addresses)) == len(addresses)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_entry_is_sound(entry: Weight) -> None:
    assert entry.kind in get_args(catalogue.Kind)
    assert entry.licence in {"MIT", "Apache-2.0", "DINOv3 License", "not stated"}
    assert entry.bytes > 1000
    for address in entry.addresses:
        assert address.startswith(("https://", "open_clip:", "timm:"))
    urls = [address for address in entry.addresses if catalogue.is_url(address)]
    if entry.sha256:
        assert len(urls) == 1, "a checksum must be of one file"
        assert int(entry.sha256, 16)
        assert len(entry.sha256) == 64
    places = {catalogue.place(entry, url) for url in urls}
    assert len(places) == len(urls)
    assert all(place.parent == cache_dir() / entry.name for place in places)


def test_entries_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CATALOGUE[0].name = "other"  # type: ignore[misc]


def test_dinov3_says_that_it_is_gated_and_under_its_own_licence() -> None:
    gated = [entry for entry in CATALOGUE if entry.gated]
    assert {entry.name for entry in gated} == {"dinov3-vit-s-16", "dinov3-vit-b-16", "dinov3-vit-l-16"}
    assert {entry.licence for entry in gated} == {"DINOv3 License"}


def test_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(CatalogueError, match="did you mean .*selfmask-nq20"):
        find("SelfMask-nq2")
    with pytest.raises(CatalogueError, match="`wordmask models` lists them all"):
        find("zzzzzz")
    assert find("selfmask-nq20").name == "selfmask-nq20"


# Where the libraries keep theirs


@pytest.mark.parametrize("tag", catalogue.OPEN_CLIP_REPOSITORIES)
def test_open_clip_finds_its_tags_in_the_same_repositories(tag: str) -> None:
    known = get_pretrained_cfg(*tag.split("/"))
    assert known["hf_hub"] == f"{catalogue.OPEN_CLIP_REPOSITORIES[tag]}/"
    entry = catalogue.at(f"open_clip:{tag}")
    assert entry is not None
    assert list(entry.mirrors) == ([known["url"]] if known["url"] else [])
    assert entry.sha256 is None or known["url"].split("/")[-2] == entry.sha256


TIMM_NAMES = [
    address.removeprefix("timm:") for entry in CATALOGUE for address in entry.addresses if address.startswith("timm:")
]


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_timm_finds_its_names_in_the_same_repositories(name: str) -> None:
    known, entry = timm.get_pretrained_cfg(name), catalogue.at(f"timm:{name}")
    assert known.hf_hub_id == f"timm/{name}"
    assert known.hf_hub_filename is None
    assert entry is not None
    assert known.license == {"Apache-2.0": "apache-2.0", "DINOv3 License": "dinov3-license"}[entry.licence]
    if catalogue.is_url(entry.source):
        assert known.url == entry.source, "a mirror must carry the same tensors"


@pytest.mark.parametrize("tag", catalogue.OPEN_CLIP_REPOSITORIES)
def test_estimated_size_of_clip_is_that_of_its_architecture(tag: str) -> None:
    with torch.device("meta"):
        model = open_clip.CLIP(**open_clip.get_model_config(tag.split("/")[0]))
    entry = catalogue.at(f"open_clip:{tag}")
    assert entry is not None
    assert entry.bytes == 4 * sum(tensor.numel() for tensor in model.state_dict().values())


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_estimated_size_of_dino_is_that_of_its_architecture(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    entry = catalogue.at(f"timm:{name}")
    assert entry is not None
    assert entry.bytes == 4 * sum(tensor.numel() for tensor in model.state_dict().values())


# What is on this machine


def test_nothing_is_local_on_a_fresh_machine() -> None:
    assert [entry.name for entry in CATALOGUE if local(entry)] == []


@pytest.mark.parametrize("copy", [0, 1])
def test_file_in_our_cache_is_local_whichever_copy_it_is(copy: int) -> None:
    entry = find("selfmask-nq20")
    path = catalogue.place(entry, entry.addresses[copy])
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert local(entry) == path


@pytest.mark.parametrize(
    ("name", "repository", "file"),
    [
        ("clip-vit-b-16-laion2b", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "open_clip_model.safetensors"),
        ("clip-rn50-openai", "timm/resnet50_clip.openai", "open_clip_pytorch_model.bin"),
        ("dino-vit-b-8", "timm/vit_base_patch8_224.dino", "model.safetensors"),
        ("dinov2-vit-s-14", "timm/vit_small_patch14_dinov2.lvd142m", "pytorch_model.bin"),
    ],
)
def test_file_in_the_hub_cache_is_local(empty_hub_cache: Path, name: str, repository: str, file: str) -> None:
    path = put_in_hub_cache(empty_hub_cache, repository, file)
    assert local(find(name)) == path


def test_rows_are_what_the_command_prints() -> None:
    entry = find("found")
    path = catalogue.place(entry, entry.source)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    rows = json.loads(json.dumps([as_row(entry) for entry in CATALOGUE]))
    assert all(list(row) == ["name", "kind", "source", "licence", "bytes", "local"] for row in rows)
    assert {row["name"]: row["local"] for row in rows if row["local"]} == {"found": str(path)}


def test_listing_the_catalogue_imports_no_torch() -> None:
    code = (
        "import sys; from wordmask.weights.catalogue import CATALOGUE, as_row; [as_row(e) for e in CATALOGUE]; "
        "sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
