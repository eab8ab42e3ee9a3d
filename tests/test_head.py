"""Students that are light heads on frozen encoders: what they compute, learn, keep on disk and say of themselves."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import wordmask
from support import tiny_run
from support.small_archive import NAMES, make_archive, picture
from support.small_head import LABEL_OF, crowds, quick, towers_in
from support.stopped_training import Killed, stop_at
from support.tiny_collection import write_pictures
from support.tiny_run import TRAINING, contents, pipeline_with
from wordmask.compute import PLAIN
from wordmask.distillation import frozen_views
from wordmask.distillation.batches import Examples
from wordmask.distillation.config import ConfigError, make_run
from wordmask.distillation.experts import ExpertSettings
from wordmask.distillation.head_student import FEATURES, HeadStudentSettings
from wordmask.distillation.records import DistillationError
from wordmask.distillation.student import StudentSettings, train_student
from wordmask.encoders import grid
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.timm_building import dino_at
from wordmask.encoders.towers import tower_at
from wordmask.errors import WordmaskError
from wordmask.export import compare, export, load_onnx
from wordmask.hub import Card, from_pretrained, save_folder
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.deeplab import DeepLabV3Plus, small_resnet_settings
from wordmask.segmenters.head import Decoder, HeadNetwork, HeadSettings
from wordmask.segmenters.student_file import halve_student, read_student, towers_of, write_student
from wordmask.weights.loading import WeightsError, read_metadata

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    return towers_in(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="module")
def whole(masks, towers, tmp_path_factory):
    """A student of a run that nobody stopped."""
    return learn(masks, tmp_path_factory.mktemp("whole"), quick(towers))


def learn(masks, out, settings, **options):
    return train_student(masks, NAMES, settings, out, seed=1, device="cpu", **options)


def loaded(path, **settings):
    return wordmask.load("namedmask", weights=path, device="cpu", precision="fp32", **settings)


def network_of(towers, **settings):
    own = towers_of(towers)
    torch.manual_seed(2)
    decoder = Decoder(
        4, [tower.channels for tower in own], HeadSettings(width=16, blocks=1, fine=12, guide=8, **settings)
    )
    decoder.standardise([(torch.randn(24), torch.rand(24) + 0.5) for _ in own])
    return HeadNetwork(own, decoder).eval()


# Towers


def test_towers_say_what_their_encoders_do(towers):
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    clip, dino = towers_of(towers)
    assert torch.equal(clip.look(images), clip_at(towers[0], None, PLAIN).dense(images).values)
    assert torch.equal(dino.look(images), dino_at(towers[1], None, PLAIN)(images).tokens)
    assert (clip.patch, clip.channels, dino.patch, dino.channels) == (16, 24, 8, 24)


def test_a_student_of_other_names_is_a_tower_too(masks, towers, whole, tmp_path):
    other = DeepLabV3Plus(3, small_resnet_settings(zoom=2.0)).eval()
    write_student(tmp_path / "other.safetensors", other, Vocabulary.of(["background", "hat", "shoe"]))
    images = torch.rand(2, 3, 35, 48, generator=torch.Generator().manual_seed(0))
    (tower,) = towers_of([str(tmp_path / "other.safetensors")])
    assert torch.equal(tower.look(images), other.features(other.statistics.normalise(images)))
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    path = learn(masks, tmp_path / "head", quick((str(tmp_path / "other.safetensors"), towers[1]), steps=2))
    assert loaded(path).segment(np.zeros((30, 40, 3), np.uint8), ["background", NAMES[0]]).labels.shape == (30, 40)
    export(loaded(path), tmp_path / "head.onnx")
    assert compare(loaded(path), tmp_path / "head.onnx").difference < 1e-4
    with pytest.raises(WeightsError, match="a light head, which stands on frozen encoders itself"):
        towers_of([str(whole)])


def test_pictures_are_resized_to_whole_patches_and_zoomed(towers):
    dino = tower_at(towers[1])
    images = torch.rand(1, 3, 21, 42)
    assert dino.look(images).shape[-2:] == (3, 6)
    assert dino.look(images, 2.0).shape[-2:] == (6, 11)
    larger = F.interpolate(images, size=(48, 88), mode="bilinear", align_corners=False)
    assert torch.equal(dino.look(images, 2.0), dino(larger))


@pytest.mark.parametrize("rule", [grid.CLIP_POSITIONS, grid.DINO_POSITIONS, grid.DINOV2_REGISTER_POSITIONS])
@pytest.mark.parametrize("new", [(7, 5), (3, 9), (14, 2)])
def test_positions_are_the_same_in_a_graph(rule, new):
    positions = torch.randn(1 + 7 * 5, 4, generator=torch.Generator().manual_seed(0))
    plain = grid.resize_positions(positions, (7, 5), new, rule=rule)
    assert torch.allclose(grid._traced(positions, (7, 5), new, 1, rule), plain, atol=1e-5)


# The decoder


def plain_decoder(decoder, images, maps):
    """Its formula, a place at a time where that is possible."""
    state = {name: value.double() for name, value in decoder.state_dict().items()}

    def norm(x, name):
        mean, variance = x.mean(dim=1, keepdim=True), x.var(dim=1, unbiased=False, keepdim=True)
        scaled = (x - mean) / (variance + 1e-5).sqrt()
        return scaled * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]

    def standard(x, name):
        return (x - state[f"{name}.mean"][:, None, None]) / state[f"{name}.deviation"][:, None, None]

    def everywhere(x, name):
        weight, bias = state[f"{name}.weight"][:, :, 0, 0], state[f"{name}.bias"]
        return torch.einsum("oc,bchw->bohw", weight, x) + bias[:, None, None]

    def block(x, name):
        weight = state[f"{name}.around.weight"]
        padded, (height, width) = F.pad(x, (2, 2, 2, 2)), x.shape[-2:]
        around = sum(
            padded[:, :, i : i + height, j : j + width] * weight[:, 0, i, j][:, None, None]
            for i in range(5)
            for j in range(5)
        )
        inside = everywhere(
            norm(around + state[f"{name}.around.bias"][:, None, None], f"{name}.norm"), f"{name}.inside.0"
        )
        return x + everywhere(F.gelu(inside), f"{name}.inside.2")

    def resized(x, size):
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

    finest = max((each.shape[-2:] for each in maps), key=np.prod)
    x = sum(
        resized(everywhere(standard(each.double(), f"enter.{n}.0"), f"enter.{n}.1"), finest)
        for n, each in enumerate(maps)
    )
    x = everywhere(norm(block(x, "blocks.0"), "blocks.1"), "blocks.2")
    stem = (images.double() - 0.5) / 0.25
    for number, stride in ((0, 2), (2, 1)):
        name = f"stem.layers.{number}"
        stem = F.gelu(F.conv2d(stem, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride, padding=1))
    stem = norm(stem, "stem.layers.4")
    x = F.gelu(everywhere(torch.cat([resized(x, stem.shape[-2:]), stem], dim=1), "join.0"))
    return everywhere(norm(block(x, "join.2"), "join.3"), "last")


@pytest.mark.parametrize("size", [(32, 32), (45, 70)])
def test_the_decoder_equals_its_formula(towers, size):
    network = network_of(towers)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    plain = plain_decoder(network.decoder, images, network.look(images))
    with torch.no_grad():
        found = network.classify(network.features(images))
    assert found.shape == (2, 4, -(-size[0] // 2), -(-size[1] // 2))
    assert (found - plain).abs().max() < 1e-4
    with torch.no_grad():
        assert torch.allclose(network.classify(network.features(images[1:])), found[1:], atol=1e-5)


@pytest.mark.parametrize("settings", [{"guide": 0}, {"stride": 4}, {"stride": 1}, {"zoom": 2.0}])
def test_every_shape_of_a_decoder_answers_at_its_stride(towers, settings):
    own = towers_of(towers)
    told = HeadSettings(**{"width": 16, "fine": 12, "guide": 8, **settings})
    network = HeadNetwork(own, Decoder(4, [tower.channels for tower in own], told)).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 45, 70)).shape == (1, 4, 45, 70)
        stride = told.stride
        assert network.features(torch.rand(1, 3, 45, 70)).shape == (1, 12, -(-45 // stride), -(-70 // stride))


# Features on disk


def test_features_are_those_of_the_views_in_half_precision(masks, towers, whole):
    settings, own = quick(towers), towers_of(towers)
    samples = crowds(masks, settings.crowds, seed=1)
    views = frozen_views.FrozenViews(whole.parent / FEATURES, samples, own, each=2, zoom=1.0)
    assert views.count == 24
    for place in (0, 13, 23, 24):
        batch = views.at(range(place, place + 1))
        image, labels = samples.one(views.view(place))
        assert (batch.images[0] - image).abs().max() <= 0.5 / 255 + 1e-6
        assert torch.equal(batch.labels[0], labels)
        for tower, said in zip(own, batch.maps, strict=True):
            assert torch.allclose(tower.look(batch.images), said, atol=2e-2, rtol=2e-3)
    assert sorted(views.view(place) for place in range(24)) == list(range(24))
    every = torch.cat([views.at(range(place, place + 1)).maps[0] for place in range(24)]).double()
    mean, deviation = views.statistics()[0]
    assert torch.allclose(mean.double(), every.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(deviation.double(), every.std(dim=(0, 2, 3), unbiased=False), atol=1e-3)
    assert torch.equal(read_student(whole).network.decoder.enter[0][0].mean, mean)
    on_disk = sum(path.stat().st_size for path in views.folder.glob("*.npy"))
    assert views.bytes < on_disk < views.bytes + 1000  # a header


def test_the_size_is_said_first_and_a_small_disk_refused(masks, towers, tmp_path, monkeypatch):
    said = []
    learn(masks, tmp_path / "a", quick(towers, steps=1), say=said.append)
    size = sum(path.stat().st_size for path in (tmp_path / "a" / FEATURES).glob("*.npy"))
    assert said[0].startswith(f"features: 24 views of 12 pictures, {size // 1000} kB on disk in ")
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(frozen_views.shutil, "disk_usage", lambda folder: free)
    with pytest.raises(DistillationError, match="features need .* where 1 kB are free: make room, or take fewer"):
        learn(masks, tmp_path / "b", quick(towers, steps=1))


def test_a_damaged_part_is_made_anew_as_it_was(masks, towers, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen_views, "PER_PART", 8)
    learn(masks, tmp_path, quick(towers, steps=1))
    parts = sorted((tmp_path / FEATURES).glob("*.npy"))
    before = [part.read_bytes() for part in parts]
    assert len(parts) == 3
    parts[1].write_bytes(before[1][:-9] + b"something")
    parts[2].unlink()
    (tmp_path / "student.safetensors").unlink()
    said = []
    learn(masks, tmp_path, quick(towers, steps=1), say=said.append)
    assert [part.read_bytes() for part in parts] == before
    assert any("is damaged, made anew" in text for text in said)


def test_features_of_other_views_are_made_anew_and_of_another_decoder_kept(masks, towers, tmp_path):
    learn(masks, tmp_path / "a", quick(towers, steps=1), features=tmp_path / FEATURES)
    part = next((tmp_path / FEATURES).glob("*.npy"))
    first = part.stat().st_mtime_ns
    learn(masks, tmp_path / "b", quick(towers, steps=2, head=HeadSettings(width=8)), features=tmp_path / FEATURES)
    assert part.stat().st_mtime_ns == first
    learn(masks, tmp_path / "c", quick(towers, steps=1, crowds=0.0), features=tmp_path / FEATURES)
    assert part.stat().st_mtime_ns != first


# Learning


def test_a_run_that_was_stopped_ends_with_the_same_student(masks, towers, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen_views, "PER_PART", 8)  # the features' parts are no part of what is learnt
    looked = 24
    for step in (8, looked + 3 * 4, looked + 5 * 4):
        with pytest.raises(Killed):
            learn(masks, tmp_path, quick(towers), progress=stop_at(step))
    path = learn(masks, tmp_path, quick(towers))
    assert path.read_bytes() == whole.read_bytes()


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from support.small_archive import NAMES
from support.small_head import quick
from wordmask.distillation import frozen_views
from wordmask.distillation.records import MaskTable
from wordmask.distillation.student import train_student
frozen_views.PER_PART = 4
masks, out, *towers = sys.argv[1:]
settings = quick(tuple(towers), steps=40, save_every=5)
train_student(MaskTable(masks), NAMES, settings, Path(out), seed=1, device="cpu",
              progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.slow
def test_sigkill_while_looking_and_while_learning_ends_with_the_same_student(masks, towers, tmp_path):
    def start(out):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        command = [sys.executable, "-c", SCRIPT, str(masks.folder), str(out), *towers]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    assert start(tmp_path / "whole").wait(300) == 0
    for until in (8, 24 + 4 * 7, 24 + 4 * 23):
        process = start(tmp_path / "killed")
        for line in process.stdout:
            if int(line) >= until:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert start(tmp_path / "killed").wait(300) == 0
    name = "student.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_head_learns_colours(masks, towers, tmp_path):
    path = learn(masks, tmp_path, quick(towers, steps=150, crowds=0.0, most_pasted=1))
    segmenter = loaded(path)
    hits = []
    for name in NAMES:
        image, mask = picture(name, 77)
        answer = segmenter.segment(image, [*NAMES, "background"])
        hits.append((answer.labels[mask] == NAMES.index(name)).mean())
    assert np.mean(hits) > 0.8


# The file


def test_the_file_holds_the_decoder_alone_and_says_what_it_stands_on(whole, towers):
    told = read_metadata(whole)
    assert told["format"] == "wordmask-head/1"
    assert [each["address"] for each in json.loads(told["backbones"])] == list(towers)
    state = load_file(whole)
    assert set(state) == set(network_of(towers).decoder.state_dict())
    student = read_student(whole)
    assert student.vocabulary.names == ("background", *NAMES)
    assert "steps" in student.metadata
    assert not {"format", "backbones"} & student.metadata.keys()


def test_written_again_and_halved_it_is_the_same_student(whole, tmp_path):
    student = read_student(whole)
    write_student(tmp_path / "again.safetensors", student.network, student.vocabulary, student.metadata)
    assert (tmp_path / "again.safetensors").read_bytes() == whole.read_bytes()
    halve_student(whole, tmp_path / "half.safetensors", {})
    image, _ = picture("leaf", 5)
    answers = [loaded(path).segment(image, NAMES, fill=True).labels for path in (whole, tmp_path / "half.safetensors")]
    assert (answers[0] == answers[1]).mean() > 0.99


def test_towers_that_have_moved_are_told_and_others_refused(whole, towers, tmp_path):
    moved = [str(shutil.copytree(tower, tmp_path / Path(tower).name)) for tower in towers]
    image, _ = picture("leaf", 5)
    expected = loaded(whole).segment(image, NAMES, fill=True).labels
    assert np.array_equal(loaded(whole, backbones=tuple(moved)).segment(image, NAMES, fill=True).labels, expected)
    with pytest.raises(WeightsError, match=r"stands on 2 backbones .* and 1 were given"):
        loaded(whole, backbones=tuple(moved[:1]))
    with pytest.raises(WeightsError, match="with other weights than"):
        loaded(whole, backbones=(moved[0], "world:dino"))
    with pytest.raises(WeightsError, match=r"frozen backbone .* is not to be had as .*backbones=ADDRESS") as error:
        loaded(whole, backbones=(str(tmp_path / "nowhere"), moved[1]))
    assert "\n" not in str(error.value)


def test_a_whole_network_stands_on_no_backbones():
    with pytest.raises(WeightsError, match="leave backbones out"):
        wordmask.load("namedmask", preset="world", backbones=("world:dino",))


@pytest.mark.parametrize("backbones", ["[]", '[{"address": "a", "channels": 0, "fingerprint": "b"}]', "{", None])
def test_a_damaged_file_is_an_error_in_one_line(whole, tmp_path, backbones):
    from wordmask.weights.loading import write_state_dict

    told = {**read_metadata(whole), "backbones": backbones}
    told = {key: value for key, value in told.items() if value is not None}
    write_state_dict(tmp_path / "bad.safetensors", load_file(whole), told)
    with pytest.raises(WeightsError, match="is damaged"):
        read_student(tmp_path / "bad.safetensors")


# What takes students takes these


def test_pictures_together_give_what_each_gives_alone(whole):
    segmenter = loaded(whole)
    images = [picture(name, 9, size)[0] for name, size in zip(NAMES, ((40, 48), (33, 61), (40, 48)), strict=True)]
    together = list(segmenter.segment_many(images, NAMES, batch_size=3, fill=True))
    for image, result in zip(images, together, strict=True):
        assert np.array_equal(result.labels, segmenter.segment(image, NAMES, fill=True).labels)
    assert segmenter.look(images[1]).segment(NAMES[:2], fill=True).labels.shape == (33, 61)


def test_bf16_says_nearly_the_same(whole):
    half = wordmask.load("namedmask", weights=whole, device="cpu", precision="bf16")
    image, _ = picture("apple", 3)
    same = half.segment(image, NAMES, fill=True).labels == loaded(whole).segment(image, NAMES, fill=True).labels
    assert same.mean() > 0.9
    assert {parameter.dtype for parameter in half.network.parameters()} == {torch.float32}


def test_a_graph_holds_the_towers_and_says_the_same(whole, tmp_path):
    segmenter = loaded(whole)
    assert export(segmenter, tmp_path / "head.onnx").difference < 1e-4
    shutil.move(whole, tmp_path / "away")  # the graph needs neither the file nor the towers
    try:
        alone = load_onnx(tmp_path / "head.onnx")
        for size in ((40, 48), (33, 61)):
            image, _ = picture("apple", 3, size)
            answer = alone.segment(image, NAMES, fill=True).labels
            assert (answer == segmenter.segment(image, NAMES, fill=True).labels).mean() > 0.999
    finally:
        shutil.move(tmp_path / "away", whole)
    assert compare(segmenter, tmp_path / "head.onnx", seed=4).difference < 1e-4


def test_the_hub_s_folder_holds_it_and_its_card_says_what_it_stands_on(whole, towers, tmp_path):
    save_folder(loaded(whole), tmp_path, Card("mit", "coloured discs", {}))
    assert (tmp_path / "student.safetensors").read_bytes() == whole.read_bytes()
    assert f"light head on {towers[0]} and {towers[1]}" in (tmp_path / "README.md").read_text()
    image, _ = picture("leaf", 5)
    back = from_pretrained(tmp_path, backbones=towers, device="cpu", precision="fp32")
    assert np.array_equal(
        back.segment(image, NAMES, fill=True).labels, loaded(whole).segment(image, NAMES, fill=True).labels
    )


# The run


def told(**student):
    return make_run({"names": ["dog"], "images": "pictures", "out": "run"}, {"student": student}).config.student


def test_one_word_chooses_the_kind_with_settings_of_its_own():
    assert isinstance(told(), StudentSettings)
    assert told(kind="head") == HeadStudentSettings()
    assert told(kind="head", steps=7, head={"zoom": 2}).head.zoom == 2
    assert isinstance(told(kind="deeplab", start=None), StudentSettings)
    world = make_run({"names": ["dog"], "images": "p", "out": "r", "preset": "world"}, {"student": {"kind": "head"}})
    assert world.config.student.backbones == ("world:kinds",)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"kind": "haed"}, "student.kind='haed' is no kind of student: choose one of deeplab, head"),
        ({"kind": "head", "start": None}, "student.start is no setting"),
        ({"backbones": ["a"]}, "student.backbones is no setting"),
        ({"kind": "head", "head": {"zoom": 0}}, r"student\.head\.zoom=0 cannot be used"),
        ({"kind": "head", "backbones": []}, r"student\.backbones=\[\] cannot be used"),
    ],
)
def test_a_mistake_names_its_key(student, message):
    with pytest.raises(ConfigError, match=message):
        told(**student)


def test_students_of_the_first_kind_are_known_by_what_they_always_were(masks):
    """Runs that were begun before there were kinds go on."""
    examples = Examples(masks, LABEL_OF)
    keys = (
        "network start augmentation steps batch accumulate most_pasted learning_rate backbone_rate weight_decay power"
    )
    for settings in (StudentSettings(start=None), ExpertSettings(start=None)):
        expected = [*keys.split(), "floor", "precision"]
        assert list(settings.told()) == expected
        assert settings.identity(3, examples).startswith(
            f"{type(settings).__name__} {{'network': {{'backbone': 'resnet50'"
        )


def test_encoders_that_are_not_there_are_said_before_anything_is_made(tmp_path, monkeypatch):
    write_pictures(tmp_path / "pictures", 4)
    monkeypatch.setitem(tiny_run.SETTINGS, "student", {"kind": "head", "backbones": ["no-such-encoder"]})
    with pytest.raises(WordmaskError, match="no-such-encoder"):
        pipeline_with(tmp_path / "pictures", tmp_path / "run").run_all()
    assert not (tmp_path / "run").exists()


def test_a_whole_run_with_a_head_is_done_once_and_keeps_nothing_else(tmp_path, towers, monkeypatch):
    monkeypatch.setenv("WORDMASK_CACHE", str(tmp_path / "cache"))
    write_pictures(tmp_path / "pictures", 20)
    training = {key: TRAINING[key] for key in ("augmentation", "steps", "batch", "threads", "save_every", "log_every")}
    head = {"kind": "head", "backbones": list(towers), "views": 1, "head": {"width": 16}, **training}
    monkeypatch.setitem(tiny_run.SETTINGS, "student", head)

    def run():
        return pipeline_with(tmp_path / "pictures", tmp_path / "run", {"experts": None}).run_all()

    student = run()
    assert student.vocabulary.names == ("background", "red", "green", "blue")
    before = contents(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / FEATURES)
    run()
    assert contents(tmp_path / "run") == before
    assert not (tmp_path / "run" / FEATURES).exists()
    assert "student.kind" in json.loads((tmp_path / "run" / "stages" / "student.json").read_text())["inputs"]
