"""The catalogue of published files: complete, consistent with the libraries it points into, and quick to read."""

import dataclasses
import json
from pathlib import Path
from typing import get_args

import huggingface_hub
import huggingface_hub.constants
import open_clip
import pytest
import timm
import torch
from open_clip.pretrained import get_pretrained_cfg

from support.script import printed_by
from wordmask.weights import catalogue
from wordmask.weights.cache import cache_dir
from wordmask.weights.catalogue import CATALOGUE, CatalogueError, Weight, as_row, find, local

GITHUB, META, OXFORD = (
    "https://github.com",
    "https://dl.fbaipublicfiles.com",
    "https://www.robots.ox.ac.uk/~vgg/research",
)
CLIPS = "ViT-B-16/laion2b_s34b_b88k ViT-B-32/laion2b_s34b_b79k ViT-B-16 ViT-L-14 ViT-L-14-336 RN50 RN50x16"
DINOS = "deitsmall8_300ep deitsmall16 vitbase16 vitbase8 resnet50"
SMALL, BASE, LARGE = "vit_small_patch", "vit_base_patch", "vit_large_patch"
TIMM = [
    *(f"{size}{patch}_224.dino" for size in (SMALL, BASE) for patch in (8, 16)),
    *(f"{size}14_dinov2.lvd142m" for size in (SMALL, BASE, LARGE)),
    *(f"{size}16_dinov3.lvd1689m" for size in (SMALL, BASE, LARGE)),
]
STUDENTS = (
    *("voc2012/namedmask_voc2012", "coco2017/namedmask_coco2017", "coca/namedmask_coca"),
    "cityscapes/namedmask_cityscapes_object",
    *(f"imagenet-s/namedmask_imagenet_s{count}" for count in (50, 300, 919)),
)
ARCHIVES = ("voc2012/voc2012", "coca/coca", "coco2017/coco2017", "cityscapes/cityscapes_object")
EXPERTS = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow dining_table dog horse motorbike person potted_plant "
    "sheep sofa train tv_monitor"
)
PUBLISHED = [
    *(f"open_clip:{tag}" if "/" in tag else f"open_clip:{tag}/openai" for tag in CLIPS.split()),
    *(f"{META}/dino/dino_{name}_pretrain/dino_{name}_pretrain.pth" for name in DINOS.split()),
    *(f"timm:{name}" for name in TIMM),
    f"{GITHUB}/valeoai/FOUND/raw/main/data/weights/decoder_weights.pt",
    f"{GITHUB}/wysoczanska/clip_dinoiser/raw/main/checkpoints/last.pt",
    f"{GITHUB}/NoelShin/selfmask/releases/download/v1.0.0/selfmask_nq20.pt",
    *(f"{OXFORD}/selfmask/shared_files/selfmask_nq{count}.pt" for count in (10, 20)),
    *(f"{OXFORD}/reco/shared_files/filename_to_ViT_L_14_336px_{part}_img_embedding.pkl" for part in ("train", "val")),
    *(f"{OXFORD}/namedmask/shared_files/{name}.pt" for name in STUDENTS),
    *(f"{OXFORD}/namedmask/shared_files/{name}_category_to_p_images_n500.json" for name in ARCHIVES),
    *(f"{OXFORD}/namedmask/shared_files/voc2012/experts/expert_{name}.pt" for name in EXPERTS.split()),
]


@pytest.fixture(autouse=True)
def empty_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("address", PUBLISHED)
def test_published_file_is_listed(address: str) -> None:
    assert address in catalogue.at(address).addresses


def test_names_and_addresses_are_unique_and_cannot_be_changed() -> None:
    names = [entry.name for entry in CATALOGUE]
    addresses = [address for entry in CATALOGUE for address in entry.addresses]
    assert (len(set(names)), len(set(addresses))) == (len(names), len(addresses))
    with pytest.raises(dataclasses.FrozenInstanceError):
        CATALOGUE[0].name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_entry_is_sound(entry: Weight) -> None:
    assert entry.kind in get_args(catalogue.Kind)
    assert entry.licence in {"MIT", "Apache-2.0", "CC-BY-NC-4.0", "DINOv3 License", "not stated"}
    assert entry.bytes is None or entry.bytes > 1000
    assert all(address.startswith(("https://", "open_clip:", "timm:")) for address in entry.addresses)
    urls = [address for address in entry.addresses if catalogue.is_url(address)]
    if entry.sha256:
        assert len(urls) == 1, "a checksum must be of one file"
        assert (len(entry.sha256), int(entry.sha256, 16) > 0) == (64, True)
    places = {catalogue.place(entry, url) for url in urls}
    assert len(places) == len(urls)
    assert all(place.parent == cache_dir() / entry.name for place in places)


def test_dinov3_says_that_it_is_gated_and_under_its_own_licence() -> None:
    gated = {entry.name: entry.licence for entry in CATALOGUE if entry.gated}
    assert gated == dict.fromkeys(("dinov3-vit-s-16", "dinov3-vit-b-16", "dinov3-vit-l-16"), "DINOv3 License")


def test_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(CatalogueError, match="did you mean .*selfmask-nq20"):
        find("SelfMask-nq2")
    with pytest.raises(CatalogueError, match="`wordmask models` lists them all"):
        find("zzzzzz")
    assert find("selfmask-nq20").name == "selfmask-nq20"


# Where the libraries keep theirs


def tensors_bytes(model: torch.nn.Module) -> int:
    return 4 * sum(tensor.numel() for tensor in model.state_dict().values())


@pytest.mark.parametrize("tag", catalogue.OPEN_CLIP_REPOSITORIES)
def test_open_clip_finds_its_tags_in_the_same_repositories_and_its_size_is_that_of_its_architecture(tag: str) -> None:
    known, entry = get_pretrained_cfg(*tag.split("/")), catalogue.at(f"open_clip:{tag}")
    assert known["hf_hub"] == f"{catalogue.OPEN_CLIP_REPOSITORIES[tag]}/"
    assert list(entry.mirrors) == ([known["url"]] if known["url"] else [])
    assert entry.sha256 is None or known["url"].split("/")[-2] == entry.sha256
    with torch.device("meta"):
        model = open_clip.CLIP(**open_clip.get_model_config(tag.split("/")[0]))
    assert entry.bytes == tensors_bytes(model)


@pytest.mark.parametrize(
    "name", [at.removeprefix("timm:") for entry in CATALOGUE for at in entry.addresses if at.startswith("timm:")]
)
def test_timm_finds_its_names_in_the_same_repositories_and_their_size_is_that_of_their_architecture(name: str) -> None:
    known, entry = timm.get_pretrained_cfg(name), catalogue.at(f"timm:{name}")
    assert (known.hf_hub_id, known.hf_hub_filename) == (f"timm/{name}", None)
    assert known.license == {"Apache-2.0": "apache-2.0", "DINOv3 License": "dinov3-license"}[entry.licence]
    if catalogue.is_url(entry.source):
        assert known.url == entry.source, "a mirror must carry the same tensors"
    with torch.device("meta"):
        model = timm.create_model(name)
    assert entry.bytes == tensors_bytes(model)


# What is on this machine


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    return path


def test_nothing_is_local_on_a_fresh_machine() -> None:
    assert [entry.name for entry in CATALOGUE if local(entry)] == []


@pytest.mark.parametrize("copy", [0, 1])
def test_file_in_our_cache_is_local_whichever_copy_it_is(copy: int) -> None:
    entry = find("selfmask-nq20")
    assert put(catalogue.place(entry, entry.addresses[copy])) == local(entry)


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
    folder = empty_hub_cache / f"models--{repository.replace('/', '--')}"
    put(folder / "refs" / "main").write_text("0123abcd")
    assert put(folder / "snapshots" / "0123abcd" / file) == local(find(name))


def test_rows_are_what_the_command_prints() -> None:
    path = put(catalogue.place(find("found"), find("found").source))
    rows = json.loads(json.dumps([as_row(entry) for entry in CATALOGUE]))
    assert all(list(row) == ["name", "kind", "source", "licence", "bytes", "local"] for row in rows)
    assert {row["name"]: row["local"] for row in rows if row["local"]} == {"found": str(path)}


def test_listing_the_catalogue_imports_no_torch() -> None:
    printed_by(
        "import sys; from wordmask.weights.catalogue import CATALOGUE, as_row; [as_row(e) for e in CATALOGUE]\n"
        "sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    )
