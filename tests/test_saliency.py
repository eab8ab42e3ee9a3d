"""The interface of all saliency methods, its registry, and what odd pictures give."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from support import plain_saliency
from wordmask import saliency
from wordmask.encoders.dino import DinoError
from wordmask.methods import MethodError, check_method, methods_of, presets_by_name
from wordmask.pictures.image_files import ImageReadError
from wordmask.refinement import clean_up as refinement
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.saliency.base import Saliency, SaliencyError, SaliencySettings, network_maps, size_for_patches
from wordmask.saliency.found import Found, FoundSettings, SeedSaliency, SeedSettings, new_head
from wordmask.saliency.instances import InstanceSaliency, instance_map
from wordmask.saliency.selfmask import SelfMask, SelfMaskSettings
from wordmask.saliency.selfmask_network import SelfMaskNetwork, SelfMaskShape
from wordmask.saliency.spectral_voting import VotedMasks, VotingSettings, vote
from wordmask.weights.download import DownloadError

TINY = SelfMaskShape(image_size=40, patch=8, width=48, blocks=2, heads=3, queries=5, layers=2)


def found(refine="none"):
    torch.manual_seed(0)
    head = plain_saliency.stirred(new_head(plain_saliency.WIDTH))
    return Found(plain_saliency.tiny_dino(), head, FoundSettings(refine=refine))


def seed(refine="none"):
    return SeedSaliency(plain_saliency.tiny_dino(), SeedSettings(refine=refine))


def selfmask(refine="none"):
    torch.manual_seed(0)
    return SelfMask(
        plain_saliency.stirred(SelfMaskNetwork(TINY)), SelfMaskSettings(refine=refine), device="cpu", precision="fp32"
    )


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
    maps = read.maps(list(ODD.values()))
    for name, image, soft in zip(ODD, ODD.values(), maps, strict=True):
        assert soft.shape == image.shape[:2], name
        assert soft.dtype == np.float32, name
        assert np.isfinite(soft).all(), name
        assert soft.min() >= 0, name
        assert soft.max() <= 1, name
        again = read.maps([image])[0]
        assert np.allclose(soft, again, atol=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("refine", ["none", "solver", "found"])
@pytest.mark.parametrize("method", ALL)
def test_a_photograph_of_24_megapixels_gets_a_finite_map_of_its_size(method, refine):
    """Blocks of noise, and a strip of noise in every pixel, which is the most work for the solver."""
    image = np.repeat(np.repeat(noise(60, 40), 100, axis=0), 100, axis=1)
    image[:500] = noise(500, 4000)
    read = ALL[method](refine)
    object.__setattr__(read.settings, "most_patches", 1024)
    [soft] = read.maps([image])
    assert soft.shape == (6000, 4000)
    assert soft.dtype == np.float32
    assert np.isfinite(soft).all()
    assert soft.min() >= 0
    assert soft.max() <= 1


@pytest.mark.parametrize("refine", ["solver", "found"])
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("name", ODD)
def test_refining_leaves_all_or_nothing_as_it_is(name, value, refine):
    soft = np.full(ODD[name].shape[:2], value, np.float32)
    assert np.allclose(refinement.refine(ODD[name], soft, refine), soft, atol=1e-4)


@pytest.mark.parametrize("method", ["found", "selfmask", "spectral"])
def test_a_network_with_damaged_weights_is_an_error_and_no_map(method):
    read = ALL[method]()
    model = read.network if method == "selfmask" else getattr(read, "encoder", None) or read.encoders[0]
    for parameter in model.parameters() if method == "selfmask" else model.model.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(SaliencyError, match="no finite number"):
        read.maps([noise(40, 48)])


def test_where_nothing_differs_voting_finds_no_foreground():
    """A network that sees no difference between patches: there is nothing to cluster."""
    encoder = plain_saliency.tiny_dino()
    with torch.no_grad():
        encoder.model.norm.weight.zero_()
    assert not VotedMasks([encoder]).maps([noise(40, 48)])[0].any()


def test_a_seed_like_everything_leaves_no_foreground():
    encoder = plain_saliency.tiny_dino()
    settings = SeedSettings(similarity=-1)
    assert not SeedSaliency(encoder, settings).maps([noise(40, 48)])[0].any()


@pytest.mark.parametrize("method", ["found", "seed", "selfmask"])
def test_a_very_large_picture_is_looked_at_smaller(method):
    read = ALL[method]()
    object.__setattr__(read.settings, "most_patches", 64)
    [soft] = read.maps([noise(700, 900)])
    assert soft.shape == (700, 900)
    assert np.isfinite(soft).all()


def test_clustering_a_large_picture_stays_within_its_limit(monkeypatch):
    from wordmask.saliency import spectral_voting

    seen = []
    embedding = spectral_voting.spectral_embedding
    monkeypatch.setattr(
        spectral_voting,
        "spectral_embedding",
        lambda points, count: (seen.append(len(points)), embedding(points, count))[1],
    )
    read = VotedMasks([plain_saliency.tiny_dino()], VotingSettings(most_points=256, most_patches=1024))
    [soft] = read.maps([noise(400, 500)])
    assert soft.shape == (400, 500)
    assert max(seen) <= 256


@pytest.mark.parametrize("method", ALL)
def test_maps_do_not_depend_on_their_neighbours_in_the_batch(method):
    read = ALL[method]()
    images = [noise(40, 48), noise(40, 48)[::-1].copy(), noise(33, 50)]
    together = read.maps(images)
    for image, soft in zip(images, together, strict=True):
        assert np.allclose(read.maps([image])[0], soft, atol=1e-5)


def test_no_pictures_give_no_maps():
    assert found().maps([]) == []


def test_a_stream_keeps_its_order_and_leaves_out_what_cannot_be_read(tmp_path):
    for name, shape in (("a.png", (20, 30)), ("c.png", (10, 12))):
        Image.fromarray(noise(*shape)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"no picture")
    bad = []
    seen = list(seed().look_many([tmp_path / f"{name}.png" for name in "abc"], batch_size=2, on_bad=bad.append))
    assert [(own.source, own.soft.shape) for own in seen] == [
        (str(tmp_path / "a.png"), (20, 30)),
        (str(tmp_path / "c.png"), (10, 12)),
    ]
    assert [error.source for error in bad] == [str(tmp_path / "b.png")]


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


def test_one_picture_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(ImageReadError):
        seed().look(tmp_path / "nothing.png")


def test_a_saved_map_is_a_grey_png(tmp_path):
    seen = found().look(noise(24, 31))
    seen.save(tmp_path / "out" / "map.png")
    read = np.asarray(Image.open(tmp_path / "out" / "map.png"))
    assert np.array_equal(read, np.rint(seen.soft * 255))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["map.png"]


def test_an_overlay_tints_the_foreground_alone():
    seen = instances().look(noise(40, 60))
    overlay = np.asarray(seen.overlay())[:40]
    inside = np.zeros((40, 60), bool)
    inside[22:, 32:] = True  # background, away from the border's lines
    assert np.array_equal(overlay[inside], seen.image[inside])
    assert not np.array_equal(overlay[:15, :20], seen.image[:15, :20])


def test_instances_are_summed_by_their_scores():
    masks = np.zeros((3, 2, 2), bool)
    masks[0, 0], masks[1, :, 0], masks[2] = True, True, True
    expected = np.array([[0.8 + 0.4, 0.8], [0.4, 0]]) / 1.2
    assert np.allclose(instance_map(masks, np.array([0.8, 0.4, 0.29])), expected)


def test_without_sure_instances_nothing_is_foreground():
    assert not instance_map(np.ones((2, 4, 5), bool), np.array([0.1, 0.2])).any()
    assert instance_map(np.zeros((0, 4, 5), bool), np.zeros(0)).shape == (4, 5)
    assert not instance_map(np.zeros((1, 4, 5), bool), np.ones(1)).any()


def test_an_instance_of_exactly_the_least_score_stays():
    assert instance_map(np.ones((1, 2, 2), bool), np.array([0.3])).all()


@pytest.mark.parametrize(
    ("masks", "scores"),
    [
        (np.ones((2, 4, 4)), np.ones(3)),
        (np.ones((4, 4)), np.ones(4)),
        (np.ones((1, 4, 4)), np.array([np.nan])),
        (np.full((1, 4, 4), -1.0), np.ones(1)),
    ],
)
def test_instances_that_make_no_map_are_refused(masks, scores):
    with pytest.raises(SaliencyError, match="instances"):
        instance_map(masks, scores)


def test_instances_of_another_size_are_refused():
    read = InstanceSaliency(lambda image: (np.ones((1, 3, 3), bool), np.ones(1)))
    with pytest.raises(SaliencyError, match="masks are"):
        read.maps([noise(5, 5)])


def test_a_segmenter_that_finds_nothing_gives_an_empty_map():
    read = InstanceSaliency(lambda image: (np.zeros((0, *image.shape[:2]), bool), np.zeros(0)))
    assert not read.maps([noise(5, 6)])[0].any()


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


def test_alike_pictures_go_through_the_network_together():
    seen = []

    def read(batch):
        seen.append(tuple(batch.shape))
        return batch.mean(dim=1)

    images = [noise(16, 24), noise(8, 8), noise(16, 24), noise(16, 24)]
    maps = network_maps(images, read, patch=8, settings=SaliencySettings(most_patches=100, batch=2))
    assert seen == [(2, 3, 16, 24), (1, 3, 16, 24), (1, 3, 8, 8)]
    for image, soft in zip(images, maps, strict=True):
        assert np.allclose(soft, image.mean(axis=2) / 255, atol=1e-6)


def test_small_pictures_are_looked_at_enlarged():
    seen = []

    def read(batch):
        seen.append(tuple(batch.shape))
        return batch.mean(dim=1)

    image = np.full((16, 24, 3), 51, dtype=np.uint8)
    [soft] = network_maps([image], read, patch=8, settings=SaliencySettings(zoom=3))
    assert seen == [(1, 3, 48, 72)]
    assert soft.shape == (16, 24)
    assert np.allclose(soft, 0.2, atol=1e-6)
    assert size_for_patches(100, 100, 8, 256, zoom=5) == size_for_patches(500, 500, 8, 256)


def test_every_method_of_the_registry_is_a_saliency_with_both_presets():
    for name in methods_of("saliency"):
        own = check_method("saliency", name, preset="paper", settings=())
        assert issubclass(own, Saliency)
        assert own.method == name
        assert set(presets_by_name("saliency", name)) == {"paper", "world"}


@pytest.mark.parametrize("method", ["found", "seed"])
def test_the_papers_found_reads_the_dino_that_its_head_was_trained_on(method, monkeypatch):
    """`timm` has another run of the same name. Without a network, the error names the file that is wanted."""
    with pytest.raises(DownloadError, match="dino_deitsmall8_300ep_pretrain"):
        saliency.load(method, preset="paper", device="cpu")


def test_a_very_large_picture_is_solved_smaller(monkeypatch):
    image, soft = noise(60, 90), np.zeros((60, 90), np.float32)
    soft[10:50, 20:70] = 1
    solved = []
    monkeypatch.setattr(refinement, "MOST_PIXELS", 600)
    monkeypatch.setattr(
        refinement, "BilateralGrid", lambda image: (solved.append(image.shape), BilateralGrid(image))[1]
    )
    for how in ("solver", "found"):
        refined = refinement.refine(image, soft, how)
        assert refined.shape == (60, 90)
        assert refined.min() >= 0
        assert refined.max() <= 1
    assert solved == [(20, 30, 3)] * 2
    assert set(np.unique(refined)) <= {0, 1}


def test_a_very_large_picture_is_voted_on_smaller(monkeypatch):
    from wordmask.saliency import spectral_voting

    voted = []
    monkeypatch.setattr(spectral_voting, "MOST_PIXELS", 600)
    monkeypatch.setattr(spectral_voting, "vote", lambda masks: (voted.append(masks.shape), vote(masks))[1])
    [soft] = spectral().maps([noise(60, 90)])
    assert soft.shape == (60, 90)
    assert voted[0][1] * voted[0][2] <= 600


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("fuond", {}, "found, seed"),
        ("found", {"preset": "mine"}, "paper, world"),
        ("found", {"threshold": 1}, "no setting 'threshold'"),
        ("found", {"batch": 0}, "batch=0"),
        ("seed", {"refine": "twice"}, "refine"),
        ("spectral", {"clusters": (1,)}, "clusters"),
    ],
)
def test_what_the_registry_does_not_know_is_said(method, options, told):
    with pytest.raises(MethodError, match=told):
        saliency.load(method, **options)


def test_a_head_can_be_given_by_its_file(tmp_path, monkeypatch):
    encoder = plain_saliency.tiny_dino()
    monkeypatch.setattr("wordmask.saliency.found.dino_at", lambda *_: encoder)
    head = new_head(plain_saliency.WIDTH)
    torch.save({"decoder": head.state_dict()}, tmp_path / "head.pt")
    loaded = saliency.load("found", weights=tmp_path / "head.pt", device="cpu", refine="found")
    assert isinstance(loaded, Found)
    assert loaded.preset == "paper"
    assert loaded.settings.refine == "found"
    assert torch.equal(loaded.head.weight, head.weight)


def test_a_dino_of_no_library_is_said():
    with pytest.raises(DinoError, match="no network"):
        saliency.load("seed", dino="vit_none", device="cpu")


def test_the_package_is_light_to_import():
    import subprocess
    import sys

    code = "import sys, wordmask.saliency; print('torch' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_png_in_memory_is_a_picture_too():
    buffer = io.BytesIO()
    Image.fromarray(noise(20, 22)).save(buffer, format="PNG")
    assert seed().look(buffer.getvalue()).soft.shape == (20, 22)
