"""What a run is told: every mistake is an error that names the key."""

from pathlib import Path

import pytest
import yaml

import wordmask
from wordmask.distillation import config as configuration
from wordmask.distillation.config import ConfigError, as_dict, list_presets, make_run, read_config, setting
from wordmask.distillation.records import DistillationError

TOLD = {"names": ["dog"], "images": "pictures", "out": "run", "preset": "world"}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("archive.sizee=3", r"archive\.sizee is no setting; did you mean archive\.size\?"),
        ("archive.size=-3", r"archive\.size=-3 cannot be used: input should be greater than 0"),
        ("archive.filters.duplicates=2", r"archive\.filters\.duplicates=2 cannot be used"),
        ("masks.refine=magic", r"masks\.refine='magic' cannot be used: .*'solver'"),
        ("student.steps=many", r"student\.steps='many' cannot be used"),
        ("student.network.backbon=x", r"\.backbon is no setting; did you mean student\.network\.backbone"),
        ("groups=3", r"groups is no setting; did you mean experts\.groups\?"),
        ("zeal=1", r"zeal is no setting; a run has clip,"),
        ("seed=-1", r"seed=-1 cannot be used"),
        ("archive=7", r"archive=7 cannot be used"),
        ("validation.benchmrk=voc", r"validation\.benchmrk is no setting"),
        ("student={kind: [a]}", r"student\.kind=.* is no kind of student"),
        ("images=3", r"images=3 is no path"),
        ("preset=mine", r"preset 'mine' is unknown; choose one of paper"),
        ("student.far_steps=100", r"student\.far_steps is for networks with a zoom"),
        ("student={network: {zoom: 2}, far_steps: 2400}", r"student\.far_steps=2400 leaves none of 2400 steps"),
    ],
)
def test_a_mistake_names_its_key(pair, message):
    with pytest.raises(ConfigError, match=message):
        make_run(TOLD, setting(pair))


@pytest.mark.parametrize("kind", ["deeplab", "head"])
def test_crowds_too_many_for_a_crop_are_told_before_a_run_begins(kind):
    small = {"student": {"kind": kind, "crowds": 0.5, "crowd_sides": [2, 4], "augmentation": {"crop": 48}}}
    with pytest.raises(DistillationError, match="crowd_sides of 4 leave a crop of 48 pixels parts of fewer than 16"):
        make_run(TOLD, small)
    assert make_run(TOLD, small, setting("student.crowds=0.0")).config.student.augmentation.crop == 48


def test_open_students_learn_from_crowds_of_archives_alone():
    crowded = {"student": {"vocabulary": "open", "crowds": 0.5}}
    assert make_run(TOLD, crowded).config.student.crowds == 0.5
    with pytest.raises(ConfigError, match=r"student\.crowds is not for open students that have a teacher"):
        make_run(TOLD, crowded, setting("masks.teacher=maskclip"))


def test_a_preset_without_a_student_of_a_kind_gets_none_in_silence(monkeypatch):
    monkeypatch.setitem(configuration.PRESETS, "mine", configuration.PRESETS["paper"])
    with pytest.raises(ConfigError, match="preset 'mine' has no student of the kind 'head'"):
        make_run(TOLD, {"preset": "mine", "student": {"kind": "head"}})


@pytest.mark.parametrize("pair", ["archive", "=3", "a b=3", "archive..size=3"])
def test_what_is_no_pair_is_refused(pair):
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        setting(pair)


@pytest.mark.parametrize("key", ["names", "images", "out"])
def test_what_a_run_cannot_be_without_is_asked_for(key):
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        make_run({k: v for k, v in TOLD.items() if k != key})
    with pytest.raises(ConfigError, match="nothing but background"):
        make_run(TOLD, {"names": ["background"]})


def test_later_layers_go_over_earlier_ones_over_the_preset():
    file = {"archive": {"size": 7}, "student": {"steps": 9}}
    run = make_run(TOLD, file, setting("archive.size=8"), setting("seed=3"))
    world = list_presets()["world"]
    assert (run.config.archive.size, run.config.student.steps, run.config.seed) == (8, 9, 3)
    assert as_dict(run.config)["experts"] == as_dict(world)["experts"]
    assert as_dict(run.config)["student"] == as_dict(world)["student"] | {"steps": 9}
    assert make_run(TOLD, setting("experts=null")).config.experts is None
    again = make_run(TOLD, setting("experts=null"), setting("experts.steps=5")).config.experts
    assert (again.steps, again.network.backbone) == (5, world.experts.network.backbone)


def test_every_preset_survives_being_written_and_read():
    for name, config in list_presets().items():
        assert as_dict(make_run(TOLD, {"preset": name}, as_dict(config)).config) == as_dict(config)


def test_the_papers_figures_are_the_default():
    config = configuration.PRESETS["paper"]
    assert (config.archive.size, config.clip, config.templates) == (500, "ViT-L-14-336/openai", "imagenet-85")
    assert (config.masks.saliency, config.masks.side, config.masks.refine) == ("selfmask", 512, "solver")
    assert (config.experts.steps, config.experts.batch) == (5000, 8)
    assert (config.student.steps, config.student.batch) == (20_000, 16)


def test_a_file_says_the_same_as_keywords(tmp_path):
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(TOLD | {"names": "names.txt", "archive": {"size": 5}}))
    run = make_run(read_config(tmp_path / "run.yaml"))
    assert run.names.names == ("dog", "cat")
    assert (run.images, run.out) == (tmp_path / "pictures", tmp_path / "run")
    assert run.config.archive.size == 5
    for text, message in (("- a\n", "expected settings"), ("a: [", "not valid YAML")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_config(tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")


PLACES = {
    "image_root": "pictures",
    "clip_weights": "clip.pt",
    "archive.published": "../archive.json",
    "archive.filters.faces": "yunet.onnx",
    "masks.weights": "nowhere/selfmask.pth",
    "experts.start": "resnet",
    "student.start": "~/backbone.safetensors",
    "validation.root": "data",
}
PUBLISHED = {
    "clip_weights": "laion2b_s32b_b79k",
    "archive.filters.faces": "opencv",
    "masks.weights": "https://example.org/w.pth",
    "experts.start": "dino-resnet50",
    "student.start": "timm:resnet18.a1_in1k",
}


def flat(run):
    return {key: value for key, value in run.config.flat().items() if key in PLACES}


def nested(told):
    layers = {"validation": {"benchmark": "voc"}}
    for pair in told.items():
        layers = configuration._merged(layers, setting("=".join(pair)))
    return layers


def test_paths_in_a_file_are_relative_to_it_and_others_to_where_one_stands(tmp_path, monkeypatch):
    home, there, here = (tmp_path / name for name in ("home", "there", "here"))
    for folder in (home, there, here):
        folder.mkdir()
        (folder / "resnet").write_bytes(b"a file with the name of nothing published")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    (there / "run.yaml").write_text(yaml.safe_dump(TOLD | nested(PLACES)))
    expected = {key: str(there / value) for key, value in PLACES.items()}
    expected["student.start"] = str(home / "backbone.safetensors")
    told = make_run(read_config(there / "run.yaml"))
    assert flat(told) == expected
    monkeypatch.chdir(tmp_path)
    assert flat(make_run(read_config(Path("there/run.yaml")))) == expected
    assert flat(make_run(TOLD, nested(PLACES)))["image_root"] == str(tmp_path / "pictures")
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(TOLD | as_dict(told.config)))
    assert flat(make_run(read_config(tmp_path / "again.yaml"))) == expected


def test_networks_that_lie_beside_a_file_are_known_by_their_whole_paths(tmp_path, monkeypatch):
    there = tmp_path / "there"
    (there / "ViT-B-16" / "mine").mkdir(parents=True)
    (there / "ViT-B-16" / "mine" / "open_clip_config.json").write_text("{}")
    (there / "student.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    published = ["world:dino", "ViT-B-16/openai", "vit_small_patch14_dinov2.lvd142m"]
    told = {"clip": "ViT-B-16/mine", "student": {"kind": "head", "backbones": ["student.safetensors", *published]}}
    (there / "run.yaml").write_text(yaml.safe_dump(TOLD | told))
    config = make_run(read_config(there / "run.yaml")).config
    assert config.clip == str(there / "ViT-B-16" / "mine")
    assert config.student.backbones == (str(there / "student.safetensors"), *published)


@pytest.mark.parametrize("key", ["images", "out", "image_root"])
def test_an_address_is_no_folder_of_a_distillation(tmp_path, key):
    (tmp_path / "run.yaml").write_text(f"{key}: s3://pile/tars\n")
    for read in (lambda: read_config(tmp_path / "run.yaml"), lambda: make_run(TOLD, {key: "s3://pile/tars"})):
        with pytest.raises(ConfigError, match=f"{key}=s3://pile/tars is an address.*mount the store"):
            read()


def test_what_is_published_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for more in ({}, {"student.start": "world"}, {"student.start": "world-clip", "experts.start": "timm"}):
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(TOLD | nested(PUBLISHED | more)))
        told = flat(make_run(read_config(tmp_path / "run.yaml")))
        assert {key: told[key] for key in PUBLISHED} == PUBLISHED | more
    (tmp_path / "dino-resnet50").write_bytes(b"a file goes before the catalogue, as it does where it is opened")
    told = flat(make_run(read_config(tmp_path / "run.yaml"), setting("experts.start=dino-resnet50")))
    assert told["experts.start"] == str(tmp_path / "dino-resnet50")


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "its aliases stand for more than"),
        ("seed: " + "9" * 100_000, "a number of 100000 digits"),
        ("seed: 0x" + "f" * 100_000, "a number of 100002 digits"),
        ("a: &a {b: *a}", "holds itself"),
        ("- dog\n", "expected settings"),
    ],
)
def test_a_config_that_stands_for_much_is_refused_at_once(tmp_path, content, message):
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(file)
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "layer",
    [
        {"x" * 100_000: 1},
        {16**100_000: 1},
        {"seed": 16**100_000},
        {"seed": [["x" * 1000] * 1000] * 1000},
        {"preset": ["world"] * 100_000},
        {"masks": {"side": "9" * 100_000}},
    ],
    ids=range(6),
)
def test_what_is_shown_of_a_value_is_short(layer):
    with pytest.raises(ConfigError) as caught:
        make_run({**TOLD, **layer})
    assert len(str(caught.value)) < 600


def test_the_earlier_word_for_who_is_told_is_refused_with_the_one_of_now(tmp_path):
    with pytest.raises(ConfigError, match="distill has no `teller`: it is called `console`"):
        wordmask.distill(["dog"], tmp_path, tmp_path / "run", teller=None)
    assert not (tmp_path / "run").exists()
