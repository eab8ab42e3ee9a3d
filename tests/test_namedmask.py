"""Students as segmenters: fixed names, several sizes, published checkpoints."""

import numpy as np
import pytest
import torch

import wordmask
from support import plain_deeplab
from support.tiny_student import NAMES, expected_logits, picture, tiny_student
from wordmask.pictures.images import to_tensor
from wordmask.segmenters import namedmask
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.namedmask import PRESETS, NamedMask, NamedMaskSettings, benchmark_names, read_published
from wordmask.segmenters.student_file import write_student
from wordmask.weights.loading import WeightsError
from wordmask_world import THINGS, models
from wordmask_world.benchmark import World
from wordmask_world.models import WorldModelError


@pytest.fixture(scope="module")
def segmenter():
    return NamedMask(tiny_student(), device="cpu", precision="fp32")


def test_every_pixel_bears_its_best_name(segmenter):
    image = picture(1)
    result = segmenter.segment(image, list(NAMES), fill=True)
    logits = expected_logits(segmenter, image)
    assert len(np.unique(result.labels)) == len(NAMES)
    assert np.array_equal(result.labels, logits.argmax(dim=0).numpy())


def test_names_may_be_asked_for_in_any_order(segmenter):
    image = picture(1)
    first = segmenter.segment(image, list(NAMES), fill=True)
    second = segmenter.segment(image, list(NAMES)[::-1], fill=True)
    assert all(np.array_equal(first.mask(name), second.mask(name)) for name in NAMES)


def test_what_was_not_asked_for_is_background(segmenter):
    image = picture(1)
    whole = segmenter.segment(image, list(NAMES), fill=True)
    part = segmenter.segment(image, ["cat", "background"], fill=True)
    assert np.array_equal(part.mask("cat"), whole.mask("cat"))
    assert np.array_equal(part.mask("background"), ~whole.mask("cat"))


def test_without_background_every_pixel_bears_one_of_the_names_asked_for(segmenter):
    image = picture(1)
    logits = expected_logits(segmenter, image)
    result = segmenter.segment(image, ["sofa", "dog"], fill=True)
    assert np.array_equal(result.labels, logits[[3, 1]].argmax(dim=0).numpy())


def test_scores_are_probabilities_among_the_names_asked_for(segmenter, monkeypatch):
    image = picture(2)
    logits = expected_logits(segmenter, image)
    for names, classes in ((list(NAMES), [0, 1, 2, 3]), (["dog", "cat"], [1, 2])):
        expected = logits[classes].softmax(dim=0).amax(dim=0).numpy()
        assert np.abs(segmenter.segment(image, names, fill=True).scores - expected).max() < 1e-5
        with monkeypatch.context() as patch:
            patch.setattr(namedmask, "SWEEP_BYTES", 1)
            assert np.abs(segmenter.segment(image, names, fill=True).scores - expected).max() < 1e-5


def test_a_synonym_of_the_student_s_is_as_good_as_the_name(segmenter):
    image = picture(3)
    assert np.array_equal(
        segmenter.segment(image, ["Puppy", "background"], fill=True).labels,
        segmenter.segment(image, ["dog", "background"], fill=True).labels,
    )


def test_a_synonym_of_the_asker_s_will_do(segmenter):
    image = picture(3)
    asked = segmenter.segment(image, {"hound": ["dog"], "background": None}, fill=True)
    assert asked.names == ["hound", "background"]
    assert np.array_equal(asked.labels, segmenter.segment(image, ["dog", "background"], fill=True).labels)


def test_a_name_that_the_student_does_not_know_is_an_error_that_lists_those_it_knows(segmenter):
    with pytest.raises(SegmenterError, match="not distilled for 'zebra': it knows background, dog, cat, sofa"):
        segmenter.segment(picture(1), ["zebra", "background"], fill=True)


def test_two_words_for_one_class_cannot_be_told_apart(segmenter):
    with pytest.raises(SegmenterError, match="'dog' and 'puppy' are one and the same"):
        segmenter.segment(picture(1), ["dog", "puppy"], fill=True)


def test_pictures_of_several_sizes_give_what_each_gives_alone(segmenter):
    images = [picture(1), picture(2, (40, 64)), picture(3)]
    together = list(segmenter.segment_many(images, list(NAMES), batch_size=3, fill=True))
    for image, result in zip(images, together, strict=True):
        assert result.size == image.shape[:2]
        assert np.array_equal(result.labels, segmenter.segment(image, list(NAMES), fill=True).labels)


def test_the_network_looks_once_for_any_number_of_questions(segmenter, monkeypatch):
    calls = []
    original = segmenter.network.features
    monkeypatch.setattr(segmenter.network, "features", lambda images: calls.append(1) or original(images))
    seen = segmenter.look(picture(1))
    seen.segment(["dog"], fill=True)
    seen.segment(["cat", "background"], fill=True)
    assert len(calls) == 1


def test_with_more_names_than_channels_the_answer_is_the_same():
    names = {"background": None} | {f"thing {number}": None for number in range(6)}
    many = NamedMask(tiny_student(names), device="cpu", precision="fp32")
    assert many.keeps_features
    image = picture(4)
    assert np.array_equal(
        many.segment(image, list(names), fill=True).labels, expected_logits(many, image).argmax(dim=0).numpy()
    )


def test_longer_side_is_the_side_that_the_network_sees_and_not_the_answer_s():
    student = tiny_student()
    image = picture(5, (50, 80))
    segmenter = NamedMask(student, NamedMaskSettings(longer_side=128), device="cpu", precision="fp32")
    result = segmenter.segment(image, list(NAMES), fill=True)
    assert result.size == (50, 80)
    assert np.array_equal(result.labels, expected_logits(segmenter, image, (80, 128)).argmax(dim=0).numpy())


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (NamedMaskSettings(), (300, 500)),
        (NamedMaskSettings(longer_side=1024), (614, 1024)),
        (NamedMaskSettings(shorter_side=384, longer_side=512), (307, 512)),
        (NamedMaskSettings(shorter_side=192), (192, 320)),
        (NamedMaskSettings(most_pixels=37_500), (150, 250)),
    ],
)
def test_sizes_are_the_paper_s(settings, size):
    assert settings.size(300, 500) == size


def test_a_student_s_file_loads_through_the_front_door(tmp_path):
    student = tiny_student()
    write_student(tmp_path / "student.safetensors", student.network, student.vocabulary)
    loaded = wordmask.load("namedmask", weights=tmp_path / "student.safetensors", device="cpu", precision="fp32")
    image = picture(1)
    assert np.array_equal(
        loaded.segment(image, list(NAMES), fill=True).labels,
        NamedMask(student, device="cpu", precision="fp32").segment(image, list(NAMES), fill=True).labels,
    )


def test_a_missing_student_of_the_world_is_told_with_the_way_to_have_one(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    with pytest.raises(WorldModelError, match="wordmask distill --preset world"):
        wordmask.load("namedmask", preset="world", device="cpu")


def test_the_world_s_student_ships_and_finds_things():
    student = wordmask.load("namedmask", preset="world", device="cpu")
    assert student.vocabulary.names == ("background", *THINGS)
    assert "wordmask tables namedmask-world-3" in student.told["command"]
    assert wordmask.evaluate(student, World("single", pictures=24)).miou > 40


@pytest.fixture(scope="module")
def published_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "expert_dog.pt"
    torch.save(plain_deeplab.random_checkpoint(2), path)
    return path


@pytest.mark.slow
def test_a_published_file_segments_as_the_formula_says(published_file):
    segmenter = wordmask.load(
        "namedmask", weights=published_file, names=["background", "dog"], device="cpu", precision="fp32"
    )
    image = picture(1, (65, 80))
    pixels = segmenter.network.statistics.normalise(to_tensor(image))[None]
    expected = plain_deeplab.forward(plain_deeplab.random_checkpoint(2), pixels)[0]
    result = segmenter.segment(image, ["background", "dog"], fill=True)
    sure = (expected[0] - expected[1]).abs() > 1e-3
    assert sure.float().mean() > 0.95
    assert (torch.from_numpy(result.labels.astype(int)) == expected.argmax(dim=0))[sure].all()


@pytest.mark.slow
def test_a_published_file_is_about_as_large_as_they_say(published_file):
    assert 101 < published_file.stat().st_size / 2**20 < 103


def test_an_expert_of_the_catalogue_knows_its_name(published_file):
    student = read_published(published_file, "namedmask-expert-potted-plant", NamedMaskSettings())
    assert student.vocabulary.names == ("background", "potted plant")


def test_a_checkpoint_whose_classes_nobody_knows_asks_for_their_names(published_file):
    with pytest.raises(SegmenterError, match="its 2 classes are called.*names_file=FILE"):
        read_published(published_file, "somewhere.pt", PRESETS["imagenet_s50"])


def test_a_list_of_names_of_another_length_is_an_error(published_file):
    with pytest.raises(SegmenterError, match="has 2 classes, and 21 names"):
        read_published(published_file, "somewhere.pt", PRESETS["voc2012"])


def test_background_goes_without_saying_in_a_list_of_names(published_file):
    student = read_published(published_file, "expert.pt", NamedMaskSettings(names=("dog",)))
    assert student.vocabulary.names == ("background", "dog")


def test_another_network_s_checkpoint_is_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(SegmenterError, match="no NamedMask checkpoint"):
        wordmask.load("namedmask", weights=tmp_path / "other.pt", device="cpu")


def test_a_file_cut_short_is_an_error(tmp_path):
    student = tiny_student()
    write_student(tmp_path / "student.safetensors", student.network, student.vocabulary)
    whole = (tmp_path / "student.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cut.safetensors"):
        wordmask.load("namedmask", weights=tmp_path / "cut.safetensors", device="cpu")


@pytest.mark.parametrize(
    ("preset", "classes"), [("voc2012", 21), ("coco", 81), ("coca", 81), ("cityscapes_object", 15)]
)
def test_published_students_know_their_benchmark_s_names(preset, classes):
    names = benchmark_names(PRESETS[preset].benchmark)
    assert len(names) == classes
    assert names[0] == "background"
