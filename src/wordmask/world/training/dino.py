"""The small DINO: self-distillation with no labels (Caron et al. 2021), from the pictures alone.

A student sees large and small crops of a picture, a teacher the large ones; the student says what the teacher says.
The teacher is the student's running average. Its output is centred and sharpened, so that it does not collapse.
"""

import copy
import math
from typing import Annotated, Any, Literal

import timm
import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.encoders.clip import ImageStatistics
from wordmask.encoders.dino import DinoEncoder
from wordmask.world.training.batches import Batch, Stage, blurred, greyed, jitter, random_crops
from wordmask.world.training.figures import dino_figures, neighbour_naming
from wordmask.world.training.loop import Recipe, TrainingSettings, train
from wordmask.world.training.resnet import small_resnet

IMAGENET = ImageStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What `timm` models expect."""


@dataclass(frozen=True)
class DinoSettings(TrainingSettings):
    """Figures are the paper's where nothing is said. prototypes: 65,536 in the paper, for a million pictures.

    The smaller the batch, the longer the teacher's memory must be: momentum 0.996 is the paper's for 1,024 pictures.
    """

    network: Literal["vit", "resnet"] = "vit"
    image_size: int = 128
    width: int = 192
    blocks: int = 6
    heads: int = 3
    channels: tuple[int, int, int, int] = (48, 96, 192, 256)
    depths: tuple[int, int, int, int] = (1, 1, 1, 1)
    prototypes: int = 2048
    hidden: int = 512
    bottleneck: int = 128
    local_crops: Annotated[int, Field(ge=0)] = 4
    local_size: Annotated[int, Field(ge=16)] = 32
    global_area: tuple[float, float] = (0.4, 1.0)
    local_area: tuple[float, float] = (0.08, 0.4)
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    warm_teacher: float = 0.2
    centre_momentum: float = 0.9
    momentum: float = 0.992
    average: float = 0.0
    learning_rate: float = 5e-4
    weight_decay: float = 0.1
    stages: tuple[Stage, ...] = (Stage(pictures=100_000, size=64, batch=128),)


def train_dino(settings: DinoSettings) -> "SelfDistillation":
    torch.manual_seed(settings.seed)
    return train(SelfDistillation(settings), settings)  # type: ignore[return-value]


def build_backbone(settings: DinoSettings) -> tuple[Any, int]:
    """The network and the width of its output."""
    if settings.network == "resnet":
        resnet = small_resnet(settings.channels, settings.depths)
        return resnet, settings.channels[-1]
    vit = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=0,
        img_size=settings.image_size,
        patch_size=8,
        embed_dim=settings.width,
        depth=settings.blocks,
        num_heads=settings.heads,
        dynamic_img_size=True,
    )
    vit.pretrained_cfg.update(mean=IMAGENET.mean, std=IMAGENET.std)
    for block in vit.blocks:
        block.attn.fused_attn = False  # see `attention`
    return vit, settings.width


class Head(nn.Module):
    """Three layers, a normalised bottleneck, and weight-normalised prototypes."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Linear(bottleneck, prototypes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.normalize(self.layers(x).float(), dim=-1)
        return x @ F.normalize(self.prototypes.weight.float(), dim=-1).T


class SelfDistillation(Recipe):
    captioned = False
    centre: Tensor

    def __init__(self, settings: DinoSettings):
        super().__init__()
        self.settings = settings
        backbone, width = build_backbone(settings)
        head = Head(width, settings.hidden, settings.bottleneck, settings.prototypes)
        self.student = nn.ModuleDict({"backbone": backbone, "head": head})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(settings.prototypes))

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        settings = self.settings
        large = [self._view(batch, batch.size, settings.global_area) for _ in range(2)]
        small = [self._view(batch, settings.local_size, settings.local_area) for _ in range(settings.local_crops)]
        sharpness = self._teacher_temperature(progress)
        with torch.no_grad():
            told = self._read(self.teacher, torch.cat(large))  # (2B, K)
            targets = ((told - self.centre) / sharpness).softmax(dim=-1).chunk(2)
            if self.training:
                self.centre.lerp_(told.mean(dim=0), 1 - settings.centre_momentum)
        said = list(self._read(self.student, torch.cat(large)).chunk(2))
        if small:
            said += self._read(self.student, torch.cat(small)).chunk(len(small))
        terms = [
            -(target * (view / settings.student_temperature).log_softmax(dim=-1)).sum(dim=-1).mean()
            for place, target in enumerate(targets)
            for other, view in enumerate(said)
            if place != other
        ]
        return {"distillation": torch.stack(terms).mean()}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The teacher follows, ever more slowly."""
        start = self.settings.momentum
        momentum = 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
        for mean, value in zip(self.teacher.state_dict().values(), self.student.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - momentum)
            else:
                mean.copy_(value)

    def _teacher_temperature(self, progress: float) -> float:
        first, last = self.settings.teacher_temperature
        return first + (last - first) * min(1.0, progress / self.settings.warm_teacher)

    def _view(self, batch: Batch, size: int, area: tuple[float, float]) -> Tensor:
        """One crop of every picture, with the paper's distortions; solarisation is left out, as the world is drawn
        without negatives."""
        flips = torch.rand(len(batch.images)) < 0.5
        views = random_crops(batch.images, size, area, flips)
        views = blurred(greyed(jitter(views, strength=0.4, tint=0.2), 0.2), 0.5)
        return IMAGENET.normalise(views)

    def _read(self, network: nn.ModuleDict, views: Tensor) -> Tensor:
        said: Tensor = network["head"](network["backbone"](views))
        return said.float()

    def figures(self, first_seed: int) -> dict[str, float]:
        backbone = self.teacher["backbone"]
        device = self.centre.device
        if self.settings.network == "resnet":

            def pooled(images: Tensor) -> Tensor:
                return backbone(IMAGENET.normalise(images.to(device)))

            return {"neighbour_naming": neighbour_naming(pooled, first_seed=first_seed)}
        return dino_figures(DinoEncoder(backbone, name="world-dino", device=device), first_seed=first_seed)
