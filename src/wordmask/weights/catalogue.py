"""Every published file the methods here can start from: where it is, what it is, under which licence.

Nothing here touches the network or imports torch, so that listing the catalogue is instant.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wordmask.errors import WordmaskError
from wordmask.weights.cache import address_mark, cache_dir, file_name

Kind = Literal["clip", "dino", "saliency", "segmenter", "heads", "archive", "embeddings"]

FLOAT32_BYTES = 4


class CatalogueError(WordmaskError):
    """No entry of that name; the message lists the nearest ones."""


@dataclass(frozen=True)
class Weight:
    """One published file.

    `source` and `mirrors` are addresses of the same tensors, though not always the same bytes: a URL,
    `open_clip:ARCHITECTURE/TAG` or `timm:NAME`. `bytes` is an estimate unless `bytes_exact`. `sha256`, where its
    publisher gives one, is of the file behind the entry's only URL.
    """

    name: str
    kind: Kind
    source: str
    licence: str
    bytes: int
    sha256: str | None = None
    mirrors: tuple[str, ...] = ()
    bytes_exact: bool = False
    gated: bool = False  # the hub asks for a sign-in and a consent first
    note: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.source, *self.mirrors)


HUB_FILES = {
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "timm": ("model.safetensors", "pytorch_model.bin"),
}
"""What the two libraries call their files on the hub, the safe format first."""

OPEN_CLIP_REPOSITORIES = {
    "ViT-B-16/laion2b_s34b_b88k": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    "ViT-B-32/laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "ViT-B-16/openai": "timm/vit_base_patch16_clip_224.openai",
    "ViT-L-14/openai": "timm/vit_large_patch14_clip_224.openai",
    "ViT-L-14-336/openai": "timm/vit_large_patch14_clip_336.openai",
    "RN50/openai": "timm/resnet50_clip.openai",
    "RN50x16/openai": "timm/resnet50x16_clip.openai",
}
"""Where `open_clip` finds these tags; its own table, repeated because importing it takes seconds."""

_OPENAI = "https://openaipublic.azureedge.net/clip/models"
_DINO = "https://dl.fbaipublicfiles.com/dino"
_NAMEDMASK = "https://www.robots.ox.ac.uk/~vgg/research/namedmask/shared_files"
_SELFMASK = "https://www.robots.ox.ac.uk/~vgg/research/selfmask/shared_files"
_SELFMASK_RELEASE = "https://github.com/NoelShin/selfmask/releases/download/v1.0.0"
_RECO = "https://www.robots.ox.ac.uk/~vgg/research/reco/shared_files"

VOC_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table"),
    *("dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor"),
)


def _laion_clip(name: str, tag: str, parameters: int) -> Weight:
    return Weight(name, "clip", f"open_clip:{tag}", "MIT", FLOAT32_BYTES * parameters)


def _openai_clip(name: str, tag: str, parameters: int, sha256: str, file: str) -> Weight:
    """OpenAI's addresses carry the SHA-256 of the file; what lies there is a TorchScript archive."""
    original = f"{_OPENAI}/{sha256}/{file}"
    size = FLOAT32_BYTES * parameters
    return Weight(name, "clip", f"open_clip:{tag}", "MIT", size, sha256, mirrors=(original,))


def _dino(name: str, file: str, parameters: int, timm_name: str | None = None, note: str = "") -> Weight:
    source, mirrors = f"{_DINO}/{file}/{file}.pth", (f"timm:{timm_name}",) if timm_name else ()
    size = FLOAT32_BYTES * parameters
    return Weight(name, "dino", source, "Apache-2.0", size, mirrors=mirrors, note=note)


def _timm_dino(name: str, timm_name: str, parameters: int, note: str = "") -> Weight:
    return Weight(name, "dino", f"timm:{timm_name}", "Apache-2.0", FLOAT32_BYTES * parameters, note=note)


def _dinov3(name: str, timm_name: str, parameters: int) -> Weight:
    return Weight(
        name,
        "dino",
        f"timm:{timm_name}",
        "DINOv3 License",
        FLOAT32_BYTES * parameters,
        gated=True,
        note="its own licence, not an open-source one: read and accept it on the hub, then sign in there",
    )


def _namedmask(name: str, path: str, megabytes: float, note: str = "") -> Weight:
    size = int(megabytes * 1e6)
    return Weight(f"namedmask-{name}", "segmenter", f"{_NAMEDMASK}/{path}", "MIT", size, note=note)


def _namedmask_archive(name: str, path: str, names: int) -> Weight:
    """500 ImageNet paths a name, each of about 80 characters in the file."""
    note = "500 ImageNet paths a name; needs the user's own ImageNet"
    source = f"{_NAMEDMASK}/{path}_category_to_p_images_n500.json"
    return Weight(f"namedmask-archive-{name}", "archive", source, "MIT", 80 * 500 * names, note=note)


def _namedmask_masks(name: str, path: str, megabytes: float) -> Weight:
    note = "pseudo-masks of the archive's ImageNet images, one RLE JSON each"
    size = int(megabytes * 1e6)
    return Weight(f"namedmask-masks-{name}", "archive", f"{_NAMEDMASK}/{path}", "MIT", size, note=note)


def _selfmask(queries: int) -> Weight:
    file = f"selfmask_nq{queries}.pt"
    parameters = 36_166_657 + 384 * queries  # ViT-S/8, six decoder layers, objectness head; one vector a query
    return Weight(
        f"selfmask-nq{queries}",
        "saliency",
        f"{_SELFMASK}/{file}",
        "MIT",
        FLOAT32_BYTES * parameters,
        mirrors=(f"{_SELFMASK_RELEASE}/{file}",),
        note="the copies differ: one has its state dict under 'model'",
    )


def _imagenet_embeddings(split: str, images: int) -> Weight:
    """768 float32 numbers an image and about 280 bytes of pickle around them (4.3 GB for the train split)."""
    return Weight(
        f"imagenet-embeddings-{split}",
        "embeddings",
        f"{_RECO}/filename_to_ViT_L_14_336px_{split}_img_embedding.pkl",
        "not stated",
        (768 * FLOAT32_BYTES + 280) * images,
        note="CLIP ViT-L/14@336px embeddings of ImageNet-1k: a pickled dictionary, file name -> tensor",
    )


# Estimates of size count the numbers in each architecture's state dict, or are the publisher's rounded figure.
CATALOGUE: tuple[Weight, ...] = (
    _laion_clip("clip-vit-b-16-laion2b", "ViT-B-16/laion2b_s34b_b88k", 149_620_737),
    _laion_clip("clip-vit-b-32-laion2b", "ViT-B-32/laion2b_s34b_b79k", 151_277_313),
    _openai_clip(
        "clip-vit-b-16-openai",
        "ViT-B-16/openai",
        149_620_737,
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        "ViT-B-16.pt",
    ),
    _openai_clip(
        "clip-vit-l-14-openai",
        "ViT-L-14/openai",
        427_616_513,
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        "ViT-L-14.pt",
    ),
    _openai_clip(
        "clip-vit-l-14-336-openai",
        "ViT-L-14-336/openai",
        427_944_193,
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        "ViT-L-14-336px.pt",
    ),
    _openai_clip(
        "clip-rn50-openai",
        "RN50/openai",
        102_060_440,
        "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
        "RN50.pt",
    ),
    _openai_clip(
        "clip-rn50x16-openai",
        "RN50x16/openai",
        291_173_264,
        "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
        "RN50x16.pt",
    ),
    _dino(
        "dino-vit-s-8",
        "dino_deitsmall8_300ep_pretrain",
        21_670_272,
        note="the 300-epoch run, which FOUND's head was trained on; timm carries another run",
    ),
    _timm_dino(
        "dino-vit-s-8-timm",
        "vit_small_patch8_224.dino",
        21_670_272,
        note="another training run than dino-vit-s-8",
    ),
    _dino("dino-vit-s-16", "dino_deitsmall16_pretrain", 21_665_664, "vit_small_patch16_224.dino"),
    _dino("dino-vit-b-8", "dino_vitbase8_pretrain", 85_807_872, "vit_base_patch8_224.dino"),
    _dino("dino-vit-b-16", "dino_vitbase16_pretrain", 85_798_656, "vit_base_patch16_224.dino"),
    _dino("dino-resnet50", "dino_resnet50_pretrain", 23_561_205),
    _timm_dino("dinov2-vit-s-14", "vit_small_patch14_dinov2.lvd142m", 22_056_192),
    _timm_dino("dinov2-vit-b-14", "vit_base_patch14_dinov2.lvd142m", 86_579_712),
    _timm_dino("dinov2-vit-l-14", "vit_large_patch14_dinov2.lvd142m", 304_367_616),
    _timm_dino("dinov2-vit-s-14-registers", "vit_small_patch14_reg4_dinov2.lvd142m", 22_057_344),
    _timm_dino("dinov2-vit-b-14-registers", "vit_base_patch14_reg4_dinov2.lvd142m", 86_582_016),
    _timm_dino("dinov2-vit-l-14-registers", "vit_large_patch14_reg4_dinov2.lvd142m", 304_370_688),
    _dinov3("dinov3-vit-s-16", "vit_small_patch16_dinov3.lvd1689m", 21_586_944),
    _dinov3("dinov3-vit-b-16", "vit_base_patch16_dinov3.lvd1689m", 85_641_216),
    _dinov3("dinov3-vit-l-16", "vit_large_patch16_dinov3.lvd1689m", 303_079_424),
    Weight(
        "found",
        "saliency",
        "https://github.com/valeoai/FOUND/raw/main/data/weights/decoder_weights.pt",
        "Apache-2.0",
        FLOAT32_BYTES * (384 + 1),  # one 1x1 convolution; the pickle around it is as long again
        note="a head for dino-vit-s-8",
    ),
    _selfmask(20),
    _selfmask(10),
    Weight(
        "clip-dinoiser",
        "heads",
        "https://github.com/wysoczanska/clip_dinoiser/raw/main/checkpoints/last.pt",
        "Apache-2.0",
        FLOAT32_BYTES * (256 * 768 * 9 + 256 + 768 + 1),
        note="affinity and objectness heads for clip-vit-b-16-laion2b",
    ),
    _namedmask("voc2012", "voc2012/namedmask_voc2012.pt", 102, "VOC2012 val: mIoU 59.3"),
    _namedmask("coco2017", "coco2017/namedmask_coco2017.pt", 102, "COCO2017 val: mIoU 27.7"),
    _namedmask("coca", "coca/namedmask_coca.pt", 102, "CoCA: mIoU 27.4"),
    _namedmask(
        "cityscapes-object",
        "cityscapes/namedmask_cityscapes_object.pt",
        102,
        "Cityscapes objects: mIoU 18.2",
    ),
    _namedmask("imagenet-s50", "imagenet-s/namedmask_imagenet_s50.pt", 102, "ImageNet-S50 test: mIoU 47.5"),
    _namedmask("imagenet-s300", "imagenet-s/namedmask_imagenet_s300.pt", 103, "ImageNet-S300 test: mIoU 33.1"),
    _namedmask("imagenet-s919", "imagenet-s/namedmask_imagenet_s919.pt", 103, "ImageNet-S919 test: mIoU 23.1"),
    *(
        _namedmask(f"expert-{name.replace(' ', '-')}", f"voc2012/experts/expert_{name.replace(' ', '_')}.pt", 102)
        for name in VOC_NAMES
    ),
    _namedmask_archive("voc2012", "voc2012/voc2012", 20),
    _namedmask_archive("coco2017", "coco2017/coco2017", 80),
    _namedmask_archive("coca", "coca/coca", 80),
    _namedmask_archive("cityscapes-object", "cityscapes/cityscapes_object", 14),
    _namedmask_masks("selfmask", "imagenet2012/selfmask.zip", 89),
    _namedmask_masks("voc2012", "voc2012/voc2012.zip", 11),
    _namedmask_masks("coco2017", "coco2017/coco2017.zip", 36),
    _namedmask_masks("coca", "coca/coca.zip", 36),
    _namedmask_masks("cityscapes-object", "cityscapes/cityscapes_object.zip", 6.5),
    _imagenet_embeddings("train", 1_281_167),
    _imagenet_embeddings("val", 50_000),
)

_BY_NAME = {entry.name: entry for entry in CATALOGUE}
_BY_ADDRESS = {address: entry for entry in CATALOGUE for address in entry.addresses}


def find(name: str) -> Weight:
    """The entry of exactly this name."""
    if entry := _BY_NAME.get(name):
        return entry
    near = difflib.get_close_matches(name.lower(), _BY_NAME, n=5)
    hint = f"did you mean {', '.join(near)}?" if near else "`wordmask models` lists them all"
    raise CatalogueError(f"no weights in the catalogue are called {name!r}: {hint}")


def at(address: str) -> Weight | None:
    """The entry that has this source or mirror."""
    return _BY_ADDRESS.get(address)


def is_url(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def place(entry: Weight, url: str) -> Path:
    """Where the file of this URL is kept. Copies may share a name and differ in bytes, so each has its own place."""
    file = file_name(url) if url == entry.source else f"{address_mark(url)}-{file_name(url)}"
    return cache_dir() / entry.name / file


def hub_files(address: str) -> tuple[tuple[str, str], ...]:
    """The (repository, file) pairs on the hub that a catalogued `open_clip:` or `timm:` address may mean."""
    library, _, name = address.partition(":")
    repository = OPEN_CLIP_REPOSITORIES[name] if library == "open_clip" else f"timm/{name}"
    return tuple((repository, file) for file in HUB_FILES[library])


def local_copy(entry: Weight, address: str) -> Path | None:
    """The file of this one address, if this machine has it. Asks the disk alone."""
    if is_url(address):
        path = place(entry, address)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    for repository, file in hub_files(address):
        if isinstance(found := try_to_load_from_cache(repository, file), str):
            return Path(found)
    return None


def local(entry: Weight) -> Path | None:
    """The entry's file, if this machine has a copy from any of its addresses. Asks the disk alone."""
    copies = (local_copy(entry, address) for address in entry.addresses)
    return next((path for path in copies if path), None)


def as_row(entry: Weight) -> dict[str, str | int | None]:
    """One line of `wordmask models --json`."""
    path = local(entry)
    return {
        "name": entry.name,
        "kind": entry.kind,
        "source": entry.source,
        "licence": entry.licence,
        "bytes": entry.bytes,
        "local": str(path) if path else None,
    }
