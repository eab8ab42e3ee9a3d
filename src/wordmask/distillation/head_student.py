"""Students on frozen features: their settings, and how the decoder comes to what it learns from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from wordmask.compute import Compute
from wordmask.console.progress import Progress
from wordmask.distillation.augmentations import Augmentation
from wordmask.distillation.batches import Examples
from wordmask.distillation.crowds import SIDES, Crowds, CrowdSides
from wordmask.distillation.frozen_views import FrozenViews
from wordmask.distillation.training import Check, Training, ignore_label, seeded, train
from wordmask.encoders.towers import ROLE, Tower
from wordmask.runs.parts import Say, warn
from wordmask.segmenters.head import Decoder, HeadNetwork, HeadSettings
from wordmask.segmenters.student_file import towers_of
from wordmask.training.team import Team
from wordmask.weights.addresses import fingerprint_of

FEATURES = "features"
"""The folder of a run that holds what the towers say."""
_FIRST_USED = ("backbones", "views", "crowds", "crowd_sides", "augmentation", "most_pasted")
"""Settings that the features follow from; and `head.zoom`."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HeadStudentSettings(Training):
    """backbones: addresses of the frozen encoders, CLIPs, DINOs, or students that are whole networks. head: the
    decoder's shape.

    views: composed pictures for each mask, whose features are computed once and kept. crowds: the share of them that
    are made of small ones, and of pasted things that are small. crowd_sides: how many of them lie along each side, one
    of these by lot.
    """

    kind: Literal["head"] = "head"
    vocabulary: Literal["closed"] = "closed"
    backbones: Annotated[tuple[str, ...], Field(min_length=1)] = ("vit_small_patch14_dinov2.lvd142m",)
    head: HeadSettings = HeadSettings()
    views: Annotated[int, Field(ge=1)] = 4
    crowds: Annotated[float, Field(ge=0, le=1)] = 0.5
    crowd_sides: CrowdSides = SIDES
    augmentation: Augmentation = Augmentation(
        crop=336, scale=(0.5, 1.5), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=0.2
    )
    steps: Annotated[int, Field(ge=1)] = 2_000
    most_pasted: Annotated[int, Field(ge=1)] = 3
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3

    def told(self) -> dict[str, Any]:
        return super().told() | {"backbones": backbones_identity(self.backbones)}

    def views_identity(self, seed: int, examples: Examples, towers: list[Tower]) -> str:
        """Return what must be equal for features to be those of these settings."""
        told = self.told()
        used = {key: told[key] for key in _FIRST_USED if key in told} | {
            "backbones": [tower.fingerprint for tower in towers]
        }
        return json.dumps(used | {"zoom": self.head.zoom, "seed": seed, "masks": examples.fingerprint}, sort_keys=True)


def check_backbones(settings: Training, out: Path) -> None:
    """Find out whether a head's encoders can be had, before stages that take hours, where there is no student yet."""
    if isinstance(settings, HeadStudentSettings) and not any(out.glob("*.safetensors")):
        towers_of(settings.backbones)


def backbones_identity(backbones: tuple[str, ...]) -> list[str]:
    """Return what tells whether encoders have changed: what a package brings may, as a file of the user's may."""
    told = [(address, fingerprint_of(address, ROLE)) for address in backbones]
    return [address if known == address else f"{address} {known}" for address, known in told]


def train_head(
    classes: int,
    examples: Examples,
    settings: HeadStudentSettings,
    out: Path,
    *,
    features: Path,
    seed: int,
    device: str = "auto",
    finish: Callable[[HeadNetwork, str], None],
    progress: Progress | None = None,
    check: Check | None = None,
    say: Say = warn,
) -> None:
    """As `training.train`, of a decoder on frozen features, which are kept in the folder `features`.

    Progress counts the pictures that the towers have looked at, then those that the decoder has learnt from.
    """
    team = Team(device)
    if settings.threads:
        torch.set_num_threads(settings.threads)  # which a feature's last bits may hang on
    towers = towers_of(settings.backbones, Compute(str(team.device), "fp32"))
    samples = Crowds(
        examples,
        settings.augmentation,
        crowds=settings.crowds,
        sides=settings.crowd_sides,
        most_pasted=settings.most_pasted,
        seed=seed,
        ignore=ignore_label(classes),
    )
    views = FrozenViews(features, samples, towers, each=settings.views, zoom=settings.head.zoom)
    total = views.count + settings.steps * settings.batch
    looking = None if progress is None else lambda done, _: progress(done, total)
    views.make(settings.views_identity(seed, examples, towers), team, progress=looking, say=say)

    def make() -> Decoder:
        decoder = seeded(seed, lambda: Decoder(classes, [tower.channels for tower in towers], settings.head))
        decoder.standardise(views.statistics())
        return decoder

    train(
        classes,
        examples,
        settings,
        out,
        seed=seed,
        device=device,
        finish=lambda decoder, run: finish(HeadNetwork(towers, decoder).eval(), run),
        progress=None if progress is None else lambda done, _: progress(views.count + done * settings.batch, total),
        check=None if check is None else lambda decoder: check(HeadNetwork(towers, decoder).eval()),
        say=say,
        make=make,
        sampler=lambda *given, **options: views,
    )
