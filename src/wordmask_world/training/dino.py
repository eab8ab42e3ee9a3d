"""The small DINO: self-distillation with no labels (Caron et al. 2021), from the pictures alone.

A student sees large and small crops of a picture, a teacher the large ones; the student says what the teacher says.
The teacher is the student's running average. Its output is centred and sharpened, so that it does not collapse.

Some thousand steps teach little by what is said of whole pictures. Three things help, with no labels either: teacher
and student are also asked about every place that two crops share; things cut out of pictures are pasted into the views,
so that what belongs together is known; and a transformer imitates the maps of a convolutional network that was trained
in this way before, as the world's CLIP does.
"""

import copy
import math
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.console.progress import Progress
from wordmask.encoders.dino import DinoEncoder
from wordmask.training.checkpoints import CHECKPOINT, read_checkpoint
from wordmask.weights.loading import load_into
from wordmask_world.training import losses
from wordmask_world.training.batches import Batch, Stage, blurred, crop, crop_places, greyed, hue_turned, jitter
from wordmask_world.training.cutouts import HARDLY, Belonging, cut_out, mean_of_cutouts, paste_both
from wordmask_world.training.dino_network import (
    IMAGENET,
    Head,
    Reading,
    evenly_used,
    read_resnet,
    read_vit,
    small_vit,
)
from wordmask_world.training.figures import dino_figures, neighbour_naming
from wordmask_world.training.loop import Recipe, TrainingSettings, train
from wordmask_world.training.resnet import small_resnet


@dataclass(frozen=True)
class DinoSettings(TrainingSettings):
    """Figures are the paper's where nothing is said. prototypes: 65,536 in the paper, for a million pictures.

    The smaller the batch, the longer the teacher's memory must be: momentum 0.996 is the paper's for 1,024 pictures.
    place_prototypes: for what is said of single places, 0 for not asking. guide: the run of a ResNet with these
    channels and depths, whose maps a vit imitates. upside_down: the share of the crops that are; without, height in the
    picture is what a place is told by most easily, and the patches of one background differ.

    cutouts: how much it counts what belongs together, where cut-outs are pasted; 0 for pasting none. The views then
    share the cut-out alone, and what the teacher says of it is what the student says of the views. cutout_sides: over
    the views'. second_cutout: how often there is one. local_area: of the picture, or of a view with a cut-out.
    """

    network: Literal["vit", "resnet"] = "vit"
    image_size: int = 128
    width: int = 192
    blocks: int = 6
    heads: int = 3
    channels: tuple[int, int, int, int] = (48, 96, 192, 256)
    depths: tuple[int, int, int, int] = (1, 1, 1, 1)
    output_stride: Literal[8, 16, 32] = 16
    guide: Path | None = None
    prototypes: int = 2048
    place_prototypes: Annotated[int, Field(ge=0)] = 0
    cutouts: Annotated[float, Field(ge=0)] = 0.0
    cutout_sides: tuple[float, float] = (0.4, 1.0)
    second_cutout: Annotated[float, Field(ge=0, le=1)] = 0.5
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


def train_dino(settings: DinoSettings, progress: Progress | None = None) -> "SelfDistillation":
    torch.manual_seed(settings.seed)
    return train(SelfDistillation(settings), settings, progress)  # type: ignore[return-value]


def build_backbone(settings: DinoSettings) -> tuple[Any, int]:
    """The network and the width of its output."""
    if settings.network == "resnet":
        return small_resnet(settings.channels, settings.depths, settings.output_stride), settings.channels[-1]
    shape = {"width": settings.width, "blocks": settings.blocks, "heads": settings.heads}
    return small_vit(image_size=settings.image_size, **shape), settings.width


def same_places(asked: Tensor, told: Tensor, grid: tuple[int, int]) -> Tensor:
    """Where the cells of one crop lie in another: (B, h, w, 2) in its [-1, 1], beyond it outside.

    asked, told: the crops' maps to their picture (B, 2, 3), without rotation.
    """
    cells = F.affine_grid(asked, [len(asked), 1, *grid], align_corners=False)  # in the picture
    scale = torch.stack([told[:, 0, 0], told[:, 1, 1]], dim=-1)[:, None, None]
    return (cells - told[:, None, None, :, 2]) / scale


class Views(NamedTuple):
    """Two crops of every picture, with no distortion yet. With cut-outs, a row's second crop is the next picture's.

    places: of the crops in their pictures. covers: how far each of a view's cut-outs covers every pixel.
    """

    pictures: list[Tensor]  # (B, 3, s, s), twice
    places: list[Tensor]  # (B, 2, 3), twice
    covers: list[Tensor]  # (B, 2, s, s), twice, or none


class SelfDistillation(Recipe):
    captioned = False
    centre: Tensor

    def __init__(self, settings: DinoSettings):
        super().__init__()
        self.settings = settings
        self.read = read_resnet if settings.network == "resnet" else read_vit
        backbone, width = build_backbone(settings)
        self.student = nn.ModuleDict({"backbone": backbone, "head": self._new_head(width, settings.prototypes)})
        if settings.place_prototypes:
            self.student["place_head"] = self._new_head(width, settings.place_prototypes)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        asked = 0 if not settings.cutouts else 3 if settings.network == "vit" else 1  # maps: see `losses`
        self.belonging = nn.ModuleList(Belonging() for _ in range(asked))
        self.register_buffer("centre", torch.zeros(settings.prototypes))
        self.guide = None
        if settings.guide is not None:
            self.guide = guide_from(settings)
            middle, last = settings.channels[1], settings.channels[-1]
            self.imitate = nn.ModuleList(nn.Linear(width, channels) for channels in (middle, last, last))

    def _new_head(self, width: int, prototypes: int) -> Head:
        told = self.settings
        return Head(width, prototypes, hidden=told.hidden, bottleneck=told.bottleneck, batch_norm=told.batch_norm)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        settings = self.settings
        views = self._views(batch)
        large = torch.cat([self._distorted(view) for view in views.pictures])
        sharpness = self._teacher_temperature(progress)
        with torch.no_grad():
            told = self.read(self.teacher["backbone"], large)
        read = self.read(self.student["backbone"], large)
        covers = [at_cells(cover, read.map) for cover in views.covers]
        with torch.no_grad():
            common = mean_of_cutouts(told.map, torch.cat(covers)) if covers else told.pooled
            targets = self._centred(self.teacher["head"](common).float(), sharpness).chunk(2)
        said = list(self.student["head"](read.pooled).chunk(2))
        if settings.local_crops:
            small = [self._small_crop(batch, views, number) for number in range(settings.local_crops)]
            pooled = self.read(self.student["backbone"], torch.cat(small)).pooled
            said += self.student["head"](pooled).chunk(len(small))
        terms = [
            self._disagreement(target, view)
            for place, target in enumerate(targets)
            for other, view in enumerate(said)
            if place != other
        ]
        parts = {"distillation": torch.stack(terms).mean()}
        if settings.place_prototypes:
            parts["places"] = self._about_places(read.map, told.map, views.places, covers, sharpness)
        if covers:
            maps = (read.map, *read.projections)
            wrong = [asked(each, torch.cat(covers)) for asked, each in zip(self.belonging, maps, strict=True)]
            parts["belonging"] = settings.cutouts * torch.stack(wrong).sum()
        if self.guide is not None:
            parts |= self._imitation(read, large)
        return parts

    def _views(self, batch: Batch) -> Views:
        settings = self.settings
        places = [self._crops(batch, settings.global_area) for _ in range(2)]
        if not settings.cutouts:
            return Views([crop(batch.images, where, batch.size) for where in places], places, [])
        first, second = (cut_out(batch.images, batch.size) for _ in range(2))
        present = torch.rand(len(batch.images)) < settings.second_cutout
        sources = (batch.images, batch.images.roll(-1, dims=0))
        grounds = [crop(images, where, batch.size) for images, where in zip(sources, places, strict=True)]
        pasted = [paste_both(ground, first, second, present, settings.cutout_sides) for ground in grounds]
        return Views([view for view, _ in pasted], places, [covers for _, covers in pasted])

    def _small_crop(self, batch: Batch, views: Views, number: int) -> Tensor:
        where = self._crops(batch, self.settings.local_area)
        whole = views.pictures[number % 2] if views.covers else batch.images
        return self._distorted(crop(whole, where, self.settings.local_size))

    def _about_places(
        self, said: Tensor, told: Tensor, places: list[Tensor], covers: list[Tensor], sharpness: float
    ) -> Tensor:
        """What the student's cells and the teacher's other crop at the same place are called."""
        grid = (said.shape[-2], said.shape[-1])
        mine, yours = said.chunk(2)
        first, second = told.float().chunk(2)
        here, there = places
        if covers:  # each picture's second crop back to its first
            yours, second, there = (each.roll(1, dims=0) for each in (yours, second, there))
        said, told = torch.cat([mine, yours]), torch.cat([second, first])
        where = torch.cat([same_places(here, there, grid), same_places(there, here, grid)]).to(said.device)
        other = F.grid_sample(told, where, align_corners=False, padding_mode="border")
        shared = (where.abs() <= 1).all(dim=-1)  # (2B, h, w)
        if covers:
            cover, beside = covers[0].sum(dim=1), covers[1].roll(1, dims=0).sum(dim=1)
            beyond = F.grid_sample(torch.cat([beside, cover])[:, None], where, align_corners=False)[:, 0]
            shared = shared & (torch.cat([cover, beside]) < HARDLY) & (beyond < HARDLY)
        if shared.sum() < 2:  # a few small crops may have nothing in common, and batch norm needs two
            return 0.0 * said.sum()
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

    def _distorted(self, views: Tensor) -> Tensor:
        """With the paper's distortions; solarisation is left out, as the world is drawn without negatives."""
        views = jitter(hue_turned(views, self.settings.hue), strength=0.4, tint=0.2)
        return IMAGENET.normalise(blurred(greyed(views, 0.2), 0.5))

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
    guide = small_resnet(settings.channels, settings.depths, settings.output_stride)
    state = read_checkpoint(settings.guide / CHECKPOINT)["averaged"]
    own = "teacher.backbone."
    backbone = {name.removeprefix(own): value for name, value in state.items() if name.startswith(own)}
    load_into(guide, backbone, what=f"the guide of {settings.guide}")
    return guide.requires_grad_(False)


def at_cells(cover: Tensor, maps: Tensor) -> Tensor:
    """(B, K, s, s) -> (B, K, h, w): averaged over the cells of the maps (B, C, h, w)."""
    return F.adaptive_avg_pool2d(cover, (maps.shape[-2], maps.shape[-1]))


def _cells(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return maps.flatten(2).transpose(1, 2)
