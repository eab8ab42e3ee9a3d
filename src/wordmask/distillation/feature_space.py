"""A teacher's features as a student learns them: in directions of their own, and at the end in closed form.

Most of what tells names apart lies in directions in which features hardly vary. So a student is told of each direction
in its own deviations, or else its steps would be larger than all that there is to be learnt.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.distillation.batches import Batch
from wordmask.distillation.records import DistillationError
from wordmask.distillation.target_examples import TargetExamples
from wordmask.distillation.training import at_cells
from wordmask.names.text_embeddings import TextEmbeddings
from wordmask.segmenters.open_deeplab import OpenDeepLab, on_grid_of
from wordmask.segmenters.open_student import open_logits

SURVEYED = 4096
"""Pictures, at most, that the space is measured on, and the last layer fitted."""
EVENNESS = 0.5
"""How much less a direction counts by its variance: at 0 as in a plain distance, at 1 all count alike."""
LEAST_VARIANCE = 1e-6
"""Of features of length 1; less is noise."""
RIDGE = 1e-6
"""Added to the correlations of what the last layer reads with itself."""
RESTORED, LEAST_FOUND = 1.5, 0.05
"""What is found of a direction is shorter than what is there, so that names which are far out in it would never win. It
is divided by the share of the variance that is found, or by the second of these if that is more, to the power of the
first: at 1, a student says in the mean what its teacher does. From 1.25 to 2 it makes no difference for all names, and
names that were held out are told far better than at 0, on 100 drawn validation pictures."""
SETTLED = 512
"""Pictures, at most, by which background is settled."""
FARTHEST, HALVINGS = 1000.0, 60
"""Of a bisection over logits."""
LEARNT_BY = f"{SURVEYED} whole pictures {EVENNESS} {LEAST_VARIANCE}, last layer {RIDGE} {RESTORED} {LEAST_FOUND}"
"""What a run is known by, beside its settings."""


@dataclass(frozen=True)
class FeatureSpace:
    """mean (D,); directions (D, D): the k-th column is as long as features deviate there; weights (D,): how much each
    direction counts, 1 together.
    """

    mean: Tensor
    directions: Tensor
    weights: Tensor

    def features(self, coordinates: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w)"""
        mean, directions = self.mean.to(coordinates), self.directions.to(coordinates)
        return torch.einsum("dk,bkhw->bdhw", directions, coordinates) + mean[:, None, None]

    def coordinates(self, features: Tensor) -> Tensor:
        """Return those of which `features` makes these."""
        mean, directions = self.mean.to(features), self.directions.to(features)
        scaled = directions / directions.square().sum(dim=0)
        return torch.einsum("dk,bdhw->bkhw", scaled, features - mean[:, None, None])

    def apart(self, coordinates: Tensor, teacher: Tensor) -> Tensor:
        """Return how far a student is from its teacher's features, both (B, D, h, w) -> (B, h, w); 0 where these are
        zeros, which teach nothing.
        """
        squares = (coordinates - self.coordinates(teacher)).square()
        return torch.einsum("k,bkhw->bhw", self.weights.to(squares), squares) * teacher.any(dim=1)

    def unfold(self, network: OpenDeepLab) -> OpenDeepLab:
        """Make a network that gives coordinates one that gives features."""
        last = network.last
        assert last.bias is not None
        with torch.no_grad():
            for weight in last.weights:
                weight[:-1] = torch.einsum("dk,kcij->dcij", self.directions.to(weight), weight[:-1])
            last.bias[:-1] = self.directions.to(last.bias) @ last.bias[:-1] + self.mean.to(last.bias)
        return network

    def restored(self, found: Tensor) -> Tensor:
        """Return what makes features as long as they ought to be, (D, D). found (D, D): their covariance."""
        directions = self.directions.to(found)
        variances = directions.square().sum(dim=0)
        unit = directions / variances.sqrt()
        shares = torch.einsum("dk,de,ek->k", unit, found, unit) / variances
        return unit * shares.clamp(LEAST_FOUND, 1) ** -RESTORED @ unit.T


def survey(examples: TargetExamples) -> FeatureSpace:
    """Measure a teacher's features on pictures that are spread over all."""
    count = min(len(examples), SURVEYED)
    number, total, squares = 0, np.zeros(()), np.zeros(())
    for index in np.linspace(0, len(examples) - 1, count).round().astype(int).tolist():
        told = examples.targets[index].features
        if told is not None:
            own = told.reshape(len(told), -1).astype(np.float64)
            number, total, squares = number + own.shape[1], total + own.sum(axis=1), squares + own @ own.T
    if not number:
        raise DistillationError(f"{examples.targets.folder} holds no features to be learnt")
    mean = total / number
    variances, directions = np.linalg.eigh(squares / number - np.outer(mean, mean))
    variances = variances.clip(LEAST_VARIANCE)
    weights = variances ** (1 - EVENNESS)
    made = (mean, directions * np.sqrt(variances), weights / weights.sum())
    return FeatureSpace(*(torch.from_numpy(each).float() for each in made))


def in_cells(own: Tensor, teacher: Tensor) -> Tensor:
    """Return means over the places of a teacher's cells."""
    rows, columns = teacher.shape[-2:]
    return F.adaptive_avg_pool2d(own, (rows, columns))


@torch.no_grad()
def fit_last_layer(network: OpenDeepLab, space: FeatureSpace, batches: Iterable[Batch]) -> None:
    """Let a network's last layer say the teacher's features (`beside`) by what it reads: the least squares, and each
    direction of the space as long again as it ought to be. What it says of background stays.
    """
    network.eval()
    weights, where = network.last.weights, network.last.weight.device
    read = sum(weight.shape[1] for weight in weights)
    size = read + len(network.last.weight) - 1
    number, total, products = 0, torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    for batch in batches:
        assert batch.beside is not None
        teacher = batch.beside.to(where).float()
        images = network.statistics.normalise(batch.images.to(where))
        decoder, *maps = network.depths(images.contiguous(memory_format=torch.channels_last))
        own = torch.cat([decoder, *(on_grid_of(decoder, each) for each in maps)], dim=1)
        both = torch.cat([in_cells(own, teacher), teacher], dim=1)
        rows = both.movedim(1, -1)[teacher.any(dim=1)]
        number += len(rows)
        total += rows.sum(dim=0, dtype=torch.float64).cpu()
        products += (rows.T @ rows).double().cpu()
    mean = total / number
    covariance = products / number - torch.outer(mean, mean)
    scale = covariance.diagonal()[:read].clamp(min=torch.finfo(torch.float32).tiny).sqrt()
    correlations = covariance[:read, :read] / torch.outer(scale, scale) + RIDGE * torch.eye(read, dtype=torch.float64)
    fitted = torch.linalg.solve(correlations, covariance[:read, read:] / scale[:, None]).T / scale  # (D, read)
    fitted = space.restored(fitted @ covariance[:read, :read] @ fitted.T) @ fitted
    assert network.last.bias is not None
    network.last.bias[:-1] = mean[read:] - fitted @ mean[:read]
    for weight, own in zip(weights, fitted.split([weight.shape[1] for weight in weights], dim=1), strict=True):
        weight[:-1] = own[..., None, None]


@torch.no_grad()
def settle_ground(
    network: OpenDeepLab, text: TextEmbeddings, temperature: float, batches: Iterable[Batch], *, ignore: int
) -> None:
    """Let background be as probable, in the mean, as it is frequent: what it raced against has changed. Where there is
    none, nothing is changed.
    """
    ahead, is_ground = [], []
    for batch in batches:
        images = network.statistics.normalise(batch.images.to(network.last.weight.device))
        logits = open_logits(network(images.contiguous(memory_format=torch.channels_last)), text, temperature)
        labels = at_cells(batch.labels, logits.shape[-2:])
        teaches = labels != ignore
        ahead.append((logits[:, 0] - logits[:, 1:].logsumexp(dim=1)).cpu()[teaches])
        is_ground.append(labels[teaches] == 0)
    margins, share = torch.cat(ahead).double(), torch.cat(is_ground).double().mean()
    if not 0 < share < 1:
        return
    least, most = -FARTHEST, FARTHEST
    for _ in range(HALVINGS):
        middle = (least + most) / 2
        least, most = (middle, most) if (margins + middle).sigmoid().mean() < share else (least, middle)
    assert network.last.bias is not None
    network.last.bias[-1] += middle * temperature**0.5
