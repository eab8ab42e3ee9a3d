"""The CLIP's teacher: a small convolutional network that learns from captions.

A transformer this small stays near chance for a hundred thousand pictures when it has captions alone; a convolutional
network does not, and its feature maps carry the transformer over that plateau (see `clip`).
"""

import shutil
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.console.progress import Progress
from wordmask.encoders.statistics import ImageStatistics
from wordmask.names.prompts import Templates, templates
from wordmask_world.drawing.names import NAMES, STUFF
from wordmask_world.training import losses
from wordmask_world.training.batches import Batch, Stage
from wordmask_world.training.data import TrainingPictures
from wordmask_world.training.figures import naming, recall_at_1
from wordmask_world.training.loop import Recipe, TrainingSettings, train
from wordmask_world.training.resnet import read_maps, small_resnet
from wordmask_world.training.text import (
    CONTEXT_LENGTH,
    count_words,
    learn_merges,
    load_tokenizer,
    read_text,
    template_words,
    write_merges,
)

MERGES_FILE = "merges.txt.gz"
WORDS_FROM = 20_000
"""Pictures whose captions the tokenizer is made from: every word of the world occurs in far fewer."""
PEAK_SHARE = 0.1
"""The best tenth of a map answers for a name: about the share of the picture that a thing of a crowded one takes."""
NAMES_WEIGHT = 0.3
"""Of the losses that ask for all names: they start near 3, the contrastive loss near 5."""
STATISTICS = ImageStatistics()
LARGEST_SCALE = 100.0
"""Of the logits, as in CLIP."""


@dataclass(frozen=True)
class ClipArchitecture:
    """The sizes of the small CLIP."""

    embedding: int = 128
    image_size: int = 128
    patch: int = 8
    width: int = 192
    blocks: int = 6
    head_width: int = 64
    text_width: int = 128
    text_blocks: int = 3
    text_heads: int = 4

    def config(self, vocabulary: int) -> dict[str, Any]:
        """The arguments of `open_clip.CLIP`, and what its model configs hold."""
        return {
            "embed_dim": self.embedding,
            "vision_cfg": {
                "image_size": self.image_size,
                "layers": self.blocks,
                "width": self.width,
                "head_width": self.head_width,
                "patch_size": self.patch,
            },
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocabulary,
                "width": self.text_width,
                "heads": self.text_heads,
                "layers": self.text_blocks,
            },
        }


@dataclass(frozen=True)
class ClipTeacherSettings(TrainingSettings):
    architecture: ClipArchitecture = Field(default_factory=ClipArchitecture)
    channels: tuple[int, int, int, int] = (48, 96, 192, 256)
    depths: tuple[int, int, int, int] = (1, 1, 1, 1)
    stages: tuple[Stage, ...] = (
        Stage(pictures=60_000, kinds=("single", "pairs", "empty")),
        Stage(pictures=60_000, size=96),
        Stage(pictures=60_000, size=128),
    )


def train_clip_teacher(settings: ClipTeacherSettings, progress: Progress | None = None) -> "ClipTeacher":
    merges = settings.out / MERGES_FILE
    if settings.start is not None:
        settings.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(settings.start / MERGES_FILE, merges)
    elif not merges.exists():
        captions = TrainingPictures(settings.pictures).captions[:WORDS_FROM]
        words = count_words(wording for wordings in captions for wording in wordings)
        write_merges(merges, learn_merges(words + template_words()))
    torch.manual_seed(settings.seed)
    teacher = ClipTeacher(settings.architecture, settings.channels, settings.depths, load_tokenizer(merges))
    return train(teacher, settings, progress)  # type: ignore[return-value]


class Words(nn.Module):
    """The text tower and its tokenizer: `open_clip`'s own model, whose image tower is trained later or elsewhere."""

    def __init__(self, clip: Any, tokenizer: Any):
        super().__init__()
        self.clip = clip
        self.tokenizer = tokenizer

    def forward(self, texts: list[str]) -> Tensor:
        tokens = self.tokenizer(texts).to(self.clip.token_embedding.weight.device)
        return F.normalize(read_text(self.clip, tokens).float(), dim=-1)

    def names(self, prompts: Templates) -> Tensor:
        """(N, D): every name in the first of the sentences. Stuff takes no article."""
        bare = Templates(tuple(sentence.replace(" a {}", " {}") for sentence in prompts.sentences))
        return self([(bare if name in STUFF else prompts).fill(name)[0] for name in NAMES])


def random_prompts() -> Templates:
    """Half the time CLIP's plainest sentence, else any of its 80; with "an" before vowels or, as CLIP's prompts are
    mostly filled, without.
    """
    sentences = templates("imagenet-80").sentences
    drawn, by_vowel = int(torch.randint(2 * len(sentences), ())), bool(torch.randint(2, ()))
    return Templates((sentences[drawn] if drawn < len(sentences) else "a photo of a {}",), by_vowel=by_vowel)


class ClipTeacher(Recipe):
    """A small ResNet whose map of features, read through one linear layer, lies in the space of the captions.

    Its last stage is dilated, so that the map has a cell for every 16 pixels.
    """

    def __init__(
        self,
        architecture: ClipArchitecture,
        channels: tuple[int, int, int, int],
        depths: tuple[int, int, int, int],
        tokenizer: Any,
    ):
        super().__init__()
        self.trunk = small_resnet(channels, depths, output_stride=16).to(memory_format=torch.channels_last)
        self.project = nn.Linear(channels[-1], architecture.embedding)
        clip = open_clip.CLIP(**architecture.config(tokenizer.vocab_size))
        clip.visual = None  # the transformer's turn comes later
        self.words = Words(clip, tokenizer)
        self.name_loss = losses.NameLoss()
        self.peak_loss = losses.NameLoss()

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures in [0, 1] -> features at an 8th and at a 16th of their size."""
        return read_maps(self.trunk, STATISTICS.normalise(images))

    def embed(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """The last map (B, C, h, w) -> embedding (B, D) and map (B, D, h, w), both normalised."""
        cells = self.project(last.permute(0, 2, 3, 1)).float()  # (B, h, w, D)
        return F.normalize(cells.mean(dim=(1, 2)), dim=-1), F.normalize(cells, dim=-1).permute(0, 3, 1, 2)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        _, last = self.maps(batch.images)
        images, cells = self.embed(last)
        texts = self.words(batch.captions)
        names = self.words.names(random_prompts())
        scale = self.words.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)
        return {
            "contrastive": losses.contrastive_loss(images, texts, batch.captions, scale),
            "names": NAMES_WEIGHT * self.name_loss(images, names, batch.named),
            "peaks": NAMES_WEIGHT * self.peak_loss.peak(cells, names, batch.named, PEAK_SHARE),
        }

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        return self.embed(self.maps(images.to(self.project.weight.device))[1])[0]

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> Tensor:
        return self.words(prompts)

    def figures(self, first_seed: int) -> dict[str, float]:
        return {"naming": naming(self, first_seed=first_seed), "recall_at_1": recall_at_1(self, first_seed=first_seed)}
