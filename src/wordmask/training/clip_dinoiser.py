"""CLIP-DINOiser's training: a 3x3 convolution learns DINO's correlations from CLIP's features, a 1x1 one FOUND's masks.

Pictures alone teach; CLIP, DINO and FOUND stand still.
"""

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from wordmask import saliency
from wordmask.compute import Compute
from wordmask.console.progress import Progress
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.clip_dense import key_affinity
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at
from wordmask.refinement.clean_up import THRESHOLD
from wordmask.saliency.base import SaliencyError
from wordmask.saliency.found import Found
from wordmask.segmenters.clip_dinoiser import GUIDING_BLOCK, DinoiserHeads, dino_values
from wordmask.training.claim import claimed_run
from wordmask.training.loop import Crops, Objective, PicturesTraining, Scale, Share, train
from wordmask.training.pictures import Pictures
from wordmask.training.team import Team
from wordmask.weights.loading import fingerprint, write_state_dict

VERB, HEADS_FILE = "train-dinoiser", "clip-dinoiser.safetensors"
JITTER = 1
"""Sets the colours' chances apart from those of the crops."""


@dataclass(frozen=True)
class DinoiserTraining(PicturesTraining):
    """Figures are CLIP-DINOiser's; the paper names no range for its random scales.

    found: whose FOUND teaches, by its preset; found_weights: another head. jitter: how far brightness, contrast and
    saturation are changed. threshold: correlations of DINO's values above it count as one (gamma).
    learning_rate is the 3x3 convolution's, objectness_rate the 1x1's; both are multiplied by `decay` after
    `decay_after` steps.
    """

    verb: ClassVar[str] = VERB

    clip: str = "ViT-B-16/laion2b_s34b_b88k"
    clip_weights: str | None = None
    dino: str = "vit_base_patch16_224.dino"
    dino_weights: str | None = None
    found: str = "paper"
    found_weights: str | None = None
    most_pictures: PositiveInt | None = 1000
    crop: PositiveInt = 448
    scale: Scale | None = (1.0, 2.0)
    flip: Share = 0.5
    jitter: Share = 0.5
    batch: PositiveInt = 16
    learning_rate: PositiveFloat = 5e-5
    objectness_rate: PositiveFloat = 1e-2
    steps: PositiveInt = 6000
    decay: NonNegativeFloat = 0.1
    decay_after: PositiveInt = 5000
    threshold: float = 0.2


class Teachers:
    """DINO and FOUND. Where FOUND reads the same DINO, one pass serves both."""

    def __init__(self, dino: DinoEncoder, found: Found):
        self.dino, self.found, self.zoom = dino, found, found.settings.zoom

    @property
    def fingerprints(self) -> tuple[str, ...]:
        networks = (self.dino.model, self.found.encoder.model, self.found.head)
        return (*map(fingerprint, networks), f"FOUND's zoom {self.zoom}")

    def correlated(self, images: Tensor, grid: tuple[int, int], threshold: float) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, N, N) bool on a grid of CLIP's: D of equation 3."""
        return key_affinity(dino_values(self.dino, images, grid)) > threshold

    def masks(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, h, w) bool: M of section 3.5."""
        if self.zoom > 1:
            images = F.interpolate(images, scale_factor=self.zoom, mode="bilinear", align_corners=False)
        soft = self.found.head(self.found.encoder(images).key_maps()).sigmoid()  # (B, 1, ...) on FOUND's patches
        return F.adaptive_avg_pool2d(soft, grid)[:, 0] > THRESHOLD

    def __call__(self, images: Tensor, grid: tuple[int, int], threshold: float) -> tuple[Tensor, Tensor]:
        patch = self.dino.patch_size
        alike = (images.shape[-2] // patch, images.shape[-1] // patch) == grid
        if self.found.encoder is not self.dino or self.zoom > 1 or not alike:
            return self.correlated(images, grid, threshold), self.masks(images, grid)
        read = self.dino(images)
        masks = self.found.head(read.key_maps()).sigmoid()[:, 0] > THRESHOLD
        return key_affinity(read.value_maps()) > threshold, masks


def affinity_loss(affinity: Tensor, correlated: Tensor) -> Tensor:
    """Equation 3, with the affinity (B, N, N) in [-1, 1] as logits, none of them below 0, as the published code has
    it: 0 stands for "as likely as not", and patches are only ever drawn together.
    """
    return F.binary_cross_entropy_with_logits(affinity.clamp(min=0), correlated.to(affinity.dtype))


def objectness_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the second loss of the paper: logits (B, h, w), FOUND's masks (B, h, w) bool."""
    return F.binary_cross_entropy_with_logits(logits, masks.to(logits.dtype))


def jittered(images: Tensor, places: tuple[int, ...], seed: int, amount: float) -> Tensor:
    """Crops (B, 3, S, S) uint8 in other light; each one's depends on its place alone."""
    if not amount:
        return images
    changed = []
    for image, place in zip(images, places, strict=True):
        brightness, contrast, saturation = np.random.default_rng((seed, place, JITTER)).uniform(-amount, amount, 3) + 1
        image = transforms.adjust_brightness(image, brightness)
        image = transforms.adjust_contrast(image, contrast)
        changed.append(transforms.adjust_saturation(image, saturation))
    return torch.stack(changed)


class DinoiserObjective(Objective):
    """Only the heads are a part of it."""

    def __init__(self, clip: ClipEncoder, teachers: Teachers, settings: DinoiserTraining):
        super().__init__()
        if settings.crop % clip.patch_size:
            raise SaliencyError(f"crop={settings.crop} is no multiple of {clip.name}'s patch, {clip.patch_size}")
        width = clip.dense(torch.zeros(1, 3, clip.patch_size, clip.patch_size), ln_2=[GUIDING_BLOCK])
        self.heads = DinoiserHeads(width.ln_2[GUIDING_BLOCK].shape[1])
        self.settings = settings
        self.teachers = (fingerprint(clip.model.visual), *teachers.fingerprints)
        self._frozen = (clip, teachers)

    def pace(self, name: str) -> float:
        settings = self.settings
        return settings.objectness_rate / settings.learning_rate if name.startswith("heads.bkg_decoder") else 1.0

    def losses(self, crops: Crops, step: int) -> dict[str, Tensor]:
        settings = self.settings
        clip, teachers = self._frozen
        images = crops.images.to(self.heads.bkg_decoder.weight.device)
        images = jittered(images, crops.places, settings.seed, settings.jitter).float().div_(255)
        dense = clip.dense(images, ln_2=[GUIDING_BLOCK])
        features = dense.ln_2[GUIDING_BLOCK].clone()  # unlike what CLIP hands out, it may take part in a gradient
        correlated, masks = teachers(images, dense.grid, settings.threshold)
        return {
            "affinity": affinity_loss(self.heads.affinity(features), correlated.clone()),
            "objectness": objectness_loss(self.heads.objectness(features)[:, 0], masks.clone()),
        }


def train_dinoiser(
    settings: DinoiserTraining, progress: Progress | None = None, team: Team | None = None
) -> DinoiserHeads:
    """Run, or go on with, a training; the heads, which also lie in `out` as clip-dinoiser.safetensors, halved."""
    team = team or Team(settings.device)
    compute = Compute(str(team.device), settings.precision)
    clip = clip_at(settings.clip, settings.clip_weights, compute)
    found = saliency.load(
        "found",
        preset=settings.found,
        weights=settings.found_weights,
        device=str(team.device),
        precision=settings.precision,
    )
    if not isinstance(found, Found):
        raise SaliencyError(f"{found.method} cannot teach where objects are: it is not FOUND")
    of_found = found.settings
    dino = found.encoder
    if (settings.dino, settings.dino_weights) != (of_found.dino, of_found.dino_weights):
        dino = dino_at(settings.dino, settings.dino_weights, compute)
    return train_heads(clip, Teachers(dino, found), settings, settings.open_pictures(), progress, team)


def train_heads(
    clip: ClipEncoder,
    teachers: Teachers,
    settings: DinoiserTraining,
    pictures: Pictures,
    progress: Progress | None = None,
    team: Team | None = None,
) -> DinoiserHeads:
    """`train_dinoiser` with networks and pictures at hand."""
    team = team or Team(settings.device)
    torch.manual_seed(settings.seed)
    objective = DinoiserObjective(clip, teachers, settings)
    with claimed_run(settings.out, VERB, DinoiserTraining.__name__, is_first=team.is_first):
        train(
            objective,
            settings,
            pictures,
            steps=settings.steps,
            rate=lambda step: settings.decay if step >= settings.decay_after else 1.0,
            progress=progress,
            team=team,
        )
        if team.is_first:
            told = {"clip": clip.name, "dino": teachers.dino.name, "settings": settings.identity(pictures)}
            halved = {name: value.half() for name, value in objective.heads.state_dict().items()}
            write_state_dict(settings.out / HEADS_FILE, halved, told)
    return objective.heads
