"""The small DINO: self-distillation with no labels (Caron et al. 2021), from the pictures alone.

A student sees large and small crops of a picture, a teacher the large ones; the student says what the teacher says.
The teacher is the student's running average. Its output is centred and sharpened, so that it does not collapse.

Some thousand steps teach little by what is said of whole pictures. Two things help, with no labels either: teacher and
student are also asked about every place that two crops share, and a transformer imitates the maps of a convolutional
network that was trained in this way before, as the world's CLIP does.
"""

import copy
import itertools
import math
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import timm
import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.encoders.clip import ImageStatistics
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.weights import load_into
from wordmask.training.checkpoints import CHECKPOINT, read_checkpoint
from wordmask.world.training import losses
from wordmask.world.training.batches import Batch, Stage, blurred, crop, crop_places, greyed, hue_turned, jitter
from wordmask.world.training.figures import dino_figures, neighbour_naming
from wordmask.world.training.loop import Recipe, TrainingSettings, train
from wordmask.world.training.resnet import read_maps, small_resnet

PATCH = 8
IMAGENET = ImageStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What `timm` models expect."""


@dataclass(frozen=True)
class DinoSettings(TrainingSettings):
    """Figures are the paper's where nothing is said. prototypes: 65,536 in the paper, for a million pictures.

    The smaller the batch, the longer the teacher's memory must be: momentum 0.996 is the paper's for 1,024 pictures.
    place_prototypes: for what is said of single places, 0 for not asking. guide: the run of a ResNet with these
    channels and depths, whose maps a vit imitates. upside_down: the share of the crops that are; without, height in the
    picture is what a place is told by most easily, and the patches of one background differ.
    """

    network: Literal["vit", "resnet"] = "vit"
    image_size: int = 128
    width: int = 192
    blocks: int = 6
    heads: int = 3
    channels: tuple[int, int, int, int] = (48, 96, 192, 256)
    depths: tuple[int, int, int, int] = (1, 1, 1, 1)
    guide: Path | None = None
    prototypes: int = 2048
    place_prototypes: Annotated[int, Field(ge=0)] = 0
    hidden: int = 512
    bottleneck: int = 128
    batch_norm: bool = False
    local_crops: Annotated[int, Field(ge=0)] = 4
    local_size: Annotated[int, Field(ge=16)] = 32
    global_area: tuple[float, float] = (0.4, 1.0)
    local_area: tuple[float, float] = (0.08, 0.4)
    upside_down: Annotated[float, Field(ge=0, le=1)] = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    warm_teacher: float = 0.2
    centring: Literal["mean", "sinkhorn"] = "mean"
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
        return small_resnet(settings.channels, settings.depths, output_stride=16), settings.channels[-1]
    vit = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=0,
        img_size=settings.image_size,
        patch_size=PATCH,
        embed_dim=settings.width,
        depth=settings.blocks,
        num_heads=settings.heads,
        dynamic_img_size=True,
    )
    vit.pretrained_cfg.update(mean=IMAGENET.mean, std=IMAGENET.std)
    for block in vit.blocks:
        block.attn.fused_attn = False  # see `attention`
    return vit, settings.width


class Reading(NamedTuple):
    pooled: Tensor  # (B, C)
    map: Tensor  # (B, C, h, w)
    middle: Tensor  # (B, C', h', w') after a third of the blocks, or at an 8th of the size


def read_vit(vit: Any, views: Tensor) -> Reading:
    x = vit.patch_embed(views)  # (B, h, w, C)
    grid = x.shape[1:3]
    x = vit._pos_embed(x)
    third = len(vit.blocks) // 3
    x = middle = vit.blocks[:third](x)
    x = vit.norm(vit.blocks[third:](x))

    def as_map(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].transpose(1, 2).unflatten(2, grid)

    return Reading(x[:, 0], as_map(x), as_map(middle))


def read_resnet(resnet: Any, views: Tensor) -> Reading:
    middle, last = read_maps(resnet, views)
    return Reading(last.mean(dim=(2, 3)), last, middle)


class Head(nn.Module):
    """Three layers, a normalised bottleneck, and weight-normalised prototypes.

    With `batch_norm`, as the reference offers it, pictures differ for the prototypes from the first step on: a network
    that has learnt nothing says nearly the same of all.
    """

    def __init__(self, width: int, prototypes: int, settings: DinoSettings):
        super().__init__()
        widths = (width, settings.hidden, settings.hidden, settings.bottleneck)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            norm = nn.BatchNorm1d(after) if settings.batch_norm else nn.Identity()
            layers += [nn.Linear(before, after), norm, nn.GELU()]
        self.layers = nn.Sequential(*layers[:-1])
        self.prototypes = nn.Linear(settings.bottleneck, prototypes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) -> (n, prototypes): cosines."""
        x = F.normalize(self.layers(x).float(), dim=-1)
        return x @ F.normalize(self.prototypes.weight.float(), dim=-1).T


def evenly_used(logits: Tensor, rounds: int = 3) -> Tensor:
    """(n, K) -> probabilities whose rows sum to 1 and whose columns to n / K: Sinkhorn and Knopp's iteration, as
    DINOv2 centres. It needs no memory of former batches, so that few steps suffice."""
    shares = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    for _ in range(rounds):
        shares = shares / shares.sum(dim=0, keepdim=True).clamp(min=1e-12)
        shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return shares


def same_places(asked: Tensor, told: Tensor, grid: tuple[int, int]) -> Tensor:
    """Where the cells of one crop lie in another: (B, h, w, 2) in its [-1, 1], beyond it outside.

    asked, told: the crops' maps to their picture (B, 2, 3), without rotation."""
    cells = F.affine_grid(asked, [len(asked), 1, *grid], align_corners=False)  # in the picture
    scale = torch.stack([told[:, 0, 0], told[:, 1, 1]], dim=-1)[:, None, None]
    return (cells - told[:, None, None, :, 2]) / scale


class SelfDistillation(Recipe):
    captioned = False
    centre: Tensor

    def __init__(self, settings: DinoSettings):
        super().__init__()
        self.settings = settings
        self.read = read_resnet if settings.network == "resnet" else read_vit
        backbone, width = build_backbone(settings)
        self.student = nn.ModuleDict({"backbone": backbone, "head": Head(width, settings.prototypes, settings)})
        if settings.place_prototypes:
            self.student["place_head"] = Head(width, settings.place_prototypes, settings)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(settings.prototypes))
        self.guide = None
        if settings.guide is not None:
            self.guide = guide_from(settings)
            middle, last = settings.channels[1], settings.channels[-1]
            self.imitate = nn.ModuleList(nn.Linear(width, channels) for channels in (middle, last, last))

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        settings = self.settings
        places = [self._crops(batch, settings.global_area) for _ in range(2)]
        large = torch.cat([self._view(batch, where, batch.size) for where in places])
        sharpness = self._teacher_temperature(progress)
        with torch.no_grad():
            told = self.read(self.teacher["backbone"], large)
            targets = self._centred(self.teacher["head"](told.pooled).float(), sharpness).chunk(2)
        read = self.read(self.student["backbone"], large)
        said = list(self.student["head"](read.pooled).chunk(2))
        if settings.local_crops:
            crops = [self._crops(batch, settings.local_area) for _ in range(settings.local_crops)]
            small = torch.cat([self._view(batch, where, settings.local_size) for where in crops])
            pooled = self.read(self.student["backbone"], small).pooled
            said += self.student["head"](pooled).chunk(len(crops))
        terms = [
            self._disagreement(target, view)
            for place, target in enumerate(targets)
            for other, view in enumerate(said)
            if place != other
        ]
        parts = {"distillation": torch.stack(terms).mean()}
        if settings.place_prototypes:
            parts["places"] = self._about_places(read.map, told.map, places, sharpness)
        if self.guide is not None:
            parts |= self._imitation(read, large)
        return parts

    def _about_places(self, said: Tensor, told: Tensor, places: list[Tensor], sharpness: float) -> Tensor:
        """What the student's cells and the teacher's other crop at the same place are called."""
        grid = (said.shape[-2], said.shape[-1])
        first, second = told.float().chunk(2)
        there = torch.cat([same_places(places[0], places[1], grid), same_places(places[1], places[0], grid)])
        there = there.to(said.device)
        other = F.grid_sample(torch.cat([second, first]), there, align_corners=False, padding_mode="border")
        shared = (there.abs() <= 1).all(dim=-1)  # (2B, h, w)
        with torch.no_grad():
            target = evenly_used(self.teacher["place_head"](other.permute(0, 2, 3, 1)[shared]).float() / sharpness)
        return self._disagreement(target, self.student["place_head"](said.permute(0, 2, 3, 1)[shared]))

    def _imitation(self, read: Reading, views: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            assert self.guide is not None
            shown = read_resnet(self.guide.eval(), views)
        grid = (read.map.shape[-2], read.map.shape[-1])
        middle, last, pooled = self.imitate
        return {
            "shallow": 0.5 * losses.imitation_loss(middle(_cells(read.middle)), losses.at_patches(shown.middle, grid)),
            "deep": losses.imitation_loss(last(_cells(read.map)), losses.at_patches(shown.map, grid)),
            "global": 0.5 * losses.imitation_loss(pooled(read.pooled)[:, None], shown.pooled[:, None]),
        }

    def _disagreement(self, target: Tensor, said: Tensor) -> Tensor:
        """Cross-entropy of probabilities and logits (n, K)."""
        return -(target * (said.float() / self.settings.student_temperature).log_softmax(dim=-1)).sum(dim=-1).mean()

    def _centred(self, told: Tensor, sharpness: float) -> Tensor:
        """What the teacher says, as probabilities (n, K) that do not favour the same few prototypes for everything."""
        if self.settings.centring == "sinkhorn":
            return evenly_used(told / sharpness)
        targets = ((told - self.centre) / sharpness).softmax(dim=-1)
        if self.training:
            self.centre.lerp_(told.mean(dim=0), 1 - self.settings.centre_momentum)
        return targets

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

    def _crops(self, batch: Batch, area: tuple[float, float]) -> Tensor:
        flips, turned = torch.rand(2, len(batch.images))
        return crop_places(area, flips < 0.5, upside_down=turned < self.settings.upside_down)

    def _view(self, batch: Batch, where: Tensor, size: int) -> Tensor:
        """One crop of every picture, with the paper's distortions; solarisation is left out, as the world is drawn
        without negatives."""
        views = hue_turned(crop(batch.images, where, size), self.settings.hue)
        return IMAGENET.normalise(blurred(greyed(jitter(views, strength=0.4, tint=0.2), 0.2), 0.5))

    def figures(self, first_seed: int) -> dict[str, float]:
        backbone = self.teacher["backbone"]
        device = self.centre.device
        if self.settings.network == "resnet":

            def pooled(images: Tensor) -> Tensor:
                return backbone(IMAGENET.normalise(images.to(device)))

            return {"neighbour_naming": neighbour_naming(pooled, first_seed=first_seed)}
        return dino_figures(DinoEncoder(backbone, name="world-dino", device=device), first_seed=first_seed)


def guide_from(settings: DinoSettings) -> nn.Module:
    """The backbone of a ResNet's run, frozen."""
    assert settings.guide is not None
    guide = small_resnet(settings.channels, settings.depths, output_stride=16)
    state = read_checkpoint(settings.guide / CHECKPOINT)["averaged"]
    own = "teacher.backbone."
    backbone = {name.removeprefix(own): value for name, value in state.items() if name.startswith(own)}
    load_into(guide, backbone, what=f"the guide of {settings.guide}")
    return guide.requires_grad_(False)


def _cells(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return maps.flatten(2).transpose(1, 2)
