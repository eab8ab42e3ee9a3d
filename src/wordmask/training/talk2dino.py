"""Talk2DINO's training: two small layers learn where among DINO's patches a caption belongs, from captions alone.

DINO and CLIP stand still and no crop is left to chance, so every picture and caption is read once, into the run's
folder. Of a picture, what each head of CLS's last attention looks at is kept; a caption is drawn to the one of its own
picture's heads that is nearest to it, and away from other pictures.
"""

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as settings
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.console.progress import Progress
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at
from wordmask.pictures.prefetch import ahead
from wordmask.runs.claim import claimed
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.runs.records import keep_settings
from wordmask.runs.shards import make_shards
from wordmask.segmenters.talk2dino import TextMapper, cls_logits
from wordmask.training.captions import CaptionedPictures
from wordmask.training.claim import claimed_run
from wordmask.training.crops import centre_crop
from wordmask.training.errors import TrainingError
from wordmask.training.loop import MOST_THREADS, Objective, PicturesTraining, train
from wordmask.training.order import seen_at
from wordmask.weights.loading import fingerprint, read_state_dict, write_state_dict

VERB, MAPPER_FILE = "train-talk2dino", "talk2dino.safetensors"
FOLDER, READ = "read", "read captions"
"""In a run's folder, what was read; and the claim on it."""
BLOCK = 128
"""Pictures in one file of what was read: all that a kill can cost before the first step."""
TOGETHER = 16
"""Pictures that go through DINO together."""
TEMPERATURE = 0.07
Nothing = Annotated[float, Field(ge=0, le=0)]


@settings(frozen=True)
class Talk2DinoTraining(PicturesTraining):
    """Figures are Talk2DINO's. pictures: a folder of webdataset tars, or one of them, with captions.

    epochs: how often every caption is learnt from. divided: the loss is divided by the batch's square, as in the
    published code; Adam's steps hardly depend on it.
    """

    verb: ClassVar[str] = VERB

    clip: str = "ViT-B-16/openai"
    clip_weights: str | None = None
    dino: str = "vit_base_patch14_reg4_dinov2.lvd142m"
    dino_weights: str | None = None
    crop: PositiveInt = 448
    scale: None = None
    flip: Nothing = 0.0
    blur: Nothing = 0.0
    batch: Annotated[int, Field(ge=2)] = 128
    learning_rate: PositiveFloat = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    epochs: PositiveInt = 100
    divided: bool = False

    def steps(self, pictures: int) -> int:
        return max(1, self.epochs * pictures // self.batch)


@dataclass(frozen=True)
class Pairs:
    """Captions with their pictures, both as they were read."""

    heads: Tensor  # (B, H, C) what each head of CLS looks at, L2-normalised
    texts: Tensor  # (B, D) as CLIP projects them


def head_features(tokens: Tensor, logits: Tensor) -> Tensor:
    """Patch tokens (B, C, h, w) and what CLS's heads look at (B, H, h*w) -> (B, H, C): the mean of the patches under
    each head's softmax, L2-normalised.
    """
    seen = torch.einsum("bhn,bcn->bhc", logits.softmax(dim=-1), tokens.flatten(2))
    return F.normalize(seen, dim=-1)


class PairStore:
    """What was read of pictures and captions, in files of a few; what is there is not read again."""

    def __init__(
        self,
        folder: Path,
        pictures: CaptionedPictures,
        clip: ClipEncoder,
        dino: DinoEncoder,
        crop: int,
        say: Say = warn,
    ):
        if crop % dino.patch_size:
            raise TrainingError(f"crop={crop} is no multiple of {dino.name}'s patch, {dino.patch_size}")
        self.folder, self.pictures, self.clip, self.dino, self.crop = folder, pictures, clip, dino, crop
        self._parts = Parts(say)
        self._identity = {
            "pictures": pictures.fingerprint,
            "dino": [dino.name, fingerprint(dino.model)],
            "clip": [clip.name, clip.text_fingerprint],
            "crop": crop,
        }

    def complete(self, progress: Progress | None = None) -> None:
        """Read all that is not there yet."""
        with claimed(self.folder, READ, error=TrainingError):
            keep_settings(
                self.folder / "settings.json",
                self._identity,
                holds=f"{self.folder} holds captions and pictures",
                error=TrainingError,
            )
            make_shards(
                self._numbers,
                self._write,
                is_made=lambda number: self._parts.whole(self._path(number)),
                weight=lambda number: len(self._range(number)),
                progress=progress,
            )

    def everything(self) -> Pairs:
        """(N, ...) each, in memory: heads at half precision."""
        files = [read_state_dict(self._path(number)) for number in self._numbers]
        return Pairs(torch.cat([file["heads"] for file in files]), torch.cat([file["texts"] for file in files]))

    def _write(self, number: int) -> None:
        captions, heads, batch = [], [], []
        with closing(ahead(self._cut, self._range(number), threads=MOST_THREADS)) as crops:
            for place, (index, image) in enumerate(crops, start=1):
                captions.append(self.pictures.captions[index])
                batch.append(image)
                if len(batch) == TOGETHER or place == len(self._range(number)):
                    features = self.dino(torch.stack(batch).float() / 255)
                    heads.append(head_features(features.tokens, cls_logits(features)).half().cpu())
                    batch = []
        texts = self.clip.encode_text(captions, unit=False, cut=True).float().cpu()
        write_state_dict(self._path(number), {"heads": torch.cat(heads), "texts": texts}, {}, write=write_part)

    def _cut(self, index: int) -> tuple[int, Tensor]:
        index, image = self.pictures.readable(index)
        return index, centre_crop(image, None, self.crop)[0]

    @property
    def _numbers(self) -> range:
        return range(-(-len(self.pictures) // BLOCK))

    def _range(self, number: int) -> range:
        return range(number * BLOCK, min((number + 1) * BLOCK, len(self.pictures)))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


def pairs_of(
    first: int, last: int, share: slice, *, pairs: Pairs, settings: Talk2DinoTraining
) -> Generator[Pairs, None, None]:
    """Yield the batches of the steps from `first` to before `last`: every pair once an epoch, in an order that depends
    on the seed alone.
    """
    for step in range(first, last):
        places = np.arange(step * settings.batch, (step + 1) * settings.batch)[share]
        chosen = torch.from_numpy(seen_at(places, len(pairs.texts), settings.seed))
        yield Pairs(pairs.heads[chosen].float(), pairs.texts[chosen])


class Talk2DinoObjective(Objective):
    """The mapper, and the temperature of the loss."""

    def __init__(self, clip: ClipEncoder, dino: DinoEncoder, settings: Talk2DinoTraining):
        super().__init__()
        self.mapper = TextMapper(clip.embedding_size, dino.width)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))
        self.settings = settings
        self.teachers = (clip.text_fingerprint, fingerprint(dino.model))

    def losses(self, pairs: Pairs, step: int) -> dict[str, Tensor]:
        device = self.logit_scale.device
        words = F.normalize(self.mapper(pairs.texts.to(device)), dim=-1)  # (B, C)
        loss = contrastive_loss(words, nearest_heads(words, pairs.heads.to(device)), self.logit_scale.exp())
        return {"contrastive": loss / len(words) ** 2 if self.settings.divided else loss}


def nearest_heads(words: Tensor, heads: Tensor) -> Tensor:
    """Words (B, C) and their own pictures' heads (B, H, C), all of length 1 -> the head nearest to each, (B, C)."""
    nearest = torch.einsum("bc,bhc->bh", words, heads).argmax(dim=1)
    return heads[torch.arange(len(heads), device=heads.device), nearest]


def contrastive_loss(words: Tensor, pictures: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE both ways: words and pictures (B, C), of which those of one place belong together."""
    logits = scale * pictures @ words.T  # (B, B)
    own = torch.arange(len(words), device=words.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def read_for(settings: Talk2DinoTraining, progress: Progress | None = None) -> PairStore:
    """Read, or go on reading, the pictures and captions of a training."""
    pictures = CaptionedPictures(settings.pictures, settings.most_pictures, settings.seed)  # before anything is fetched
    compute = Compute(settings.device, settings.precision)
    clip = clip_at(settings.clip, settings.clip_weights, compute)
    dino = dino_at(settings.dino, settings.dino_weights, compute)
    return read_with(clip, dino, settings, pictures, progress)


def read_with(
    clip: ClipEncoder,
    dino: DinoEncoder,
    settings: Talk2DinoTraining,
    pictures: CaptionedPictures,
    progress: Progress | None = None,
) -> PairStore:
    """`read_for` with networks and pictures at hand."""
    store = PairStore(settings.out / FOLDER, pictures, clip, dino, settings.crop)
    with claimed_run(settings.out, VERB, Talk2DinoTraining.__name__):
        store.complete(progress)
    return store


def train_talk2dino(settings: Talk2DinoTraining, read: PairStore, progress: Progress | None = None) -> TextMapper:
    """Run, or go on with, a training on what was read; the mapper, which also lies in `out` as talk2dino.safetensors,
    halved.
    """
    clip, dino, pictures = read.clip, read.dino, read.pictures
    with claimed_run(settings.out, VERB, Talk2DinoTraining.__name__):
        torch.manual_seed(settings.seed)
        objective = Talk2DinoObjective(clip, dino, settings)
        steps = settings.steps(len(pictures))
        train(
            objective,
            settings,
            pictures,
            steps=steps,
            rate=lambda step: 1.0,
            batches=partial(pairs_of, pairs=read.everything(), settings=settings),
            progress=progress,
        )
        told = {
            "clip": clip.name,
            "dino": dino.name,
            "settings": settings.identity(pictures),
            "steps": str(steps),
            "temperature": f"{objective.logit_scale.exp().reciprocal().item():.4f}",
        }
        halved = {name: value.half() for name, value in objective.mapper.state_dict().items()}
        write_state_dict(settings.out / MAPPER_FILE, halved, told)
    return objective.mapper
