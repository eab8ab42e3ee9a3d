"""SelfMask's training: the voted masks of all pictures first, each drawn once, then a network that learns them."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from wordmask.compute import PLAIN, Compute
from wordmask.console.progress import Progress
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at
from wordmask.extras import need
from wordmask.saliency.base import SaliencyError
from wordmask.saliency.selfmask import write_network
from wordmask.saliency.selfmask_network import STATISTICS, SelfMaskNetwork, SelfMaskShape
from wordmask.saliency.spectral_voting import VotedMasks, VotingSettings
from wordmask.training.claim import VOTES, claimed_run
from wordmask.training.loop import Crops, Objective, PicturesTraining, train
from wordmask.training.selfmask_losses import selfmask_losses
from wordmask.training.votes import VoteStore
from wordmask.weights.addresses import full, is_brought
from wordmask.weights.loading import fingerprint, load_into

VERB, NETWORK_FILE = "train-selfmask", "selfmask.safetensors"


@dataclass(frozen=True)
class SelfMaskTraining(PicturesTraining):
    """Figures are SelfMask's. dino: where the encoder starts from. voters, voter_weights: whose features are clustered,
    of pictures voting_zoom times as large.

    every_layer: the losses are applied to every decoder layer. mask_mlp: masks are asked for with the query behind an
    MLP of its own; the published network has none. compare: masks and targets meet at the targets' pixels, or on the
    grid of the masks, sixteen times as few points under patches of 8, on which targets are averaged. encoder_pace: how
    fast the encoder learns, over the rest; 0 for leaving the DINO as it is.
    """

    verb: ClassVar[str] = VERB

    dino: str = "vit_small_patch8_224.dino"
    dino_weights: str | None = None
    voters: tuple[str, ...] = ("vit_small_patch16_224.dino",)
    voter_weights: tuple[str, ...] = ()
    voting_zoom: PositiveInt = 1
    learning_rate: PositiveFloat = 6e-6
    epochs: PositiveInt = 12
    power: NonNegativeFloat = 0.9
    queries: PositiveInt = 20
    layers: PositiveInt = 6
    ranking_weight: NonNegativeFloat = 1.0
    every_layer: bool = True
    mask_mlp: bool = True
    compare: Literal["pixels", "grid"] = "pixels"
    encoder_pace: NonNegativeFloat = 1.0

    def steps(self, pictures: int) -> int:
        return max(1, self.epochs * pictures // self.batch)


class SelfMaskObjective(Objective):
    def __init__(self, network: SelfMaskNetwork, settings: SelfMaskTraining):
        super().__init__()
        self.network = network
        self.settings = settings
        network.encoder.requires_grad_(settings.encoder_pace > 0)

    def pace(self, name: str) -> float:
        return self.settings.encoder_pace if name.startswith("network.encoder.") else 1.0

    def losses(self, crops: Crops, step: int) -> dict[str, Tensor]:
        device = self.network.queries.device
        if crops.masks is None:
            raise ValueError("SelfMask learns from crops with masks")
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            asked = self.network(crops.images.to(device).float() / 255, every_layer=self.settings.every_layer)
        targets = crops.masks.to(device)
        if self.settings.compare == "grid":
            targets = F.adaptive_avg_pool2d(targets[:, None].float(), asked.masks.shape[-2:])[:, 0]
        parts = selfmask_losses(asked.masks.float(), asked.objectness.float(), targets)
        return {"dice": parts["dice"], "ranking": self.settings.ranking_weight * parts["ranking"]}


def new_network(encoder: DinoEncoder, settings: SelfMaskTraining) -> SelfMaskNetwork:
    """Return an untrained decoder on a copy of this DINO."""
    model = encoder.model
    if encoder.statistics != STATISTICS:
        raise SaliencyError(f"{encoder.name} was trained with other statistics than ImageNet's, which SelfMask expects")
    shape = SelfMaskShape(
        image_size=model.patch_embed.img_size[0],
        patch=encoder.patch_size,
        width=encoder.width,
        blocks=len(model.blocks),
        heads=encoder.heads,
        queries=settings.queries,
        layers=settings.layers,
        mask_mlp=settings.mask_mlp,
    )
    network = SelfMaskNetwork(shape)
    load_into(network.encoder, model.state_dict(), what=f"SelfMask's encoder from {encoder.name}")
    return network


def vote_for(settings: SelfMaskTraining, progress: Progress | None = None) -> VoteStore:
    """Vote for the masks of a run's pictures, in `out`; go on where that was."""
    need("sklearn", "threadpoolctl")
    compute = Compute(settings.device, settings.precision)
    sources: Sequence[str | None] = settings.voter_weights or [None] * len(settings.voters)
    if len(sources) != len(settings.voters):
        raise SaliencyError(f"{len(settings.voters)} voters need as many voter_weights, not {len(sources)}")
    # What cannot be learnt with is told now, and not after hours of voting.
    new_network(dino_at(settings.dino, settings.dino_weights, PLAIN), settings)
    encoders = [dino_at(dino, source, compute) for dino, source in zip(settings.voters, sources, strict=True)]
    voting = VotingSettings(dinos=settings.voters, dino_weights=settings.voter_weights, zoom=settings.voting_zoom)
    with claimed_run(settings.out, VERB, SelfMaskTraining.__name__):
        votes = VoteStore(settings.out / VOTES, settings.open_pictures(), VotedMasks(encoders, voting))
        votes.complete(workers=settings.workers if compute.device == "cpu" else 1, progress=progress)
    return votes


def train_selfmask(settings: SelfMaskTraining, votes: VoteStore, progress: Progress | None = None) -> SelfMaskNetwork:
    """Run, or go on with, a training; the network, which also lies in `out` as selfmask.safetensors."""
    return train_network(dino_at(settings.dino, settings.dino_weights, PLAIN), votes, settings, progress)


def train_network(
    encoder: DinoEncoder, votes: VoteStore, settings: SelfMaskTraining, progress: Progress | None = None
) -> SelfMaskNetwork:
    """`train_selfmask` with the encoder at hand."""
    torch.manual_seed(settings.seed)
    network = new_network(encoder, settings)
    objective = SelfMaskObjective(network, settings)
    objective.teachers = (fingerprint(encoder.model), votes.identity)
    pictures = votes.pictures
    steps = settings.steps(len(pictures))
    with claimed_run(settings.out, VERB, SelfMaskTraining.__name__):
        train(
            objective,
            settings,
            pictures,
            steps=steps,
            rate=lambda step: (1 - step / steps) ** settings.power,
            mask_of=votes.mask,
            progress=progress,
        )
        told = {"settings": settings.identity(pictures), "steps": str(steps)}
        write_network(settings.out / NETWORK_FILE, network, told, encoder=_untouched(encoder, settings))
    return network


def _untouched(encoder: DinoEncoder, settings: SelfMaskTraining) -> str | None:
    """Return the address of an encoder that need not be written, as a plug-in brings it and nothing has been learnt
    there.
    """
    if settings.encoder_pace or not is_brought(settings.dino):
        return None
    return encoder.name if is_brought(encoder.name) else full(settings.dino, "dino")
