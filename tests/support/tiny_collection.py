"""Small piles of pictures and a CLIP that knows colours: what the tests of the distillation share."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "grey": (128, 128, 128)}


class ColourClip:
    """Embeds a picture as its mean colour, and a phrase as that of the colour it names: exact, and known beforehand."""

    name, image_size, embedding_size = "tiny/colours", (8, 8), 3
    text_fingerprint, statistics, dtype = "colours", "none", torch.float32
    device, precision = torch.device("cpu"), "fp32"

    def __init__(self, weight: float = 1.0):
        self.model = nn.Module()
        self.model.visual = nn.Module()
        self.model.visual.weight = nn.Parameter(torch.tensor(weight))
        self.pictures = 0

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        self.pictures += len(images)
        return F.normalize(images.mean(dim=(2, 3)) * self.model.visual.weight.detach(), dim=-1)

    def encode_text(self, prompts: list[str]) -> torch.Tensor:
        named = [next((c for name, c in COLOURS.items() if name in prompt), (1, 1, 1)) for prompt in prompts]
        return F.normalize(torch.tensor(named, dtype=torch.float32), dim=-1)


def embedder(clip: ColourClip | None = None) -> TextEmbedder:
    return TextEmbedder(clip or ColourClip(), templates("plain"))


def picture(seed: int, colour: str = "red", size: tuple[int, int] = (12, 16)) -> np.ndarray:
    """A square of the colour on grey ground, with noise of its own."""
    dice = np.random.default_rng(seed)
    image = np.full((*size, 3), 120.0)
    image[size[0] // 4 : -size[0] // 4, size[1] // 4 : -size[1] // 4] = COLOURS[colour]
    return np.clip(image + dice.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def write_pictures(folder: Path, count: int, *, colours: tuple[str, ...] = ("red", "green", "blue")) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d} {colours[number % len(colours)]}.png" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(picture(number, colours[number % len(colours)])))
    return paths


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_embeddings(
    folder: Path, parts: list[np.ndarray], columns: dict[str, list[object]] | None = None, **about: object
) -> None:
    """A folder in clip-retrieval's layout, as somebody else would have made it, unless `about` makes it ours."""
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    start = 0
    for number, part in enumerate(parts):
        np.save(folder / f"img_emb/img_emb_{number}.npy", part)
        own = {key: values[start : start + len(part)] for key, values in (columns or {}).items()}
        own.setdefault("image_path", [f"{start + row}.png" for row in range(len(part))])
        pq.write_table(pa.table(own), folder / f"metadata/metadata_{number}.parquet")
        start += len(part)
    if about:
        (folder / "collection.json").write_text(json.dumps(about))
