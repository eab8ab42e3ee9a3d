"""Students of an open vocabulary: their features, their losses, their files, and their answers to any names."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import wordmask
from support.served_client import client_of, form
from support.small_archive import NAMES, QUICK, TINY, make_archive
from support.stopped_training import Killed, log_of, stop_at
from support.tiny_collection import COLOURS, ColourClip, embedder, encoded, picture, write_pictures
from support.tiny_teacher import ColourTeacher
from wordmask.benchmarks.datasets import Sample
from wordmask.collection.piles import open_pile
from wordmask.distillation.batches import Batch
from wordmask.distillation.feature_space import (
    LEAST_FOUND,
    RESTORED,
    FeatureSpace,
    fit_last_layer,
    settle_ground,
    survey,
)
from wordmask.distillation.open_student import (
    FeatureSamples,
    OpenLoss,
    Texts,
    train_open_student,
)
from wordmask.distillation.records import DistillationError
from wordmask.distillation.student import StudentSettings, examples_of
from wordmask.distillation.target_examples import TargetExamples
from wordmask.distillation.teacher import Lesson, blocks_of_pile, teach
from wordmask.distillation.training import seeded
from wordmask.export.graphs import graph_of
from wordmask.hub import Card, HubError, save_folder
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters import open_student
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.deeplab import DeepLabV3Plus
from wordmask.segmenters.onnx_file import ExportError
from wordmask.segmenters.open_deeplab import OpenDeepLab, new_open_network
from wordmask.segmenters.open_student import (
    OpenStudent,
    OpenStudentFile,
    TextTower,
    open_logits,
    read_open_student,
    write_open_student,
)
from wordmask.segmenters.student_file import write_student
from wordmask.weights.loading import WeightsError, read_state_dict

pytestmark = pytest.mark.usefixtures("one_thread")

COLOUR_NAMES = ("red", "green", "blue")
TEXTS = Texts(embedder(), TextTower("tiny", None, "plain", ColourClip.text_fingerprint))
OPEN = replace(QUICK, vocabulary="open", temperature=0.1)


def texts_of(names):
    return TEXTS.embed(Vocabulary.of(names))


@pytest.fixture
def targets(tmp_path):
    write_pictures(tmp_path / "pictures", 9)
    lesson = Lesson(Vocabulary.of(COLOUR_NAMES), features=True)
    pile = open_pile(tmp_path / "pictures")
    return teach(blocks_of_pile(pile), pile.root, ColourTeacher, lesson, tmp_path / "taught")


def learn(examples, out, settings=OPEN, names=COLOUR_NAMES, **options):
    return train_open_student(examples, names, settings, out, texts=TEXTS, seed=1, device="cpu", **options)


def test_logits_are_background_and_cosines_by_temperature():
    output = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    text = texts_of({"red": ["green"], "blue": None})
    found = open_logits(output, text, 0.04)
    assert found.shape == (2, 3, 3, 5)
    unit = {name: np.array(COLOURS[name]) / np.linalg.norm(COLOURS[name]) for name in COLOURS}
    for at in ((0, 0, 0), (1, 2, 4)):
        own = output[at[0], :, at[1], at[2]].double().numpy()
        feature = own[:3] / np.linalg.norm(own[:3])
        expected = [
            own[3] / 0.2,
            max(feature @ unit["red"], feature @ unit["green"]) / 0.04,
            feature @ unit["blue"] / 0.04,
        ]
        assert found[at[0], :, at[1], at[2]].tolist() == pytest.approx(expected, abs=1e-4)


def space_of(dimensions=3, seed=7):
    """Return a space whose directions are at right angles, as those of a survey are."""
    dice = torch.Generator().manual_seed(seed)
    turned = torch.linalg.qr(torch.randn(dimensions, dimensions, generator=dice))[0]
    deviations, weights = torch.rand(2, dimensions, generator=dice) + 0.1
    return FeatureSpace(torch.randn(dimensions, generator=dice), turned * deviations, weights / weights.sum())


def test_without_a_teachers_features_the_loss_is_cross_entropy():
    dice = torch.Generator().manual_seed(1)
    output, labels = torch.randn(2, 4, 2, 3, generator=dice), torch.randint(0, 4, (2, 4, 6), generator=dice)
    labels[0, :2] = 255
    loss = OpenLoss(TEXTS, Vocabulary.of(COLOUR_NAMES), OPEN)
    found = loss(output, labels, None, ignore=255, counted=torch.tensor(40))
    logits = F.interpolate(open_logits(output, texts_of(COLOUR_NAMES), 0.1), size=(4, 6), mode="bilinear")
    chances = logits.softmax(dim=1)
    told = [place for place in np.ndindex(2, 4, 6) if labels[place] != 255]
    expected = sum(-float(chances[b, labels[b, y, x], y, x].log()) for b, y, x in told) / 40
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_with_them_it_is_how_far_coordinates_are_apart_and_cross_entropy_moves_background_alone():
    dice = torch.Generator().manual_seed(1)
    output, teacher = torch.randn(2, 4, 2, 3, generator=dice), torch.randn(2, 3, 2, 3, generator=dice)
    teacher[:, :, 0, 1] = 0  # nothing to be learnt there
    labels, counted = torch.randint(0, 4, (2, 4, 6), generator=dice), torch.tensor(48)
    space, settings = space_of(), replace(OPEN, batch=4, features_weight=0.7)
    found = OpenLoss(TEXTS, Vocabulary.of(COLOUR_NAMES), settings, space)(
        output.requires_grad_(), labels, teacher, ignore=255, counted=counted
    )
    apart = 0.0
    for b, y, x in np.ndindex(2, 2, 3):
        if (y, x) != (0, 1):
            own = torch.linalg.solve(space.directions.double(), (teacher[b, :, y, x] - space.mean).double())
            apart += float((space.weights * (output[b, :3, y, x].detach() - own) ** 2).sum())
    features = torch.einsum("dk,bkhw->bdhw", space.directions, output[:, :3]) + space.mean[:, None, None]
    plain = OpenLoss(TEXTS, Vocabulary.of(COLOUR_NAMES), settings)
    names = plain(torch.cat([features, output[:, 3:]], dim=1), labels, None, ignore=255, counted=counted)
    assert found.item() == pytest.approx(names.item() + 0.7 * apart / (4 * 6), rel=1e-4)
    (moved,) = torch.autograd.grad(found, output)
    (by_names,) = torch.autograd.grad(names, output)
    assert torch.allclose(moved[:, 3], by_names[:, 3])
    assert (moved[:, :3, 0, 1] == 0).all()
    assert by_names[:, :3, 0, 1].abs().max() > 0


def test_finer_features_are_held_against_the_teachers_in_the_mean_of_a_place(targets, tmp_path):
    dice = torch.Generator().manual_seed(4)
    output, teacher = torch.randn(2, 4, 4, 4, generator=dice), torch.randn(2, 3, 2, 2, generator=dice)
    nothing, counted = torch.full((2, 8, 8), 255), torch.tensor(1)
    loss = OpenLoss(TEXTS, Vocabulary.of(COLOUR_NAMES), replace(OPEN, batch=2, features_weight=1.0), space_of())
    found = loss(output, nothing, teacher, ignore=255, counted=counted)
    mean = output.reshape(2, 4, 2, 2, 2, 2).mean(dim=(3, 5))
    assert float(found) == pytest.approx(float(loss(mean, nothing, teacher, ignore=255, counted=counted)), rel=1e-4)
    zoomed = replace(OPEN, network=replace(TINY, zoom=2.0), steps=3, far_steps=2)
    network = read_open_student(learn(TargetExamples(targets), tmp_path / "zoomed", zoomed)).network
    assert network(torch.zeros(1, 3, 32, 32)).shape[-2:] == (16, 16)


def test_a_survey_measures_directions_and_there_and_back_is_the_same(targets):
    space = survey(TargetExamples(targets))
    told = np.concatenate([target.features.reshape(3, -1).T for target in targets]).astype(np.float64)
    assert space.mean.numpy() == pytest.approx(told.mean(axis=0), abs=1e-5)
    directions = space.directions.double().numpy()
    assert directions @ directions.T == pytest.approx(np.cov(told.T, bias=True), abs=2e-6)
    inner = directions.T @ directions
    assert inner - np.diag(np.diag(inner)) == pytest.approx(np.zeros((3, 3)), abs=1e-6)
    assert space.weights.numpy() == pytest.approx(np.sqrt(np.diag(inner)) / np.sqrt(np.diag(inner)).sum(), abs=1e-5)
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(space.features(space.coordinates(features)), features, atol=1e-3)


@pytest.mark.parametrize("deep", [True, False])
def test_a_network_of_coordinates_becomes_one_of_features(deep):
    torch.manual_seed(3)
    network, space = OpenDeepLab(4, TINY, is_deep=deep).eval(), space_of()
    images = torch.randn(2, 3, 32, 40)
    with torch.no_grad():
        before = network(images)
        after = space.unfold(network)(images)
    assert torch.allclose(after[:, :3], space.features(before[:, :3]), atol=1e-4)
    assert torch.equal(after[:, 3], before[:, 3])


def test_the_last_layer_is_the_least_squares_whose_directions_are_as_long_again_as_they_ought_to_be():
    torch.manual_seed(5)
    network = OpenDeepLab(4, TINY).eval()
    ground = [weight[-1].clone() for weight in network.last.weights]
    dice = torch.Generator().manual_seed(8)
    batches, rows, told = [], [], []
    for number in range(3):
        images = torch.rand(3, 3, 64, 64, generator=dice)
        with torch.no_grad():
            maps = network.depths(network.statistics.normalise(images))
        own = torch.cat([F.interpolate(each, (16, 16), mode="bilinear") for each in maps], dim=1)
        mixing = torch.randn(3, own.shape[1], generator=torch.Generator().manual_seed(9)) / 9
        teacher = torch.einsum("dc,bchw->bdhw", mixing, own)
        teacher = teacher + torch.tensor([0.2, 1.0, 4.0])[:, None, None] * torch.randn(teacher.shape, generator=dice)
        if number == 1:
            teacher[:, :, 2:9] = 0
        batches.append(Batch(images, torch.zeros(0), teacher))
        rows.append(own.movedim(1, -1)[teacher.any(dim=1)])
        told.append(teacher.movedim(1, -1)[teacher.any(dim=1)])
    space = space_of()
    fit_last_layer(network, space, batches)
    assert all(torch.equal(weight[-1], own) for weight, own in zip(network.last.weights, ground, strict=True))
    rows, told = torch.cat(rows).double().numpy(), torch.cat(told).double().numpy()
    left = np.column_stack([rows, np.ones(len(rows))])
    nearest = left @ np.linalg.lstsq(left, told, rcond=1e-9)[0]
    expected = told.mean(axis=0) + np.zeros_like(told)
    for direction in space.directions.double().numpy().T:
        unit = direction / np.linalg.norm(direction)
        along = (nearest - told.mean(axis=0)) @ unit
        share = np.clip(along.var() / np.linalg.norm(direction) ** 2, LEAST_FOUND, 1)
        expected += np.outer(along * share**-RESTORED, unit)
    with torch.no_grad():
        said = (
            torch.cat(
                [
                    network(network.statistics.normalise(batch.images))[:, :3].movedim(1, -1)[batch.beside.any(dim=1)]
                    for batch in batches
                ]
            )
            .double()
            .numpy()
        )
    assert np.abs(said - expected).max() < 0.05 * expected.std()
    assert np.abs(said - expected).mean() < 0.005 * expected.std()


@pytest.mark.parametrize("grounds", [True, False])
def test_background_is_settled_so_that_there_is_as_much_of_it_as_there_was(grounds):
    torch.manual_seed(6)
    network = OpenDeepLab(4, TINY).eval()
    before = network.last.bias.clone()
    dice = torch.Generator().manual_seed(3)
    batches = []
    for _ in range(2):
        labels = torch.randint(0 if grounds else 1, 4, (3, 32, 32), generator=dice)
        labels[0, :9] = 255
        batches.append(Batch(torch.rand(3, 3, 32, 32, generator=dice), labels))
    settle_ground(network, texts_of(COLOUR_NAMES), 0.1, batches, ignore=255)
    assert torch.equal(network.last.bias[:-1], before[:-1])
    if not grounds:
        assert torch.equal(network.last.bias, before)
        return
    chances, there = [], []
    for batch in batches:
        with torch.no_grad():
            output = network(network.statistics.normalise(batch.images))
        labels = batch.labels[:, 2::4, 2::4]
        chances.append(open_logits(output, texts_of(COLOUR_NAMES), 0.1).softmax(dim=1)[:, 0][labels != 255])
        there.append(labels[labels != 255] == 0)
    assert float(torch.cat(chances).mean()) == pytest.approx(float(torch.cat(there).float().mean()), abs=1e-4)


def test_the_last_layer_reads_every_depth_where_it_lies():
    torch.manual_seed(2)
    network = OpenDeepLab(4, TINY).eval()
    images = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        decoder, *maps = network.depths(images)
        expected = F.conv2d(decoder, network.last.weight, network.last.bias)
        for own, weight in zip(maps, network.last.weights[1:], strict=True):
            larger = F.interpolate(own, decoder.shape[-2:], mode="bilinear", align_corners=False)
            expected = expected + torch.einsum("dc,bchw->bdhw", weight[..., 0, 0], larger)
        assert torch.allclose(network(images), expected, atol=1e-4)
    assert len(maps) == 5  # the pyramid, and the backbone from the decoder's own grid on


def test_at_cells_each_is_held_against_the_label_in_its_middle():
    output = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(2))
    labels = torch.randint(0, 4, (1, 8, 9), generator=torch.Generator().manual_seed(3))
    middles = torch.tensor([[2, 3, 255], [0, 255, 1]])
    for row, column in np.ndindex(2, 3):
        labels[0, 2 + 4 * row, 1 + 3 * column] = middles[row, column]
    loss = OpenLoss(TEXTS, Vocabulary.of(COLOUR_NAMES), replace(OPEN, learn_at="cells"))
    found = loss(output, labels, None, ignore=255, counted=torch.tensor(48))
    chances = open_logits(output, texts_of(COLOUR_NAMES), 0.1).softmax(dim=1)
    told = [(y, x) for y in range(2) for x in range(3) if middles[y, x] != 255]
    expected = sum(-float(chances[0, middles[y, x], y, x].log()) for y, x in told) / (48 * 6 / 72)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("donor", ["closed", "open"])
def test_it_starts_from_a_student_of_any_kind_all_but_its_last_layer(targets, tmp_path, donor):
    start = tmp_path / "start.safetensors"
    if donor == "open":
        write_open_student(start, given := student_file())
        network = given.network
    else:
        network = seeded(5, lambda: DeepLabV3Plus(7, TINY))
        write_student(start, network, Vocabulary.of(["background", *"abcdef"]))
    settings = replace(OPEN, start=str(start), steps=1, learning_rate=1e-6, backbone_rate=1e-6)
    learnt = read_open_student(learn(TargetExamples(targets), tmp_path / "out", settings)).network.state_dict()
    plain = new_open_network(3, TINY).state_dict()
    weights = {name for name, _ in network.named_parameters() if not name.startswith("classifier.classifier.3.")}
    for name in weights:
        assert torch.allclose(learnt[name], network.state_dict()[name], atol=1e-5), name
    assert learnt["classifier.classifier.3.weight"].shape == plain["classifier.classifier.3.weight"].shape


def test_samples_bring_the_teachers_features_and_none_where_something_was_pasted(targets):
    examples = TargetExamples(targets)
    options = {"seed": 0, "ignore": 255, "grid": 8}
    plain = FeatureSamples(examples, OPEN.augmentation, most_pasted=1, **options)
    pasted = FeatureSamples(examples, OPEN.augmentation, most_pasted=3, **options)
    batch = plain.at(range(4))
    assert batch.beside.shape == (4, 3, 8, 8)
    hidden = 0
    for place in range(12):
        (image, _, features), (other, _, others) = plain.one(place), pasted.one(place)
        touched = F.max_pool2d((image != other).any(dim=0)[None].float(), 4)[0] > 0
        assert torch.equal(others, features * ~touched)
        hidden += int(touched.any())
    assert hidden > 3


@pytest.mark.parametrize("stops", [[1, 3], [4, 5]])
def test_a_training_that_is_stopped_anywhere_ends_with_the_same_file(targets, tmp_path, stops):
    whole = learn(TargetExamples(targets), tmp_path / "whole")
    for step in stops:
        with pytest.raises(Killed):
            learn(TargetExamples(targets), tmp_path / "stopped", progress=stop_at(step))
    assert learn(TargetExamples(targets), tmp_path / "stopped").read_bytes() == whole.read_bytes()
    assert log_of(tmp_path / "stopped") == log_of(tmp_path / "whole")


def test_the_teachers_features_change_what_is_learnt_and_so_do_settings(targets, tmp_path):
    first = learn(TargetExamples(targets), tmp_path / "1").read_bytes()
    assert learn(TargetExamples(targets), tmp_path / "2", replace(OPEN, features_weight=0.0)).read_bytes() != first
    with pytest.raises(DistillationError, match="other settings or masks"):
        learn(TargetExamples(targets), tmp_path / "1", replace(OPEN, temperature=0.2))


def test_settings_of_open_students_are_no_part_of_what_others_are_known_by(targets):
    examples = TargetExamples(targets)
    plain, changed = StudentSettings(), StudentSettings(temperature=0.5, features_weight=3.0)
    assert plain.identity(0, examples) == changed.identity(0, examples)
    assert not {"vocabulary", "temperature", "features_weight"} & set(plain.told())
    assert replace(plain, vocabulary="open").identity(0, examples) != replace(changed, vocabulary="open").identity(
        0, examples
    )


def test_archives_teach_an_open_student_too(tmp_path):
    masks = make_archive(tmp_path / "archive")
    names = {name: {"instead": colour} for name, colour in zip(NAMES, COLOUR_NAMES, strict=True)}
    path = learn(examples_of(masks, names), tmp_path / "student", names=Vocabulary.of(names))
    student = wordmask.load("namedmask", weights=path, device="cpu", precision="fp32")
    assert isinstance(student, OpenStudent)
    assert student.vocabulary.names == ("background", *NAMES)


class Validation:
    name, split, ignore = "tiny", "all", 255
    vocabulary = Vocabulary.of(["background", *COLOUR_NAMES])

    def __len__(self):
        return 2

    def __iter__(self):
        return (self[index] for index in range(2))

    def key(self, index):
        return str(index)

    def __getitem__(self, index):
        return Sample(picture(index), np.ones((12, 16), np.uint8), self.key(index), 1)


def test_figures_on_a_validation_set_change_nothing(targets, tmp_path):
    plain = learn(TargetExamples(targets), tmp_path / "plain")
    watched = learn(
        TargetExamples(targets), tmp_path / "watched", replace(OPEN, check_every=3), validation=Validation()
    )
    assert watched.read_bytes() == plain.read_bytes()
    assert [line["step"] for line in log_of(tmp_path / "watched") if line.get("pictures") == "held-out"] == [3, 6]


# Files and answers


def student_file(seed=0):
    torch.manual_seed(seed)
    network = new_open_network(3, TINY).eval()
    with torch.no_grad():
        network.classifier.classifier[-1].weight.normal_()
    vocabulary = Vocabulary.of({"background": None, "red": None, "green": ["grey"]})
    return OpenStudentFile(
        network, vocabulary, texts_of({"red": None, "green": ["grey"]}).vectors, TEXTS.tower, 0.1, {"steps": "3"}
    )


@pytest.fixture
def path(tmp_path):
    write_open_student(tmp_path / "student.safetensors", student_file())
    return tmp_path / "student.safetensors"


@pytest.fixture
def student(path, monkeypatch):
    monkeypatch.setattr(open_student, "clip_at", lambda *_: ColourClip())
    return wordmask.load("namedmask", weights=path, device="cpu", precision="fp32")


def test_a_new_network_has_no_opinion_of_what_is_background():
    output = new_open_network(3, TINY).eval()(torch.randn(1, 3, 32, 32))
    assert output.shape == (1, 4, 8, 8)
    assert (output[:, -1] == 0).all()


def test_a_first_feature_is_what_it_says_of_everything():
    first = F.normalize(torch.tensor([1.0, 2.0, 3.0]), dim=0)
    output = new_open_network(3, TINY, first).eval()(torch.randn(1, 3, 32, 32))
    assert (output == torch.cat([first, torch.zeros(1)])[None, :, None, None]).all()


def test_a_file_holds_all_of_it_and_a_damaged_one_says_so(path, tmp_path):
    kept, own = read_open_student(path), student_file()
    assert (kept.vocabulary, kept.tower, kept.temperature, kept.metadata) == (
        own.vocabulary,
        own.tower,
        0.1,
        own.metadata,
    )
    assert torch.equal(kept.vectors, own.vectors)
    assert all(
        torch.equal(a, b)
        for a, b in zip(kept.network.state_dict().values(), own.network.state_dict().values(), strict=True)
    )
    again = tmp_path / "again.safetensors"
    write_open_student(again, kept)
    assert again.read_bytes() == path.read_bytes()
    write_open_student(again, replace(own, vectors=own.vectors[:1]))
    with pytest.raises(WeightsError, match="is damaged"):
        read_open_student(again)
    with pytest.raises(WeightsError, match="is no student"):
        wordmask.segmenters.student_file.read_student(path)


def test_a_file_of_before_whose_last_layer_reads_the_decoder_alone_is_read_as_it_was(tmp_path):
    torch.manual_seed(4)
    network = OpenDeepLab(4, TINY, is_deep=False).eval()
    write_open_student(tmp_path / "before", replace(student_file(), network=network))
    state = read_state_dict(tmp_path / "before")
    assert not any("depths" in name for name in state)
    kept = read_open_student(tmp_path / "before").network
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        told = F.conv2d(
            DeepLabV3Plus.features(network, images),
            state["classifier.classifier.3.weight"],
            state["classifier.classifier.3.bias"],
        )
        assert torch.allclose(kept(images), told, atol=1e-5)
    assert kept.features(images).shape[1] == kept.width == TINY.width


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_file_has_a_temperature_that_can_be_divided_by(path, tmp_path, temperature):
    again = tmp_path / "again.safetensors"
    write_open_student(again, replace(read_open_student(path), temperature=temperature))
    with pytest.raises(WeightsError, match="is damaged"):
        read_open_student(again)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("names", [["red", "blue"], ["blue", "background"], ["red", "green", "background"]])
def test_it_answers_to_any_names_by_their_texts(student, names, size):
    image = picture(3, "blue", size)
    answer = student.segment(image, names, fill="background" not in names)
    network, statistics = student.network, student.network.statistics
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        output = network(statistics.normalise(pixels))
    maps = {"background": output[:, -1] / 0.1**0.5}
    unit = F.normalize(output[:, :3], dim=1)
    for phrase in ("red", "green", "grey", "blue"):
        maps[phrase] = torch.einsum("d,bdhw->bhw", texts_of([phrase]).vectors[0], unit) / 0.1
    maps["green"] = torch.maximum(maps["green"], maps.pop("grey"))
    logits = [maps[name] for name in names]
    if "background" in names:  # which is also what it knows and nobody has asked for
        logits += [maps[name] for name in ("red", "green") if name not in names]
    whole = F.interpolate(torch.stack(logits, dim=1), size=size, mode="bilinear", align_corners=False)[0]
    best = whole.argmax(dim=0).clamp(max=len(names) - 1).numpy()
    if "background" in names:
        best[whole.argmax(dim=0).numpy() >= len(names)] = names.index("background")
    assert answer.names == names
    assert (answer.labels == best).mean() > 0.999
    assert np.allclose(answer.scores, whole.softmax(dim=0).amax(dim=0).numpy(), atol=1e-4)


def test_names_that_it_knows_need_no_clip_and_others_need_the_right_one(path, monkeypatch):
    student = wordmask.load("namedmask", weights=path, device="cpu", precision="fp32")
    assert student.segment(picture(0), ["red", "background"]).size == (12, 16)
    other = ColourClip()
    other.text_fingerprint = "another"
    monkeypatch.setattr(open_student, "clip_at", lambda *_: other)
    with pytest.raises(SegmenterError, match="by the text tower of tiny"):
        student.segment(picture(0), ["blue", "background"])


def test_a_service_takes_any_name_and_keeps_none(student, tmp_path, monkeypatch):
    monkeypatch.setenv("WORDMASK_CACHE", str(tmp_path / "cache"))
    own = set(student._known)
    with client_of(student) as client:
        (told,) = client.get("/v1/models").json()
        answer = client.post("/v1/segment", **form(encoded(picture(0)), ("blue", "red")))
        own_names = client.post("/v1/segment", **form(encoded(picture(0)), ())).json()["names"]
    assert (told["names"], answer.json()["names"]) == (None, ["blue", "red", "background"])
    assert own_names == ["background", "red", "green"]
    assert set(student._known) == own
    assert not (tmp_path / "cache").exists()


def test_a_batch_says_what_its_pictures_say_alone_and_asking_again_runs_no_network(student):
    images = [picture(seed, size=(24, 32)) for seed in range(3)]
    together = list(student.segment_many(images, ["red", "blue"]))
    for image, answer in zip(images, together, strict=True):
        alone = student.look(image)
        assert np.array_equal(alone.segment(["red", "blue"]).labels, answer.labels)
        assert alone.segment(["green"], fill=True).labels.max() == 0
    view = student.look(images[0])
    student._ready = None
    assert view.segment(["blue"], contrast=["red"]).names == ["blue", "background"]


def test_it_is_neither_exported_nor_shared_for_what_it_is_not(student, tmp_path):
    with pytest.raises(ExportError, match="has no ONNX form"):
        graph_of(student)
    with pytest.raises(HubError, match="hand on its file"):
        save_folder(student, tmp_path / "hub", Card("cc0", "drawn", {}))
