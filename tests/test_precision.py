"""Where a processor has bf16 the choice is open until it is measured; elsewhere there is none, or a rule."""

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from support import plain_saliency
from support.small_clip import small_clip
from wordmask import methods, saliency, segmenters
from wordmask.cli import options
from wordmask.compute import Compute, PrecisionError, has_bf16, pick_precision
from wordmask.distillation import sources
from wordmask.distillation.pseudo_masks import MaskSettings
from wordmask.encoders.precision import MEASURED, Measurement
from wordmask.errors import WordmaskError
from wordmask.labelling import Job, LabelSettings
from wordmask.labelling.claim import settle_precision
from wordmask.methods import Declared, Method, MethodError
from wordmask.names.vocabulary import Vocabulary
from wordmask.saliency.found import SeedSaliency
from wordmask.saliency.spectral_voting import VotedMasks
from wordmask.segmenters.clip_diy import ClipDiy
from wordmask.segmenters.maskclip import MaskClip
from wordmask.segmenters.saliency_clip import SaliencyClip

INTEL_OF_2023 = {"avx2": True, "avx512_f": True, "avx512_bf16": True, "amx_bf16": True}
INTEL_OF_2017 = {"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}
ARM_OF_2021 = {"neon": True, "bf16": True, "sve_bf16": True}
OF_THE_WORLD = {"method": "maskclip", "preset": "world", "device": "cpu"}
ARM_OF_2015 = {"neon": True, "bf16": False}


@pytest.fixture
def processor(monkeypatch):
    """Fakes the processor's answer: what it can, and whether this torch can make use of it."""

    def fake(told, *, onednn=True):
        monkeypatch.delenv("WORDMASK_PRECISION", raising=False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
        monkeypatch.setattr("wordmask.compute.has_int8", lambda: False)

    return fake


@pytest.mark.parametrize(
    ("told", "chosen"),
    [
        (INTEL_OF_2023, "auto"),
        ({**INTEL_OF_2017, "avx512_bf16": True}, "auto"),
        ({**INTEL_OF_2017, "amx_bf16": True}, "auto"),
        (INTEL_OF_2017, "fp32"),
        (ARM_OF_2021, "auto"),
        (ARM_OF_2015, "fp32"),
        ({}, "fp32"),
    ],
)
def test_a_processor_with_the_instructions_is_to_be_measured(processor, told, chosen):
    processor(told)
    assert pick_precision("auto", "cpu") == chosen
    assert pick_precision("auto", torch.device("cpu")) == chosen


def test_instructions_that_torch_makes_no_use_of_do_not_count(processor):
    processor(ARM_OF_2021, onednn=False)
    assert pick_precision("auto", "cpu") == "fp32"


def test_a_torch_that_cannot_tell_stays_at_fp32(processor, monkeypatch):
    processor(INTEL_OF_2023)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert pick_precision("auto", "cpu") == "fp32"


@pytest.mark.parametrize("native", [True, False])
def test_of_two_accelerators_the_one_meant_is_asked_whether_it_has_bf16_itself(monkeypatch, native):
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: asked.append(device) or nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or native)
    assert has_bf16(torch.device("cuda:1")) is native
    assert asked == [torch.device("cuda:1")]


def test_an_accelerator_with_bf16_gets_it(processor, monkeypatch):
    processor(INTEL_OF_2017)
    monkeypatch.setattr("wordmask.compute.has_bf16", lambda device: True)
    assert pick_precision("auto", "cuda") == pick_precision("auto", torch.device("cuda:1")) == "bf16"


def test_the_environment_says_what_auto_is(processor, monkeypatch):
    processor(INTEL_OF_2023)
    for told in ("fp32", "bf16", "auto"):
        monkeypatch.setenv("WORDMASK_PRECISION", told)
        assert pick_precision("auto", "cpu") == told
        assert pick_precision("bf16", "cpu") == "bf16"
    monkeypatch.setenv("WORDMASK_PRECISION", "fp4")
    with pytest.raises(PrecisionError, match="WORDMASK_PRECISION='fp4' is unknown: choose auto, fp32, bf16 or int8"):
        Compute("cpu")


def test_devices_that_are_not_known_to_have_it_stay_at_fp32(processor):
    processor(INTEL_OF_2023)
    assert pick_precision("auto", "mps") == "fp32"
    assert pick_precision("auto", "meta") == "fp32"


def test_who_says_a_precision_gets_it(processor):
    processor(INTEL_OF_2023)
    assert pick_precision("fp32", "cpu") == "fp32"
    processor(INTEL_OF_2017)
    assert pick_precision("bf16", "cpu") == "bf16"
    with pytest.raises(PrecisionError, match="'fp16' is unknown: choose auto, fp32, bf16 or int8"):
        pick_precision("fp16", "cpu")


def test_this_processor_is_read_as_its_own_system_reads_it():
    """The flags in /proc/cpuinfo, where there is such a file."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        pytest.skip("no /proc/cpuinfo here")
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this torch makes no use of it, or cannot tell")
    assert has_bf16(torch.device("cpu")) is any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


@dataclass(frozen=True)
class Settings:
    pass


class Told(Declared):
    """A method that keeps what it was built with."""

    Settings = Settings
    presets = {"paper": Settings()}  # noqa: RUF012

    @classmethod
    def build(cls, settings, compute):
        told = cls()
        told.compute = compute
        return told


@pytest.mark.parametrize(("package", "kind"), [(segmenters, "segmenter"), (saliency, "saliency")])
def test_load_chooses_by_itself_unless_it_is_told(processor, monkeypatch, package, kind):
    monkeypatch.setattr(methods, "METHODS", (Method("told", kind, f"{__name__}:Told", "nobody's"),))
    processor(INTEL_OF_2023)
    assert package.load("told", device="cpu").compute == Compute("cpu", "auto")
    assert package.load("told", device="cpu").compute.is_open
    assert package.load("told", device="cpu", precision="fp32").compute == Compute("cpu", "fp32")
    processor(INTEL_OF_2017)
    assert package.load("told", device="cpu").compute == Compute("cpu", "fp32")
    assert package.load("told", device="cpu", precision="bf16").compute == Compute("cpu", "bf16")
    with pytest.raises(WordmaskError, match="'half' is unknown"):
        package.load("told", device="cpu", precision="half")


def test_an_onnx_file_computes_in_fp32():
    with pytest.raises(MethodError, match="m.onnx computes in fp32, not in 'bf16'"):
        segmenters.load("maskclip", onnx="m.onnx", precision="bf16")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_loaded_says_what_it_computes_with(precision):
    clip, dino = small_clip(), plain_saliency.tiny_dino()
    clip.dtype = dino.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    for segmenter in (MaskClip(clip), ClipDiy(clip), SaliencyClip(clip, lambda images: [])):
        assert (segmenter.precision, segmenter.device) == (precision, torch.device("cpu"))
    assert SeedSaliency(dino).precision == VotedMasks([dino]).precision == precision


class EnoughError(Exception):
    """The command is stopped here."""


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The precision that a verb asks for; no verb gets further. There is a folder `photos`."""
    seen = []
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)

    def segmenter(method, preset, weights, device, precision, settings):
        seen.append(precision)
        raise EnoughError

    def run(name, **given):
        seen.append(given["precision"])
        raise EnoughError

    monkeypatch.setattr(options, "segmenter", segmenter)
    monkeypatch.setattr("wordmask.benchmarks.tables.run.Run", run)
    return seen


PEOPLES = [
    ("segment", "photo.jpg", "--names", "dog"),
    ("segment", "photo.jpg", "--names", "dog", "--method", "maskclip, clip-diy", "--compare"),
    ("label", "photos", "--names", "dog", "--method", "maskclip"),
    ("saliency", "photo.jpg"),
    ("serve", "--method", "maskclip"),
]
FIGURES = [("evaluate",), ("tables", "world")]


@pytest.mark.parametrize(
    ("arguments", "precision"),
    [(verb, "auto") for verb in PEOPLES] + [(verb, "fp32") for verb in [*FIGURES, ("export",)]],
)
def test_people_s_verbs_choose_by_themselves_and_figures_are_fp32(command, asked, arguments, precision):
    command(*arguments)
    assert asked == [precision]


@pytest.mark.parametrize("arguments", [*PEOPLES, *FIGURES])
def test_every_verb_can_be_told(command, asked, arguments):
    for precision in ("fp32", "bf16"):
        command(*arguments, "--precision", precision)
    assert asked == ["fp32", "bf16"]


@pytest.mark.parametrize("arguments", FIGURES)
def test_figures_are_not_measured_in_what_the_machine_happens_to_have(command, asked, arguments):
    status, _, err = command(*arguments, "--precision", "auto")
    assert status == 2
    assert "--precision" in err
    assert asked == []


@pytest.fixture
def labelling(processor, command, monkeypatch, tmp_path):
    """Labels one more picture, on a machine that is fastest in a precision: what it was loaded with, and stderr."""
    pictures, loaded, load = tmp_path / "pictures", [], segmenters.load
    pictures.mkdir()

    def loading(**given):
        loaded.append(given["precision"])
        return load(**given)

    monkeypatch.setattr(segmenters, "load", loading)

    def label(machine, faster="fp32", *options):
        processor(machine)
        seconds = {"fp32": 1.0, "bf16": 0.5 if faster == "bf16" else 2.0}
        monkeypatch.setattr(MEASURED, "of", lambda sample: Measurement(sample.what, seconds, "", "", ""))
        number = len(list(pictures.iterdir()))
        Image.new("RGB", (32, 32), (number, 90, 200)).save(pictures / f"{number}.png")
        loaded.clear()
        of_the_world = ("--method", "maskclip", "--preset", "world", "--device", "cpu")
        status, _, err = command(
            "label", pictures, "--names", "dog", "--out", tmp_path / "out", *of_the_world, *options
        )
        return status, list(loaded), err

    return label


def kept(tmp_path):
    return json.loads((tmp_path / "out" / ".wordmask" / "settings.json").read_text())["segmenter"]["precision"]


@pytest.mark.parametrize(("first", "other"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_labels_go_on_in_the_precision_they_were_begun_in(labelling, tmp_path, first, other):
    """Whatever is faster by then, or on the machine where they go on."""
    status, _, err = labelling(INTEL_OF_2023, first)
    assert (status, kept(tmp_path)) == (0, first)
    assert f"note: labelling in {first}, which is the fastest here" in err
    for machine in (INTEL_OF_2023, INTEL_OF_2017):
        status, loaded, err = labelling(machine, other)
        assert (status, loaded, kept(tmp_path)) == (0, [first], first)
        assert (f"note: going on in {first}, in which the labels" in err) == (
            machine != INTEL_OF_2017 or first != "fp32"
        )
    status, _, err = labelling(INTEL_OF_2023, first, "--precision", other)  # but what is said is not passed over
    assert status == 1
    assert f"made with segmenter.precision '{first}', not '{other}'" in err


def test_several_workers_label_in_one_precision(labelling, tmp_path):
    status, _, err = labelling(INTEL_OF_2023, "bf16", "--workers", 2)
    assert status == 0, err
    assert kept(tmp_path) == "bf16"


def test_a_segmenter_that_is_there_already_is_loaded_anew_where_labels_are_of_another(processor, tmp_path):
    job = Job(tmp_path, tmp_path / "out", Vocabulary.of(["dog"]), LabelSettings(), dict(OF_THE_WORLD))
    settings = tmp_path / "out" / ".wordmask" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"segmenter": {"precision": "bf16"}}))
    there = segmenters.load(**OF_THE_WORLD, precision="fp32")
    settled, segmenter, _ = settle_precision(job, there)
    assert settled.load["precision"] == segmenter.precision == "bf16"
    settings.write_text(json.dumps({"segmenter": {"precision": "fp32"}}))
    assert settle_precision(job, there)[1] is there
    settings.unlink()
    assert settle_precision(job, there)[0].load["precision"] == "fp32"


def test_labels_of_a_version_that_left_it_open_are_gone_on_with(tmp_path):
    job = Job(tmp_path, tmp_path / "out", Vocabulary.of(["dog"]), LabelSettings(), dict(OF_THE_WORLD))
    settings = tmp_path / "out" / ".wordmask" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"segmenter": dict(OF_THE_WORLD)}))
    assert settle_precision(job, None) == (job, None, None)


def test_pseudo_masks_are_the_same_on_every_machine(processor, monkeypatch):
    asked = []
    monkeypatch.setattr(sources.saliency, "load", lambda method, **given: asked.append(given["precision"]))
    processor(INTEL_OF_2023)
    for settings in ({}, {"precision": "bf16"}):
        config = SimpleNamespace(masks=MaskSettings(settings=settings), device="cpu")
        run = SimpleNamespace(config=config, run=SimpleNamespace(preset="world"))
        sources.Sources.saliency.func(run)
    assert asked == ["fp32", "bf16"]


def test_pseudo_masks_are_never_left_to_the_machine():
    config = SimpleNamespace(masks=MaskSettings(settings={"precision": "auto"}), device="cpu")
    run = SimpleNamespace(config=config, run=SimpleNamespace(preset="world"))
    with pytest.raises(WordmaskError, match="precision=auto makes other masks on other machines"):
        sources.Sources.saliency_settings.func(run)
