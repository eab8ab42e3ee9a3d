"""Students as segmenters: fixed names, several sizes, published checkpoints."""

import numpy as np
import pytest
import torch

import wordmask
from support import plain_deeplab
from support.tiny_student import NAMES, expected_logits, picture, tiny_student
from wordmask.pictures import windows
from wordmask.pictures.images import to_tensor
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.deeplab import DeepLabV3Plus
from wordmask.segmenters.namedmask import PRESETS, NamedMask, NamedMaskSettings, benchmark_names, read_published
from wordmask.segmenters.student_file import write_student
from wordmask.weights.loading import WeightsError
from wordmask_world import THINGS, models
from wordmask_world.benchmark import World
from wordmask_world.models import WorldModelError


def of(student, **settings):
    return NamedMask(student, NamedMaskSettings(**settings), device="cpu", precision="fp32")


def labels_of(segmenter, image, names=tuple(NAMES)):
    return segmenter.segment(image, names if isinstance(names, dict) else list(names), fill=True).labels


@pytest.fixture(scope="module")
def segmenter():
    return of(tiny_student())


def test_every_pixel_bears_the_best_of_the_names_asked_for_in_any_order(segmenter):
    image = picture(1)
    logits = expected_logits(segmenter, image)
    assert len(np.unique(logits.argmax(dim=0))) == len(NAMES)
    for classes in ([0, 1, 2, 3], [3, 2, 1, 0], [3, 1]):
        names = [list(NAMES)[own] for own in classes]
        assert np.array_equal(labels_of(segmenter, image, names), logits[classes].argmax(dim=0).numpy())


def test_what_was_not_asked_for_is_background(segmenter):
    whole = labels_of(segmenter, picture(1))
    assert np.array_equal(labels_of(segmenter, picture(1), ["cat", "background"]), whole != list(NAMES).index("cat"))


@pytest.mark.parametrize("plain", [windows._PLAIN_BYTES, 0])
def test_scores_are_probabilities_among_the_names_asked_for(segmenter, monkeypatch, plain):
    monkeypatch.setattr(windows, "_PLAIN_BYTES", plain)
    image = picture(2)
    for names, classes in ((list(NAMES), [0, 1, 2, 3]), (["dog", "cat"], [1, 2])):
        expected = expected_logits(segmenter, image)[classes].softmax(dim=0).amax(dim=0).numpy()
        # Its logits reach 75, of which single floats round 1e-5 with batch norms and without.
        assert np.abs(segmenter.segment(image, names, fill=True).scores - expected).max() < 5e-5


@pytest.mark.parametrize("names", [["Puppy", "background"], {"hound": ["dog"], "background": None}])
def test_a_synonym_of_the_student_s_or_of_the_asker_s_is_as_good_as_the_name(segmenter, names):
    asked = segmenter.segment(picture(3), names, fill=True)
    assert asked.names == list(names)
    assert np.array_equal(asked.labels, labels_of(segmenter, picture(3), ["dog", "background"]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["zebra", "background"], "not distilled for 'zebra': it knows background, dog, cat, sofa"),
        (["dog", "puppy"], "'dog' and 'puppy' are one and the same"),
    ],
)
def test_names_that_the_student_does_not_know_or_cannot_tell_apart_are_refused(segmenter, names, message):
    with pytest.raises(SegmenterError, match=message):
        labels_of(segmenter, picture(1), names)


def test_pictures_of_several_sizes_give_what_each_gives_alone(segmenter):
    images = [picture(1), picture(2, (40, 64)), picture(3)]
    together = segmenter.segment_many(images, list(NAMES), batch_size=3, fill=True)
    for image, result in zip(images, together, strict=True):
        assert result.size == image.shape[:2]
        assert np.array_equal(result.labels, labels_of(segmenter, image))


def test_the_network_looks_once_for_any_number_of_questions(segmenter, monkeypatch):
    segmenter.look(picture(1))  # from here on it is ready
    calls = []
    original = DeepLabV3Plus.features
    monkeypatch.setattr(DeepLabV3Plus, "features", lambda own, images: calls.append(1) or original(own, images))
    seen = segmenter.look(picture(1))
    seen.segment(["dog"], fill=True)
    seen.segment(["cat", "background"], fill=True)
    assert len(calls) == 1


def test_with_more_names_than_channels_the_answer_is_the_same():
    names = {"background": None} | {f"thing {number}": None for number in range(6)}
    many = of(tiny_student(names))
    assert many.keeps_features
    assert np.array_equal(
        labels_of(many, picture(4), tuple(names)), expected_logits(many, picture(4)).argmax(dim=0).numpy()
    )


def test_longer_side_is_the_side_that_the_network_sees_and_not_the_answer_s():
    image, segmenter = picture(5, (50, 80)), of(tiny_student(), longer_side=128)
    labels = labels_of(segmenter, image)
    assert labels.shape == (50, 80)
    assert np.array_equal(labels, expected_logits(segmenter, image, (80, 128)).argmax(dim=0).numpy())


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, (300, 500)),
        ({"longer_side": 1024}, (614, 1024)),
        ({"shorter_side": 384, "longer_side": 512}, (307, 512)),
        ({"shorter_side": 192}, (192, 320)),
        ({"most_pixels": 37_500}, (150, 250)),
    ],
)
def test_sizes_are_the_paper_s(settings, size):
    assert NamedMaskSettings(**settings).size(300, 500) == size


def test_a_student_s_file_loads_through_the_front_door_unless_it_was_cut_short(tmp_path):
    student, path = tiny_student(), tmp_path / "student.safetensors"
    write_student(path, student.network, student.vocabulary)
    loaded = wordmask.load("namedmask", weights=path, device="cpu", precision="fp32")
    assert np.array_equal(labels_of(loaded, picture(1)), labels_of(of(student), picture(1)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match=r"student\.safetensors"):
        wordmask.load("namedmask", weights=path, device="cpu")


def test_a_missing_student_of_the_world_is_told_with_the_way_to_have_one(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    with pytest.raises(WorldModelError, match="wordmask distill --preset world"):
        wordmask.load("namedmask", preset="world", device="cpu")


def test_the_world_s_student_ships_and_finds_things():
    student = wordmask.load("namedmask", preset="world", device="cpu")
    assert student.vocabulary.names == ("background", *THINGS)
    assert "docs/namedmask-ablations.md" in student.metadata["command"]
    assert wordmask.evaluate(student, World("single", pictures=24)).miou > 40


@pytest.fixture(scope="module")
def published_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "expert_dog.pt"
    torch.save(plain_deeplab.random_checkpoint(2), path)
    return path


@pytest.mark.slow
def test_a_published_file_segments_as_the_formula_says(published_file):
    assert 101 < published_file.stat().st_size / 2**20 < 103  # about as large as they say
    names = ["background", "dog"]
    segmenter = wordmask.load("namedmask", weights=published_file, names=names, device="cpu", precision="fp32")
    image = picture(1, (65, 80))
    pixels = segmenter.network.statistics.normalise(to_tensor(image))[None]
    expected = plain_deeplab.forward(plain_deeplab.random_checkpoint(2), pixels)[0]
    sure = (expected[0] - expected[1]).abs() > 1e-3
    assert sure.float().mean() > 0.95
    assert (torch.from_numpy(labels_of(segmenter, image, names).astype(int)) == expected.argmax(dim=0))[sure].all()


@pytest.mark.parametrize(
    ("address", "settings", "name"),
    [("namedmask-expert-potted-plant", {}, "potted plant"), ("expert.pt", {"names": ("dog",)}, "dog")],
)
def test_an_expert_s_name_is_the_catalogue_s_or_told_and_background_goes_without_saying(
    published_file, address, settings, name
):
    student = read_published(published_file, address, NamedMaskSettings(**settings))
    assert student.vocabulary.names == ("background", name)


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("imagenet_s50", "its 2 classes are called.*names_file=FILE"),
        ("voc2012", "has 2 classes, and was given 21 names"),
    ],
)
def test_a_checkpoint_whose_classes_have_no_names_or_too_many_is_refused(published_file, preset, message):
    with pytest.raises(SegmenterError, match=message):
        read_published(published_file, "somewhere.pt", PRESETS[preset])


def test_another_network_s_checkpoint_is_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(SegmenterError, match="no NamedMask checkpoint"):
        wordmask.load("namedmask", weights=tmp_path / "other.pt", device="cpu")


@pytest.mark.parametrize(
    ("preset", "classes"), [("voc2012", 21), ("coco", 81), ("coca", 81), ("cityscapes_object", 15)]
)
def test_published_students_know_their_benchmark_s_names(preset, classes):
    names = benchmark_names(PRESETS[preset].benchmark)
    assert (len(names), names[0]) == (classes, "background")
