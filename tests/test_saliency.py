"""The interface of all saliency methods, its registry, and what odd pictures give."""

import subprocess
import sys
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

from support import plain_saliency
from support.small_dino import stirred
from wordmask import saliency
from wordmask.encoders.dino import DinoError
from wordmask.methods import MethodError, check_method, methods_of, presets_by_name
from wordmask.pictures.image_files import ImageReadError
from wordmask.refinement import clean_up as refinement
from wordmask.saliency.base import Saliency, SaliencyError, SaliencySettings, network_maps, size_for_patches
from wordmask.saliency.found import Found, FoundSettings, SeedSaliency, SeedSettings, new_head
from wordmask.saliency.instances import InstanceSaliency, instance_map
from wordmask.saliency.selfmask import SelfMask, SelfMaskSettings
from wordmask.saliency.selfmask_network import SelfMaskNetwork, SelfMaskShape
from wordmask.saliency.spectral_voting import VotedMasks, VotingSettings
from wordmask.weights.download import DownloadError

TINY = SelfMaskShape(image_size=40, patch=8, width=48, blocks=2, heads=3, queries=5, layers=2)


def found(refine="none"):
    torch.manual_seed(0)
    head = stirred(new_head(plain_saliency.WIDTH))
    return Found(plain_saliency.tiny_dino(), head, FoundSettings(refine=refine))


def seed(refine="none"):
    return SeedSaliency(plain_saliency.tiny_dino(), SeedSettings(refine=refine))


def selfmask(refine="none"):
    torch.manual_seed(0)
    network = stirred(SelfMaskNetwork(TINY))
    return SelfMask(network, SelfMaskSettings(refine=refine), device="cpu", precision="fp32")


def spectral(refine="none"):
    return VotedMasks([plain_saliency.tiny_dino()], VotingSettings(refine=refine))


def instances(refine="none"):
    def find(image):
        masks = np.zeros((2, *image.shape[:2]), bool)
        masks[0, : image.shape[0] // 2] = masks[1, :, : image.shape[1] // 2] = True
        return masks, np.array([0.9, 0.4])

    return InstanceSaliency(find, SaliencySettings(refine=refine))


ALL = {"found": found, "seed": seed, "selfmask": selfmask, "spectral": spectral, "instances": instances}


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def check(soft, size, name=None):
    """A finite map of its size, between 0 and 1."""
    assert (soft.shape, soft.dtype) == (size, np.float32), name
    assert np.isfinite(soft).all(), name
    assert (soft.min() >= 0, soft.max() <= 1) == (True, True), name


ODD = {
    "black": np.zeros((40, 48, 3), np.uint8),
    "white": np.full((40, 48, 3), 255, np.uint8),
    "one colour": np.full((33, 50, 3), (200, 30, 90), np.uint8),
    "noise": noise(40, 48),
    "one pixel": noise(1, 1),
    "one pixel wide": noise(70, 1),
    "one pixel high": noise(1, 70),
    "smaller than a patch": noise(5, 3),
}


@pytest.mark.parametrize("refine", ["none", "solver", "found"])
@pytest.mark.parametrize("method", ALL)
def test_every_odd_picture_gets_a_finite_map_of_its_size(method, refine):
    read = ALL[method](refine)
    for (name, image), soft in zip(ODD.items(), read.maps(list(ODD.values())), strict=True):
        check(soft, image.shape[:2], name)
        assert np.allclose(soft, read.maps([image])[0], atol=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("refine", ["none", "solver", "found"])
@pytest.mark.parametrize("method", ALL)
def test_a_photograph_of_24_megapixels_gets_a_finite_map_of_its_size(method, refine):
    """Blocks of noise, and a strip of noise in every pixel, which is the most work for the solver."""
    image = np.repeat(np.repeat(noise(60, 40), 100, axis=0), 100, axis=1)
    image[:500] = noise(500, 4000)
    read = ALL[method](refine)
    object.__setattr__(read.settings, "most_patches", 1024)
    check(read.maps([image])[0], (6000, 4000))


@pytest.mark.parametrize("refine", ["solver", "found"])
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("name", ODD)
def test_refining_leaves_all_or_nothing_as_it_is(name, value, refine):
    soft = np.full(ODD[name].shape[:2], value, np.float32)
    assert np.allclose(refinement.refine(ODD[name], soft, refine), soft, atol=1e-4)


@pytest.mark.parametrize("method", ["found", "selfmask", "spectral"])
def test_a_network_with_damaged_weights_is_an_error_and_no_map(method):
    read = ALL[method]()
    model = read.network if method == "selfmask" else (getattr(read, "encoder", None) or read.encoders[0]).model
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(SaliencyError, match="no finite number"):
        read.maps([noise(40, 48)])


def test_where_nothing_differs_voting_finds_no_foreground():
    """A network that sees no difference between patches: there is nothing to cluster."""
    encoder = plain_saliency.tiny_dino()
    encoder.model.norm.weight.data.zero_()
    assert not VotedMasks([encoder]).maps([noise(40, 48)])[0].any()


def test_a_seed_like_everything_leaves_no_foreground():
    read = SeedSaliency(plain_saliency.tiny_dino(), SeedSettings(similarity=-1))
    assert not read.maps([noise(40, 48)])[0].any()


@pytest.mark.parametrize("method", ["found", "seed", "selfmask"])
def test_a_very_large_picture_is_looked_at_smaller(method):
    read = ALL[method]()
    object.__setattr__(read.settings, "most_patches", 64)
    check(read.maps([noise(700, 900)])[0], (700, 900))


def noting(monkeypatch, place, note):
    """What `note` says of every first argument of the function at this place."""
    noted, (module, name) = [], place.rsplit(".", 1)
    own = getattr(import_module(module), name)
    monkeypatch.setattr(place, lambda first, *rest: noted.append(note(first)) or own(first, *rest))
    return noted


def test_clustering_and_voting_on_a_large_picture_stay_within_their_limits(monkeypatch):
    module = "wordmask.saliency.spectral_voting"
    clustered = noting(monkeypatch, f"{module}.spectral_embedding", len)
    read = VotedMasks([plain_saliency.tiny_dino()], VotingSettings(most_points=256, most_patches=1024))
    check(read.maps([noise(400, 500)])[0], (400, 500))
    assert 0 < max(clustered) <= 256
    monkeypatch.setattr(f"{module}.MOST_PIXELS", 600)
    voted = noting(monkeypatch, f"{module}.vote", lambda masks: masks[0].size)
    check(spectral().maps([noise(60, 90)])[0], (60, 90))
    assert 0 < voted[0] <= 600


@pytest.mark.parametrize("method", ALL)
def test_maps_do_not_depend_on_their_neighbours_in_the_batch(method):
    read = ALL[method]()
    images = [noise(40, 48), noise(40, 48)[::-1].copy(), noise(33, 50)]
    for image, soft in zip(images, read.maps(images), strict=True):
        assert np.allclose(read.maps([image])[0], soft, atol=1e-5)
    assert read.maps([]) == []


def test_a_stream_keeps_its_order_and_leaves_out_what_cannot_be_read(tmp_path):
    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    Image.fromarray(noise(20, 30)).save(a)
    Image.fromarray(noise(10, 12)).save(c)
    b.write_bytes(b"no picture")
    bad = []
    seen = list(seed().look_many([a, b, c], batch_size=2, on_bad=bad.append))
    assert [(own.source, own.soft.shape) for own in seen] == [(str(a), (20, 30)), (str(c), (10, 12))]
    assert [error.source for error in bad] == [str(b)]
    with pytest.raises(ImageReadError):
        seed().look(b)
    assert seed().look(a.read_bytes()).soft.shape == (20, 30)  # in memory too


@pytest.mark.parametrize(
    ("images", "batch_size", "told"),
    [
        ("photo.jpg", 8, r"look_many takes many pictures, not one str; for one use look; .*find_images"),
        (noise(4, 5), 8, "takes many pictures, not one ndarray"),
        (None, 8, "takes many pictures, not NoneType"),
        ([], 0, "batch_size must be a whole number, 1 or more, not 0"),
        ([], 2.5, "batch_size must be a whole number, 1 or more, not 2.5"),
    ],
)
def test_mistakes_are_told_at_the_call_and_not_at_the_first_map(images, batch_size, told):
    with pytest.raises(SaliencyError, match=told):
        instances().look_many(images, batch_size=batch_size)


def test_a_saved_map_is_a_grey_png(tmp_path):
    seen = found().look(noise(24, 31))
    seen.save(tmp_path / "out" / "map.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "map.png")), np.rint(seen.soft * 255))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["map.png"]


def test_an_overlay_tints_the_foreground_alone():
    seen = instances().look(noise(40, 60))
    overlay = np.asarray(seen.overlay())[:40]
    assert np.array_equal(overlay[22:, 32:], seen.image[22:, 32:])  # background, away from the border's lines
    assert not np.array_equal(overlay[:15, :20], seen.image[:15, :20])


def test_instances_are_summed_by_their_scores():
    masks = np.zeros((3, 2, 2), bool)
    masks[0, 0], masks[1, :, 0], masks[2] = True, True, True
    expected = np.array([[0.8 + 0.4, 0.8], [0.4, 0]]) / 1.2
    assert np.allclose(instance_map(masks, np.array([0.8, 0.4, 0.29])), expected)


def test_without_sure_instances_nothing_is_foreground():
    assert not instance_map(np.ones((2, 4, 5), bool), np.array([0.1, 0.2])).any()
    assert not instance_map(np.zeros((1, 4, 5), bool), np.ones(1)).any()
    read = InstanceSaliency(lambda image: (np.zeros((0, *image.shape[:2]), bool), np.zeros(0)))
    assert np.array_equal(read.maps([noise(5, 6)])[0], np.zeros((5, 6)))


def test_an_instance_of_exactly_the_least_score_stays():
    assert instance_map(np.ones((1, 2, 2), bool), np.array([0.3])).all()


@pytest.mark.parametrize(
    ("masks", "scores", "told"),
    [
        (np.ones((2, 4, 4)), np.ones(3), "instances"),
        (np.ones((4, 4)), np.ones(4), "instances"),
        (np.ones((1, 4, 4)), np.array([np.nan]), "instances"),
        (np.full((1, 4, 4), -1.0), np.ones(1), "instances"),
        (np.ones((1, 3, 3), bool), np.ones(1), "masks are"),
    ],
)
def test_instances_that_make_no_map_of_their_picture_are_refused(masks, scores, told):
    with pytest.raises(SaliencyError, match=told):
        InstanceSaliency(lambda image: (masks, scores)).maps([noise(4, 4)])


@pytest.mark.parametrize(
    ("height", "width"), [(100, 100), (4000, 3000), (1, 100_000), (100_000, 1), (17, 9000), (1, 1), (128, 128)]
)
def test_pictures_are_made_to_fit_the_limit_and_no_smaller_than_they_must(height, width):
    h, w = size_for_patches(height, width, 8, 256)
    patches = -(-h // 8) * -(-w // 8)
    assert patches <= 256
    if -(-height // 8) * -(-width // 8) <= 256:
        assert (h, w) == (height, width)
    else:
        assert patches > 256 * 0.75


def mean_of(seen, batch):
    seen.append(tuple(batch.shape))
    return batch.mean(dim=1)


def test_alike_pictures_go_through_the_network_together():
    images, seen = [noise(16, 24), noise(8, 8), noise(16, 24), noise(16, 24)], []
    maps = network_maps(images, partial(mean_of, seen), patch=8, settings=SaliencySettings(most_patches=100, batch=2))
    assert seen == [(2, 3, 16, 24), (1, 3, 16, 24), (1, 3, 8, 8)]
    for image, soft in zip(images, maps, strict=True):
        assert np.allclose(soft, image.mean(axis=2) / 255, atol=1e-6)


def test_small_pictures_are_looked_at_enlarged():
    image, seen = np.full((16, 24, 3), 51, dtype=np.uint8), []
    [soft] = network_maps([image], partial(mean_of, seen), patch=8, settings=SaliencySettings(zoom=3))
    assert seen == [(1, 3, 48, 72)]
    assert soft == pytest.approx(np.full((16, 24), 0.2), abs=1e-6)
    assert size_for_patches(100, 100, 8, 256, zoom=5) == size_for_patches(500, 500, 8, 256)


def test_every_method_of_the_registry_is_a_saliency_with_both_presets():
    for name in methods_of("saliency"):
        own = check_method("saliency", name, preset="paper", settings=())
        assert (issubclass(own, Saliency), own.method) == (True, name)
        assert set(presets_by_name("saliency", name)) == {"paper", "world"}


@pytest.mark.parametrize("method", ["found", "seed"])
def test_the_papers_found_reads_the_dino_that_its_head_was_trained_on(method):
    """`timm` has another run of the same name. Without a network, the error names the file that is wanted."""
    with pytest.raises(DownloadError, match="dino_deitsmall8_300ep_pretrain"):
        saliency.load(method, preset="paper", device="cpu")


def test_a_very_large_picture_is_solved_smaller(monkeypatch):
    image, soft = noise(60, 90), np.zeros((60, 90), np.float32)
    soft[10:50, 20:70] = 1
    monkeypatch.setattr(refinement, "MOST_PIXELS", 600)
    solved = noting(monkeypatch, f"{refinement.__name__}.BilateralGrid", np.shape)
    for how in ("solver", "found"):
        refined = refinement.refine(image, soft, how)
        check(refined.astype(np.float32), (60, 90))
    assert solved == [(20, 30, 3)] * 2
    assert set(np.unique(refined)) <= {0, 1}


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("fuond", {}, "found, seed"),
        ("found", {"preset": "mine"}, "paper, world"),
        ("found", {"threshold": 1}, "no setting 'threshold'"),
        ("found", {"batch": 0}, "batch=0"),
        ("seed", {"refine": "twice"}, "refine"),
        ("seed", {"dino": "vit_none", "device": "cpu"}, "no network"),
        ("spectral", {"clusters": (1,)}, "clusters"),
    ],
)
def test_what_the_registry_does_not_know_is_said(method, options, told):
    with pytest.raises((MethodError, DinoError), match=told):
        saliency.load(method, **options)


def test_a_head_can_be_given_by_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr("wordmask.saliency.found.dino_at", lambda *_: plain_saliency.tiny_dino())
    head = new_head(plain_saliency.WIDTH)
    torch.save({"decoder": head.state_dict()}, tmp_path / "head.pt")
    loaded = saliency.load("found", weights=tmp_path / "head.pt", device="cpu", refine="found")
    assert (type(loaded), loaded.preset, loaded.settings.refine) == (Found, "paper", "found")
    assert torch.equal(loaded.head.weight, head.weight)


def test_the_package_is_light_to_import():
    code = "import sys, wordmask.saliency; print('torch' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
