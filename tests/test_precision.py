"""bf16 is chosen by itself where the device has it, and only there."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from support import plain_saliency
from support.small_clip import small_clip
from wordmask import methods, saliency, segmenters
from wordmask.cli import options
from wordmask.compute import Compute, PrecisionError, has_bf16, pick_precision
from wordmask.distillation import ingredients
from wordmask.distillation.pseudo_masks import MaskSettings
from wordmask.errors import WordmaskError
from wordmask.methods import Declared, Method, MethodError
from wordmask.saliency.found import SeedSaliency
from wordmask.saliency.spectral_voting import VotedMasks
from wordmask.segmenters.clip_diy import ClipDiy
from wordmask.segmenters.maskclip import MaskClip
from wordmask.segmenters.saliency_clip import SaliencyClip

INTEL_OF_2023 = {"avx2": True, "avx512_f": True, "avx512_bf16": True, "amx_bf16": True}
INTEL_OF_2017 = {"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}
ARM_OF_2021 = {"neon": True, "bf16": True, "sve_bf16": True}
ARM_OF_2015 = {"neon": True, "bf16": False}


@pytest.fixture
def processor(monkeypatch):
    """Fakes the processor's answer: what it can, and whether this torch can make use of it."""

    def fake(told, *, onednn=True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)

    return fake


@pytest.mark.parametrize(
    ("told", "onednn", "chosen"),
    [
        (INTEL_OF_2023, True, "bf16"),
        ({**INTEL_OF_2017, "avx512_bf16": True}, True, "bf16"),
        ({**INTEL_OF_2017, "amx_bf16": True}, True, "bf16"),
        (INTEL_OF_2017, True, "fp32"),
        (ARM_OF_2021, True, "bf16"),
        (ARM_OF_2021, False, "fp32"),  # torch makes no use of the instructions
        (ARM_OF_2015, True, "fp32"),
        ({}, True, "fp32"),
    ],
)
def test_a_processor_with_instructions_that_torch_makes_use_of_gets_bf16(processor, told, onednn, chosen):
    processor(told, onednn=onednn)
    assert pick_precision("auto", "cpu") == pick_precision("auto", torch.device("cpu")) == chosen


def test_devices_that_are_not_known_to_have_it_stay_at_fp32(processor, monkeypatch):
    processor(INTEL_OF_2023)
    assert pick_precision("auto", "mps") == pick_precision("auto", "meta") == "fp32"
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # a torch that cannot tell
    assert pick_precision("auto", "cpu") == "fp32"


@pytest.mark.parametrize("native", [True, False])
def test_of_two_accelerators_the_one_meant_is_asked_whether_it_has_bf16_itself(monkeypatch, native):
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: asked.append(device) or nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or native)
    assert has_bf16(torch.device("cuda:1")) is native
    assert asked == [torch.device("cuda:1")]


def test_who_says_a_precision_gets_it(processor):
    processor(INTEL_OF_2023)
    assert pick_precision("fp32", "cpu") == "fp32"
    processor(INTEL_OF_2017)
    assert pick_precision("bf16", "cpu") == "bf16"
    with pytest.raises(PrecisionError, match="'fp16' is unknown: choose auto, fp32 or bf16"):
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
class Settings: ...


class Told(Declared):
    """A method that keeps what it was built with."""

    Settings = Settings
    presets = {"paper": Settings()}  # noqa: RUF012

    @classmethod
    def build(cls, settings, compute):
        return SimpleNamespace(compute=compute)


@pytest.mark.parametrize(("package", "kind"), [(segmenters, "segmenter"), (saliency, "saliency")])
def test_load_chooses_by_itself_unless_it_is_told(processor, monkeypatch, package, kind):
    monkeypatch.setattr(methods, "METHODS", (Method("told", kind, f"{__name__}:Told", "nobody's"),))
    for machine, own, other in ((INTEL_OF_2023, "bf16", "fp32"), (INTEL_OF_2017, "fp32", "bf16")):
        processor(machine)
        assert package.load("told", device="cpu").compute == Compute("cpu", own)
        assert package.load("told", device="cpu", precision=other).compute == Compute("cpu", other)
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


@pytest.fixture
def asked(monkeypatch):
    """The precision that a verb asks for; no verb gets further."""
    seen = []

    def stop(precision):
        seen.append(precision)
        raise KeyboardInterrupt

    monkeypatch.setattr(options, "segmenter", lambda method, preset, weights, device, given, settings: stop(given))
    monkeypatch.setattr("wordmask.benchmarks.tables.run.Run", lambda name, **given: stop(given["precision"]))
    return seen


PEOPLES = [
    ("segment", "photo.jpg", "--names", "dog"),
    ("segment", "photo.jpg", "--names", "dog", "--method", "maskclip, clip-diy", "--compare"),
    ("label", "photos", "--names", "dog"),
    ("saliency", "photo.jpg"),
    ("serve",),
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
    assert (status, "--precision" in err, asked) == (2, True, [])


@pytest.mark.parametrize(("told", "chosen"), [(INTEL_OF_2023, "bf16"), (INTEL_OF_2017, "fp32")])
def test_labels_remember_the_precision_they_were_made_in(processor, command, monkeypatch, tmp_path, told, chosen):
    """So that a run that goes on elsewhere is refused, rather than labelled in two ways."""
    jobs = []

    def label_folder(job, **_):
        jobs.append(job)
        raise KeyboardInterrupt

    processor(told)
    monkeypatch.setattr("wordmask.labelling.label_folder", label_folder)
    command("label", tmp_path, "--names", "dog", "--device", "cpu")
    assert [job.load["precision"] for job in jobs] == [chosen]


def test_pseudo_masks_are_the_same_on_every_machine(processor, monkeypatch):
    asked = []
    monkeypatch.setattr(ingredients.saliency, "load", lambda method, **given: asked.append(given["precision"]))
    processor(INTEL_OF_2023)
    for settings in ({}, {"precision": "bf16"}):
        config = SimpleNamespace(masks=MaskSettings(settings=settings), device="cpu")
        run = SimpleNamespace(config=config, run=SimpleNamespace(preset="world"))
        ingredients.Ingredients.saliency.func(run)
    assert asked == ["fp32", "bf16"]
