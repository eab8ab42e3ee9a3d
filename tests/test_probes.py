"""The probes against plain computations."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from support.plain_windows import picture
from support.small_clip import small_clip
from support.small_dino import stirred
from wordmask.benchmarks.datasets import Sample
from wordmask.encoders.dino import DinoEncoder
from wordmask.names.prompts import templates
from wordmask.pictures.images import to_tensor
from wordmask_world.baselines import AllBackground, BestName
from wordmask_world.probes import linear_probe, patch_neighbours, vote


def test_a_vote_is_the_largest_sum_of_weights_among_the_nearest():
    generator = torch.Generator().manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(9, 4, generator=generator), dim=1)
    keys = torch.nn.functional.normalize(torch.randn(50, 4, generator=generator), dim=1)
    labels = torch.randint(0, 3, (50,), generator=generator)
    answers = vote(queries, keys, labels, 3, k=7)
    for query, answer in zip(queries.double().numpy(), answers.tolist(), strict=True):
        cosines = keys.double().numpy() @ query
        votes = np.zeros(3)
        for index in np.argsort(-cosines)[:7]:
            votes[labels[index]] += np.exp(cosines[index] / 0.07)
        assert answer == votes.argmax()


def test_separable_features_are_told_apart_and_noise_is_not():
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 4, 400)
    noise = generator.normal(size=(400, 4))
    clear = np.eye(4)[classes] + 0.01 * generator.normal(size=(400, 4))
    assert linear_probe((clear[:200], classes[:200]), (clear[200:], classes[200:])) == 100
    assert linear_probe((noise[:200], classes[:200]), (noise[200:], classes[200:])) < 45


def test_patches_are_named_as_their_like():
    """Black and white halves: any network tells black patches from white ones."""
    torch.manual_seed(0)
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2, num_classes=0)
    model.pretrained_cfg = {}
    encoder = DinoEncoder(stirred(model), name="small")
    samples = []
    for index, column in enumerate((8, 16, 24)):
        labels = np.zeros((32, 32), np.uint8)
        labels[:, column:] = 1
        samples.append(Sample((255 * labels[..., None]).repeat(3, -1), labels, str(index)))
    assert patch_neighbours(encoder, samples[::2], samples[1:2], ["black", "white"]) > 80
    assert patch_neighbours(encoder, samples, samples, ["black", "white"]) == pytest.approx(100, abs=5)


def test_baselines_name_the_whole_picture_alike():
    image, clip, names = picture(20, 30), small_clip(), ["dog", "cat", "bird"]
    assert (AllBackground().segment(image, ["dog", "background"], fill=True).labels == 1).all()
    embedding = clip.encode_image(to_tensor(image, (32, 32))[None])[0]
    best = int((clip.encode_text(names) @ embedding).argmax())
    result = BestName(clip, templates("plain")).segment(image, names, fill=True)
    assert np.array_equal(result.labels, np.full((20, 30), best))
