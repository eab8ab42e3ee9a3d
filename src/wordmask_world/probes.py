"""How much a frozen self-supervised network knows: two probes that use labels to measure, never to train it."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.benchmarks.datasets import Sample
from wordmask.benchmarks.metrics import ConfusionMatrix
from wordmask.encoders.dino import DinoEncoder
from wordmask.extras import need
from wordmask.pictures.images import to_tensor

NEIGHBOURS = 20
"""k of DINO's own nearest-neighbour evaluation (Caron et al. 2021)."""
TEMPERATURE = 0.07
"""Of the neighbours' votes, from the same evaluation."""
PICTURES_PER_PASS = 32


def linear_probe(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    """Accuracy in percent of a logistic regression on frozen features. Each set is (features (n, D), classes (n,))."""
    need("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    probe.fit(*train)
    return float(100 * probe.score(*test))


def cls_features(encoder: DinoEncoder, images: Iterable[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3) of one size -> CLS tokens (n, D)."""
    passes = [encoder(batch).cls.cpu() for batch in _batches(images)]
    return torch.cat(passes).numpy()


def patch_neighbours(
    encoder: DinoEncoder, train: Iterable[Sample], test: Iterable[Sample], names: list[str], ignore: int = 255
) -> float:
    """mIoU in percent of naming every patch as its nearest training patches are named, by weighted vote.

    A training patch bears the name that most of its pixels bear; a test patch's name goes to all of its pixels.
    """
    bank: list[Tensor] = []
    bank_labels: list[Tensor] = []
    for batch in _samples(train):
        tokens, grids = _tokens(encoder, batch)
        bank.append(tokens)
        bank_labels.append(torch.cat([_majority(s.labels, *grids, encoder.patch_size, len(names)) for s in batch]))
    keys, labels = torch.cat(bank), torch.cat(bank_labels)
    confusion = ConfusionMatrix(names, ignore=ignore)
    for batch in _samples(test):
        tokens, (h, w) = _tokens(encoder, batch)
        found = vote(tokens, keys, labels, len(names)).view(len(batch), h, w)
        pixels = found.repeat_interleave(encoder.patch_size, 1).repeat_interleave(encoder.patch_size, 2)
        for sample, answer in zip(batch, pixels.numpy(), strict=True):
            height, width = sample.labels.shape
            confusion.add(sample.labels, answer[:height, :width])
    return 100 * confusion.miou


def vote(queries: Tensor, keys: Tensor, labels: Tensor, classes: int, k: int = NEIGHBOURS) -> Tensor:
    """(n, D), (m, D) normalised, (m,) -> (n,): the class with the largest sum of exp(cosine / temperature) among k."""
    answers = []
    for part in queries.split(1024):
        cosine, index = (part @ keys.T).topk(min(k, len(keys)), dim=1)
        weights = (cosine / TEMPERATURE).exp()
        votes = weights.new_zeros(len(part), classes).scatter_add(1, labels[index], weights)
        answers.append(votes.argmax(dim=1))
    return torch.cat(answers)


def _tokens(encoder: DinoEncoder, batch: list[Sample]) -> tuple[Tensor, tuple[int, int]]:
    read = encoder(torch.stack([to_tensor(sample.image) for sample in batch]))
    return F.normalize(read.tokens.flatten(2).transpose(1, 2).reshape(-1, encoder.width), dim=1).cpu(), read.grid


def _majority(labels: np.ndarray, h: int, w: int, patch: int, classes: int) -> Tensor:
    """(H, W) -> (h*w,): the commonest label of every patch."""
    counts = np.zeros((h, w, classes), dtype=np.int64)
    rows, columns = np.indices(labels.shape)
    np.add.at(counts, (rows // patch, columns // patch, labels), 1)
    return torch.from_numpy(counts.argmax(axis=-1).ravel())


def _batches(images: Iterable[np.ndarray]) -> Iterator[Tensor]:
    remaining = iter(images)
    while batch := list(islice(remaining, PICTURES_PER_PASS)):
        yield torch.stack([to_tensor(image) for image in batch])


def _samples(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    remaining = iter(samples)
    while batch := list(islice(remaining, PICTURES_PER_PASS)):
        yield batch
