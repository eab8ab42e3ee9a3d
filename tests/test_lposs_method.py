"""LPOSS as it was published, step by step, on a small CLIP and a small DINO with random weights."""

import numpy as np
import pytest
import torch

from support import plain_vit
from support.plain_lposs import patch_matrix, pixel_matrix, solved
from support.plain_patch_cosines import decide
from support.plain_windows import TOLERANCE, bilinear, picture, starts, text_vectors
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, small_clip
from support.small_dino import HEADS as DINO_HEADS
from support.small_dino import LAYERS as DINO_LAYERS
from support.small_dino import small_dino
from wordmask.encoders.statistics import IMAGENET
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.refinement.lposs import Lposs, LpossParameters
from wordmask.segmenters.lposs import LpossSegmenter, LpossSettings

PHRASES = ["sky", "wall", "tree", "person", "bus"]
WORDED = {"background": {"instead": ["sky", "wall", "tree"]}, "person": None, "bus": None}
OWNER = [0, 0, 0, 1, 2]
PARAMETERS = LpossParameters(neighbours=9, reach=2)
KEEP = 1 - PARAMETERS.alpha


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def dino():
    return small_dino()


def segmenter(clip, dino, **changes):
    made = LpossSegmenter(
        clip, LpossSettings(**{"templates": "photo", "shorter_side": None, "window": 32, "stride": 16, **changes})
    )
    made.lposs = Lposs(dino, pixels=changes.get("refine") == "lposs+", parameters=PARAMETERS)
    return made


def by_the_book(clip, dino, image, phrases, owner, *, pixels, size=None):
    """Scores of the names at the picture's own size, (H, W, K), before anything is made of them."""
    looked = to_tensor(image, size).double().numpy()
    height, width = looked.shape[1:]
    text, scores, values, places = text_vectors(clip, phrases), [], [], []
    for top in starts(height, 32, 16):
        for left in starts(width, 32, 16):
            window = torch.from_numpy(looked[:, top : top + 32, left : left + 32])
            places.append((top, left))
            found, _, _ = plain_vit.maskclip_vit(
                plain_vit.arrays_of(clip.model.visual),
                clip.statistics.normalise(window).numpy(),
                patch=PATCH,
                native=NATIVE,
                heads=HEADS,
                layers=LAYERS,
                residual=True,
            )
            features = np.moveaxis(found, 0, -1)
            scores.append(features / np.linalg.norm(features, axis=-1, keepdims=True) @ text.T)  # (h, w, P)
            mean, std = (np.array(part)[:, None, None] for part in (IMAGENET.mean, IMAGENET.std))
            read = plain_vit.dino(
                plain_vit.arrays_of(dino.model),
                (window.numpy() - mean) / std,
                patch=PATCH,
                native=NATIVE,
                heads=DINO_HEADS,
                layers=DINO_LAYERS,
            )
            own = read[plain_vit.READ_OUTS.index("values")]  # (heads, N, d)
            values.append(np.moveaxis(own, 1, 0).reshape(*scores[-1].shape[:2], -1))
    plan = segmenter(clip, dino).sliding.plan(height, width)
    given = np.stack(scores).reshape(-1, len(phrases))
    matrix = patch_matrix(torch.from_numpy(np.stack(values)).permute(0, 3, 1, 2), plan, PATCH, PARAMETERS)
    spread = solved(matrix, given, PARAMETERS).reshape(*np.stack(scores).shape)
    total, count = np.zeros((height, width, len(phrases))), np.zeros((height, width, 1))
    for (top, left), window in zip(places, spread, strict=True):
        total[top : top + 32, left : left + 32] += bilinear(window, (32, 32))
        count[top : top + 32, left : left + 32] += 1
    own = total / count
    if pixels:
        own = solved(pixel_matrix(torch.from_numpy(looked), PARAMETERS), own.reshape(-1, len(phrases)), PARAMETERS)
        own = own.reshape(height, width, -1)
    names = np.stack([own[..., np.array(owner) == name].max(axis=-1) for name in range(max(owner) + 1)], axis=-1)
    return bilinear(names, image.shape[:2])


@pytest.mark.parametrize("size", [(32, 32), (48, 72), (64, 40)])
@pytest.mark.parametrize("worded", [False, True])
def test_names_spread_over_patches_as_published(clip, dino, size, worded):
    image = picture(*size)
    phrases, owner = (PHRASES, OWNER) if worded else (PHRASES[2:], [0, 1, 2])
    expected = by_the_book(clip, dino, image, phrases, owner, pixels=False)
    names = Vocabulary.of(WORDED if worded else phrases)
    assert_equal(segmenter(clip, dino).segment(image, names, fill=True), expected, KEEP)


def test_names_spread_over_pixels_as_published(clip, dino):
    """A smooth picture of 32 x 40 pixels, so that neighbours are of like colour."""
    image = np.rint(bilinear(picture(3, 4).astype(float), (32, 40))).astype(np.uint8)
    expected = by_the_book(clip, dino, image, PHRASES, OWNER, pixels=True)
    found = segmenter(clip, dino, refine="lposs+").segment(image, Vocabulary.of(WORDED), fill=True)
    assert_equal(found, expected, KEEP**2)


def test_the_best_word_is_taken_before_the_picture_is_resized(clip, dino):
    image = picture(64, 96)
    expected = by_the_book(clip, dino, image, PHRASES, OWNER, pixels=False, size=(32, 48))
    found = segmenter(clip, dino, shorter_side=32, antialias=True).segment(image, Vocabulary.of(WORDED), fill=True)
    assert_equal(found, expected, KEEP)


def assert_equal(found, scores, keep):
    """Labels are those of the best score; its share among all names says how sure they are."""
    _, shares = decide(keep * scores, list(range(scores.shape[-1])), scale=100.0)
    assert np.abs(found.scores - shares.max(axis=-1)).max() < 20 * TOLERANCE  # a hundred times a cosine
    ordered = np.sort(scores, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-5
    assert clear.mean() > 0.9
    assert np.array_equal(found.labels[clear], scores.argmax(axis=-1)[clear])


def test_the_papers_settings_are_the_default():
    settings = LpossSettings()
    assert (settings.clip, settings.refine_dino) == ("ViT-B-16/laion2b_s34b_b88k", "vit_base_patch16_224.dino")
    assert (settings.shorter_side, settings.window, settings.stride, settings.refine) == (448, 224, 112, "lposs")
    parameters = LpossParameters(sharpness=settings.refine_sharpness)
    assert parameters == LpossParameters(400, 3.0, 0.01, 0.95, 10, 1e-6, 6, 0.01)
    assert (settings.background_threshold, settings.denoise, settings.pamr) == (None, None, False)
