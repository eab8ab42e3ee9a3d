"""The registry: what is known of every method, how it is built, what it declares, and where it computes."""

import re
import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

import wordmask
from wordmask import methods, plugins, saliency, segmenters
from wordmask.compute import PLAIN, Compute, DeviceError
from wordmask.masks.segmentation import Segmentation
from wordmask.methods import (
    Declared,
    Method,
    MethodError,
    check_method,
    find_method,
    list_methods,
    methods_of,
    presets_by_name,
    settings_of,
)
from wordmask.plugins import Plugin, named
from wordmask.segmenters.base import Seen, Segmenter
from wordmask.segmenters.clip_diy import ClipDiy

BUILT = [(kind, name) for kind in ("segmenter", "saliency") for name in methods_of(kind)]
HERE = [(kind, name) for kind, name in BUILT if "world" in presets_by_name(kind, name)]
"""Those that small models are here for."""
FP32 = {"device": "cpu", "precision": "fp32"}
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)


def load(kind, name, **settings):
    where = segmenters if kind == "segmenter" else saliency
    if name == "reco":
        settings |= {"archive": "."}
    preset = "world" if "world" in presets_by_name(kind, name) else "paper"
    return where.load(name, preset=preset, **settings)


def test_every_method_says_whose_it_is_what_it_does_needs_and_under_which_licence():
    assert {method.kind for method in list_methods()} == {"segmenter", "saliency", "refinement", "regions"}
    for method in wordmask.list_methods():
        assert all((method.paper, method.about, method.needs, method.licence)), method.name
        assert callable(named(method.at)), method.name
    assert {"pamr", "solver"} < set(methods_of("refinement"))
    assert wordmask.list_methods("saliency") == tuple(methods_of("saliency").values())
    with pytest.raises(MethodError, match="no kind of methods is called 'segmenters'; choose one of segmenter"):
        list_methods("segmenters")


@pytest.mark.parametrize(("kind", "name"), BUILT)
def test_a_class_and_load_agree_in_defaults(kind, name):
    chosen = check_method(kind, name, preset="paper", settings=())
    assert chosen.method == name
    own, told = vars(chosen.Settings()), vars(settings_of(kind, name))
    which = {"student", "benchmark"} if name == "namedmask" else set()  # the class is handed its student
    assert {key: own[key] for key in own.keys() - which} == {key: told[key] for key in own.keys() - which}


def test_a_class_that_takes_a_network_settles_device_and_precision_as_load_does():
    namedmask, selfmask = load("segmenter", "namedmask"), load("saliency", "selfmask")
    student = segmenters.namedmask.load_student("world", segmenters.namedmask.NamedMaskSettings())
    again = (segmenters.namedmask.NamedMask(student), saliency.selfmask.SelfMask(selfmask.network))
    for loaded, method in zip((namedmask, selfmask), again, strict=True):
        assert (method.device, method.precision) == (loaded.device, loaded.precision) != ("auto", "auto")


@pytest.mark.parametrize(("kind", "name"), HERE)
def test_every_method_declares_its_networks_and_moves_them_all(kind, name):
    method = load(kind, name, **FP32)
    has_networks = find_method(kind, name).needs != "nothing"
    assert bool(method.networks) is has_networks
    assert all(isinstance(network, nn.Module) for network in method.networks.values())
    assert method.device == torch.device("cpu")
    assert method.to("meta") is method
    weights = [weight for network in method.networks.values() for weight in network.parameters()]
    assert {weight.device.type for weight in weights} == ({"meta"} if has_networks else set())
    assert method.device == torch.device("meta" if has_networks else "cpu")
    with pytest.raises(wordmask.WordmaskError, match=r"'tpu9' cannot be used: there is none of this name \(auto, cpu,"):
        method.to("tpu9")


def test_what_was_moved_there_and_back_answers_as_before():
    method = load("segmenter", "clip-dinoiser", **FP32, background="found", affinity="dino")
    names = ["dog", "grass", "background"]
    before = method.segment(PICTURE, names).labels
    assert np.array_equal(method.to("cpu").segment(PICTURE, names).labels, before)


def test_networks_of_a_function_of_no_method_are_its_owner_s_affair():
    segmenter = load("segmenter", "clip-diy", **FP32)
    assert list(segmenter.networks) == ["clip", "saliency.dino", "saliency.head"]
    assert list(ClipDiy(segmenter.clip, objectness=lambda images: []).networks) == ["clip"]


@pytest.mark.parametrize(
    ("kind", "name", "instead"),
    [
        ("segmenter", "maskclip", "clip_weights=x.pt"),
        ("segmenter", "clip-diy", "clip_weights=x.pt or saliency_weights=x.pt"),
        ("segmenter", "reco", "clip_weights=x.pt or archive_clip_weights=x.pt"),
        ("saliency", "seed", "dino_weights=x.pt"),
    ],
)
def test_weights_are_those_that_a_method_learnt_itself(kind, name, instead):
    with pytest.raises(MethodError, match=f"{name} has no trained weights of its own .*: .* say {instead}"):
        load(kind, name, weights="x.pt")


def test_weights_of_a_named_architecture_are_given_by_the_name_of_the_network(tmp_path):
    missing = tmp_path / "clip.safetensors"
    with pytest.raises(wordmask.WordmaskError, match="clip.safetensors"):
        wordmask.load("maskclip", clip="ViT-B-16", clip_weights=missing, device="cpu")


def test_gamma_goes_with_the_dino_that_is_given():
    for preset, said, gamma in (
        ("paper", {"affinity": "dino"}, 0.2),
        ("world", {"affinity": "dino"}, 0.95),
        ("world", {}, 0.2),
        ("world", {"affinity": "dino", "affinity_threshold": 0.2}, 0.2),
    ):
        assert settings_of("segmenter", "clip-dinoiser", preset, **said).affinity_threshold == gamma


@pytest.mark.parametrize("method", ["clip-diy", "selfmask-clip"])
def test_a_method_asks_another_by_the_preset_that_its_settings_say(method):
    segmenter = load("segmenter", method, **FP32, saliency="seed")
    asked = segmenter.objectness if method == "clip-diy" else segmenter.salient
    assert asked.__self__.settings == settings_of("saliency", "seed", "world")


def test_a_student_says_by_which_preset_it_was_distilled(tmp_path):
    student = load("segmenter", "namedmask", **FP32)
    assert student.preset == "world"
    for told, preset in (({"steps": "5"}, "custom"), ({"steps": "5", "preset": "imagenet-s"}, "imagenet-s")):
        file = tmp_path / f"{preset}.safetensors"
        segmenters.student_file.write_student(file, student.network, student.vocabulary, told)
        assert wordmask.load("namedmask", weights=file, device="cpu").preset == preset


@dataclass(frozen=True)
class MineSettings:
    level: int = 100


class SeenBright(Seen):
    def __init__(self, image, source, level):
        super().__init__(image, source)
        self.level = level

    def answer(self, vocabulary):
        labels = (self.image.mean(axis=2) > self.level).astype(np.uint8) % len(vocabulary)
        return Segmentation(labels, list(vocabulary.names), np.ones(labels.shape, np.float32), self.image, self.source)


class Mine(Segmenter):
    """A segmenter of another package's."""

    method = "mine"
    Settings = MineSettings
    presets = {"paper": MineSettings()}  # noqa: RUF012

    def __init__(self, settings=None, compute=PLAIN):
        self.settings, self.compute = settings or MineSettings(), compute
        self.layer = nn.Linear(1, 1)

    @classmethod
    def build(cls, settings, compute):
        return cls(settings, compute)

    def look_many(self, images, sources):
        return [SeenBright(image, source, self.settings.level) for image, source in zip(images, sources, strict=True)]


@pytest.fixture
def package(monkeypatch):
    """Another package, which brings a segmenter, a refinement and a preset."""
    module = ModuleType("another_package")
    module.MINE = Method("mine", "segmenter", f"{__name__}:Mine", "Somebody, 2026")
    module.HALVED = Method("halved", "refinement", "another_package:halve", "Somebody, 2026")
    module.BRIGHT, module.COARSE = {"level": 200}, {"stride": 448}
    module.halve = lambda image: lambda maps: maps / 2
    monkeypatch.setitem(sys.modules, "another_package", module)
    plugin = Plugin(
        methods={"mine": "another_package:MINE", "halved": "another_package:HALVED"},
        presets={"mine": {"bright": "another_package:BRIGHT"}, "maskclip": {"coarse": "another_package:COARSE"}},
    )
    brought = (*plugins.installed(), plugin)
    for where in (plugins, methods):
        monkeypatch.setattr(where, "installed", lambda: brought)
    return plugin


def test_a_package_brings_methods_and_presets(package):
    loaded = wordmask.load("mine", **FP32)
    assert (loaded.preset, loaded.settings, loaded.compute) == ("paper", MineSettings(), Compute("cpu", "fp32"))
    assert list(loaded.networks) == ["layer"]
    assert loaded.segment(PICTURE, ["dark", "bright"], fill=True).labels.any()
    for said, level in (({}, 200), ({"level": 7}, 7)):
        assert wordmask.load("mine", preset="bright", device="cpu", **said).settings.level == level
    assert "mine" in {method.name for method in wordmask.list_methods("segmenter")}
    assert "mine" in segmenters.listing()
    assert settings_of("segmenter", "maskclip", "coarse").stride == 448
    assert list(methods.presets_by_name("segmenter", "maskclip"))[-1] == "coarse"
    with pytest.raises(MethodError, match="mine has no trained weights of its own to take from x.pt$"):
        wordmask.load("mine", weights="x.pt")


def test_a_preset_of_other_methods_is_not_said_to_be_missing_here(package):
    with pytest.raises(MethodError, match="mine has no preset 'world'; choose one of paper, bright$"):
        wordmask.load("mine", preset="world")


@pytest.mark.parametrize("method", ["clip-diy", "selfmask-clip"])
def test_a_saliency_without_the_preset_is_told_with_the_setting_that_names_another(package, method):
    sys.modules["another_package"].MINE = Method("mine", "saliency", f"{__name__}:Mine", "Somebody, 2026")
    with pytest.raises(MethodError, match=r"mine has no preset 'world'; say saliency_preset=paper .* paper, bright$"):
        load("segmenter", method, **FP32, saliency="mine")


def test_a_package_brings_refinements_of_names(package):
    plain, halved = (load("segmenter", "maskclip", **FP32, refine=how) for how in ("none", "halved"))
    assert halved.settings.refine == "halved"
    one, other = (each.segment(PICTURE, ["dog", "grass"], fill=True) for each in (plain, halved))
    assert np.array_equal(one.labels, other.labels)
    assert np.allclose(one.scores, 2 * other.scores, atol=1e-5)


def test_a_package_s_method_does_not_take_the_place_of_one_of_ours(package, monkeypatch):
    sys.modules["another_package"].MASKCLIP = Method("maskclip", "segmenter", f"{__name__}:Mine", "Somebody, 2026")
    package.methods["maskclip"] = "another_package:MASKCLIP"
    with pytest.warns(UserWarning, match="method maskclip of .* a method of this name is there already"):
        found = [method.paper for method in list_methods() if method.name == "maskclip"]
    assert found == ["Zhou et al., ECCV 2022"]


def test_a_method_goes_by_the_name_that_its_package_gives_it(package):
    package.methods["other"] = "another_package:MINE"
    package.methods["nothing"] = "another_package:NOTHING"
    package.methods["none"] = "another_package:BRIGHT"
    with pytest.warns(UserWarning, match="is left out") as told:
        names = [method.name for method in list_methods()]
    assert names.count("mine") == 1
    assert not {"other", "nothing", "none"} & set(names)
    reasons = ("other .* calls itself 'mine'", "nothing .* has no NOTHING", "none .* is no wordmask.methods.Method")
    for one, reason in zip(told, reasons, strict=True):
        assert re.search(reason, str(one.message))


def test_a_method_of_no_kind_is_refused():
    with pytest.raises(MethodError, match="mine: no kind of methods is called 'segmentr'; choose one of segmenter"):
        Method("mine", "segmentr", "a:b", "Somebody, 2026")


def test_a_method_without_build_says_so():
    class Bare(Declared):
        Settings = MineSettings

    with pytest.raises(MethodError, match="Bare cannot be loaded by its name"):
        Bare.build(MineSettings(), PLAIN)
    assert not Bare().networks


@pytest.mark.parametrize(
    ("load", "name", "told"),
    [
        (wordmask.load, "found", r"it is a saliency method, which `wordmask\.saliency\.load\('found'\)` loads"),
        (saliency.load, "maskclip", r"it is a segmenter method, which `wordmask\.load\('maskclip'\)` loads"),
        (wordmask.load, "MaskCLIP", "no method is called 'MaskCLIP', but maskclip is; choose one of"),
        (wordmask.load, "clip_dinoiser", "but clip-dinoiser is"),
        (wordmask.load, "clip-dyi", r"\(did you mean clip-diy\?\); choose one of"),
        (wordmask.load, "nothing", "no method is called 'nothing'; choose one of maskclip"),
    ],
)
def test_a_method_that_there_is_not_brings_to_mind_the_one_that_is_meant(load, name, told):
    with pytest.raises(MethodError, match=told):
        load(name)


def test_a_device_that_cannot_be_used_is_refused_also_where_nothing_moves():
    class Still(Declared):
        pass

    assert Still().to("cpu").device == torch.device("cpu")
    with pytest.raises(DeviceError, match="'xla' cannot be used"):
        Still().to("xla")


def test_of_what_torch_says_of_a_device_the_first_sentence_is_told(monkeypatch):
    def refuse(*shape, device):
        raise NotImplementedError("No kernel for 'MPS'. This could be because of many things. See these:\n[CPU, ...]")

    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(DeviceError, match="^device 'mps' cannot be used: No kernel for 'MPS'; try cpu$"):
        Compute("mps")
