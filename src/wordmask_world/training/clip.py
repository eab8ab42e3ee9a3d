"""The small CLIP: a vision transformer that learns from captions, and from a convolutional teacher that did.

The captions say which picture a sentence belongs to and which names it mentions. The teacher (`clip_teacher`), which
saw nothing but captions either, says what each place of the picture looks like.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.console.progress import Progress
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_dense import DenseViT
from wordmask.encoders.grid import Grid
from wordmask.weights.loading import load_into, read_state_dict
from wordmask_world.training import losses
from wordmask_world.training.attention import apply_block, attend
from wordmask_world.training.batches import Batch, Stage
from wordmask_world.training.clip_teacher import (
    LARGEST_SCALE,
    MERGES_FILE,
    NAMES_WEIGHT,
    STATISTICS,
    ClipArchitecture,
    ClipTeacher,
    Words,
    random_prompts,
)
from wordmask_world.training.figures import clip_figures
from wordmask_world.training.loop import Recipe, TrainingSettings, start_from, train
from wordmask_world.training.text import load_tokenizer

TEACHER_SIZE = 128
"""The teacher looks at pictures at least this large, whatever the student's size: more detail, and a finer map."""


@dataclass(frozen=True)
class ClipSettings(TrainingSettings):
    """teacher: the folder of the teacher's run, at whose settings its architecture is given.

    tower: the weights of a CLIP with whose image tower this one begins, whatever its words were.
    """

    teacher: Path = Path("clip-teacher")
    tower: Path | None = None
    teacher_channels: tuple[int, int, int, int] = (48, 96, 192, 256)
    teacher_depths: tuple[int, int, int, int] = (1, 1, 1, 1)
    architecture: ClipArchitecture = Field(default_factory=ClipArchitecture)
    stages: tuple[Stage, ...] = (
        Stage(pictures=100_000, kinds=("single", "pairs", "empty", "multi")),
        Stage(pictures=40_000, size=128, batch=64, keep=0.5),
        Stage(pictures=20_000, size=128, batch=64),
    )


def train_clip(settings: ClipSettings, progress: Progress | None = None) -> "ClipStudent":
    """Needs a teacher's run, finished or at least saved once."""
    tokenizer = load_tokenizer(settings.teacher / MERGES_FILE)
    teacher = ClipTeacher(settings.architecture, settings.teacher_channels, settings.teacher_depths, tokenizer)
    start_from(teacher, settings.teacher)
    settings.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(settings.teacher / MERGES_FILE, settings.out / MERGES_FILE)
    torch.manual_seed(settings.seed)
    student = ClipStudent(settings.architecture, teacher)
    if settings.tower is not None:
        state = read_state_dict(settings.tower)
        tower = {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}
        load_into(student.clip.visual, tower, what=f"the image tower of {settings.tower}")
    return train(student, settings, progress)  # type: ignore[return-value]


class Reading(NamedTuple):
    """One pass of the image tower."""

    pooled: Tensor  # (B, D) the tower's own output
    values: Tensor  # (B, n, D) MaskCLIP's features of the n patches, with the last residual and MLP
    bare_values: Tensor  # (B, n, D) without
    depths: tuple[Tensor, Tensor]  # (B, n, C) patches after a third and after two thirds of the blocks


class TrainedViT(DenseViT):
    """What `DenseViT` reads, everything in one pass and from some of the patches only."""

    def read_all(self, images: Tensor, kept: Tensor | None = None) -> tuple[Reading, Grid]:
        """Normalised pictures (B, 3, H, W); kept (B, n): which patches to look at, all when None."""
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        x = self._embed(images, grid)
        if kept is not None:
            patches = x[:, 1:].gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
            x = torch.cat([x[:, :1], patches], dim=1)
        depths = []
        for number, block in enumerate(self.blocks[:-1], start=1):
            x = apply_block(block, x)
            if number in (len(self.blocks) // 3, 2 * len(self.blocks) // 3):
                depths.append(x[:, 1:])
        block, tower = self.blocks[-1], self.tower
        attention = block.attn
        q, k, v = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)

        def heads(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)  # (B, heads, n, d)

        seen = attend(heads(q[:, :1]), heads(k), heads(v))
        cls = x[:, :1] + attention.out_proj(seen)
        cls = cls + block.mlp(block.ln_2(cls))
        bare = attention.out_proj(v[:, 1:])
        values = x[:, 1:] + bare
        values = values + block.mlp(block.ln_2(values))
        pooled, values, bare = (tower.ln_post(part) @ tower.proj for part in (cls[:, 0], values, bare))
        return Reading(pooled, values, bare, (depths[0], depths[1])), grid


class ClipStudent(Recipe):
    """Teacher and words are frozen: the image tower learns its way into the space of the captions."""

    least_size = TEACHER_SIZE

    def __init__(self, architecture: ClipArchitecture, teacher: ClipTeacher):
        super().__init__()
        self.teacher = teacher.requires_grad_(False)
        clip = open_clip.CLIP(**architecture.config(teacher.words.tokenizer.vocab_size))
        clip.load_state_dict(teacher.words.clip.state_dict(), strict=False)
        for name, parameter in clip.named_parameters():
            parameter.requires_grad_(name.startswith("visual."))
        self.words = Words(clip, teacher.words.tokenizer)
        self.name_loss = losses.NameLoss()
        self.name_loss.load_state_dict(teacher.name_loss.state_dict())
        channels = [teacher.trunk.layer2[-1].bn2.num_features, teacher.trunk.num_features]
        self.imitate = nn.ModuleList(nn.Linear(architecture.width, count) for count in channels)

    @property
    def clip(self) -> open_clip.CLIP:
        return self.words.clip

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        images = batch.images
        with torch.no_grad():
            self.teacher.eval()
            middle, last = self.teacher.maps(images)
            told, cells = self.teacher.embed(last)
            if images.shape[-1] != batch.size:
                images = F.interpolate(images, (batch.size, batch.size), mode="bilinear", antialias=True)
            texts, names = self.words(batch.captions), self.words.names(random_prompts())
            scale = self.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)
        reader = TrainedViT(self.clip.visual)
        patches = (images.shape[-1] // reader.patch) ** 2
        kept = None
        if batch.keep < 1:
            order = torch.rand(len(images), patches, device=images.device).argsort(dim=1)
            kept = order[:, : round(batch.keep * patches)]
        read, grid = reader.read_all(STATISTICS.normalise(images), kept)
        pooled = F.normalize(read.pooled.float(), dim=-1)
        shallow, deep = (
            losses.imitation_loss(project(depth), losses.at_patches(map_, grid, kept))
            for project, depth, map_ in zip(self.imitate, read.depths, (middle, last), strict=True)
        )
        places = losses.at_patches(cells, grid, kept)
        return {
            "contrastive": 0.5 * losses.contrastive_loss(pooled, texts, batch.captions, scale),
            "names": NAMES_WEIGHT * self.name_loss(pooled, names, batch.named),
            "global": 2 * losses.alignment_loss(pooled, told),
            "same_names": losses.same_names_loss(pooled, told, names),
            "same_dense_names": losses.same_names_loss(F.normalize(read.values.float(), dim=-1), places, names),
            "shallow": 0.5 * shallow,
            "deep": deep,
            "dense": losses.alignment_loss(read.values, places),
            "dense_bare": 0.5 * losses.alignment_loss(read.bare_values, places),
        }

    def encoder(self) -> ClipEncoder:
        """The model as it is used; it shares its weights, and freezes them."""
        device = next(self.clip.parameters()).device
        return ClipEncoder(self.clip, self.teacher.words.tokenizer, name="world-clip", device=device)

    def figures(self, first_seed: int) -> dict[str, float]:
        return clip_figures(self.encoder(), first_seed=first_seed)
