"""DeepLabV3+: the published layout number by number, other backbones, and students as files."""

import json
import zlib
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from torch import nn

from support import plain_deeplab
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.deeplab import (
    DeepLabError,
    DeepLabSettings,
    DeepLabV3Plus,
    fill_backbone,
    small_resnet_settings,
    told_of,
)
from wordmask.segmenters.student_file import halve_student, is_student_file, read_student, write_student
from wordmask.weights.loading import WeightsError

TINY = small_resnet_settings(
    backbone_options={"channels": (8, 8, 16, 16), "layers": (1, 1, 1, 1), "stem_width": 4}, width=16, low_width=8
)


@pytest.fixture(scope="module")
def published():
    """A checkpoint of two classes, as an expert's is, and the network that took it."""
    state = plain_deeplab.random_checkpoint(2)
    network = DeepLabV3Plus(2)
    network.load_state_dict(state, strict=True)
    return state, network.eval()


def test_network_has_every_name_and_shape_of_a_published_checkpoint_and_no_other():
    with torch.device("meta"):
        own = DeepLabV3Plus(21).state_dict()
    assert {name: tuple(value.shape) for name, value in own.items()} == plain_deeplab.published_shapes(21)


def test_a_checkpoint_in_the_published_layout_gives_the_logits_of_the_formula(published):
    state, network = published
    images = torch.randn(2, 3, 72, 56, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = plain_deeplab.forward({name: value.double() for name, value in state.items()}, images.double())
        found = network(images)
    assert expected.std() > 0.01
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_features_and_last_layer_are_the_whole_network(published):
    network, images = published[1], torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        logits, whole = network.classify(network.features(images)), network(images)
    assert logits.shape == (1, 2, 16, 16)
    assert torch.equal(nn.functional.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False), whole)


def test_only_the_backbone_s_statistics_move_slowly():
    network = DeepLabV3Plus(3, replace(TINY, backbone_momentum=DeepLabSettings().backbone_momentum))
    norms = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert {module.momentum for name, module in norms if name.startswith("backbone.")} == {0.01}
    assert {module.momentum for name, module in norms if name.startswith("classifier.")} == {0.1}


@pytest.mark.parametrize(("backbone", "stride"), [("mobilenetv3_small_050", 16), ("convnext_atto", None)])
def test_any_convolutional_network_of_timm_s_serves_as_a_backbone(backbone, stride):
    network = DeepLabV3Plus(3, DeepLabSettings(backbone=backbone, output_stride=stride, rates=(1, 2), width=8))
    with torch.inference_mode():
        assert network.eval()(torch.rand(1, 3, 64, 48)).shape == (1, 3, 64, 48)
        assert network.features(torch.rand(1, 3, 64, 48)).shape[-2:] == (16, 12)


def test_zoom_is_a_look_at_a_larger_picture_and_is_said_of_no_other_network():
    plain, zoomed = DeepLabV3Plus(3, TINY).eval(), DeepLabV3Plus(3, replace(TINY, zoom=1.5)).eval()
    zoomed.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 48, 64)
    larger = nn.functional.interpolate(images, size=(72, 96), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        assert torch.equal(zoomed.features(images), plain.features(larger))
        assert zoomed(images).shape == (2, 3, 48, 64)
        zoomed.learns_from_afar = True
        assert torch.equal(zoomed.features(images), plain.features(larger))  # it is not learning
    torch.manual_seed(0)
    afar = zoomed.train().features(images)
    torch.manual_seed(0)
    assert torch.equal(afar, plain.train().features(images))
    assert "zoom" not in told_of(TINY)
    assert told_of(zoomed.settings) == told_of(TINY) | {"zoom": 1.5}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"backbone": "resnet51"}, "no network of timm's is called 'resnet51'"),
        ({"backbone": "efficientvit_b0", "output_stride": 8}, "output_stride=None"),
        ({"backbone": "resnet18", "backbone_options": {"checkpoint_path": "evil.pth"}}, "checkpoint_path"),
    ],
)
def test_backbones_that_cannot_be_are_refused(settings, told):
    with pytest.raises(DeepLabError, match=told):
        DeepLabV3Plus(2, DeepLabSettings(**settings))


def test_a_backbone_takes_a_checkpoint_with_torchvision_s_names_and_all_of_them(tmp_path):
    donor, network, file = DeepLabV3Plus(2, TINY), DeepLabV3Plus(3, TINY), tmp_path / "resnet.pth"
    state = {name: value.clone() for name, value in donor.backbone.state_dict().items()}
    torch.save(state | {"fc.weight": torch.zeros(5, 16), "fc.bias": torch.zeros(5)}, file)
    fill_backbone(network, file)
    assert all(torch.equal(value, state[name]) for name, value in network.backbone.state_dict().items())
    del state["layer2.0.conv1.weight"]
    torch.save(state, file)
    with pytest.raises(WeightsError, match=r"layer2\.0\.conv1\.weight"):
        fill_backbone(network, file)


def test_a_network_starts_from_a_student_of_other_names_all_but_its_last_layer(tmp_path):
    donor, network, file = DeepLabV3Plus(2, TINY), DeepLabV3Plus(3, TINY), tmp_path / "student.safetensors"
    write_student(file, donor, Vocabulary.of(["background", "dog"]))
    own = {name: value.clone() for name, value in network.state_dict().items()}
    fill_backbone(network, file)
    for name, value in network.state_dict().items():
        last = name.startswith("classifier.classifier.3.")
        assert torch.equal(value, own[name] if last else donor.state_dict()[name]), name
    wider = DeepLabV3Plus(3, replace(TINY, width=TINY.width + 8))
    with pytest.raises(WeightsError, match=r"student\.safetensors as a start of DeepLabV3\+.*classifier\.aspp"):
        fill_backbone(wider, file)


def test_a_student_s_file_gives_back_the_student(tmp_path):
    torch.manual_seed(0)
    network, images, file = DeepLabV3Plus(3, TINY).eval(), torch.rand(1, 3, 40, 32), tmp_path / "student.safetensors"
    names = Vocabulary.of({"background": None, "dog": ["puppy"], "crane": {"instead": "crane bird"}})
    write_student(file, network, names, {"steps": "7"})
    again = read_student(file)
    with torch.inference_mode():
        assert torch.equal(again.network(images), network(images))
    assert (again.vocabulary, again.metadata, is_student_file(file)) == (names, {"steps": "7"}, True)


def test_a_halved_student_is_half_as_large_and_nearly_the_same_and_equal_students_are_equal_files(tmp_path):
    torch.manual_seed(0)
    network, names = DeepLabV3Plus(2, TINY).eval(), Vocabulary.of(["background", "dog"])
    whole, same, half = (tmp_path / f"{name}.safetensors" for name in ("whole", "same", "half"))
    for path in (whole, same):
        write_student(path, network, names, {"seed": "0", "steps": "7"})
    assert whole.read_bytes() == same.read_bytes()
    halve_student(whole, half, {"command": "make half"})
    again = read_student(half)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    assert again.metadata == {"seed": "0", "steps": "7", "command": "make half"}
    assert {value.dtype for value in again.network.parameters()} == {torch.float32}
    for name, value in network.named_parameters():
        torch.testing.assert_close(again.network.get_parameter(name), value, atol=1e-3, rtol=1e-3)


def test_a_halved_student_of_short_fractions_is_that_near_and_packs_better(tmp_path):
    torch.manual_seed(0)
    network, whole = DeepLabV3Plus(2, TINY).eval(), tmp_path / "whole.safetensors"
    write_student(whole, network, Vocabulary.of(["background", "dog"]), {})
    sizes = []
    for fraction in (None, 4):
        halve_student(whole, path := tmp_path / f"{fraction}.safetensors", {}, fraction=fraction)
        sizes.append(len(zlib.compress(path.read_bytes())))
    assert sizes[1] < 0.75 * sizes[0]
    for name, value in network.named_parameters():
        torch.testing.assert_close(read_student(path).network.get_parameter(name), value, atol=1e-6, rtol=2**-5)


def test_other_safetensors_are_no_students_and_a_damaged_list_of_names_is_an_error(tmp_path):
    file, nothing = tmp_path / "x.safetensors", {"x": torch.zeros(1)}
    safetensors.torch.save_file(nothing, file)
    assert not is_student_file(file)
    with pytest.raises(WeightsError, match="no student"):
        read_student(file)
    told = {"format": "wordmask-student/1", "names": json.dumps(["dog"]), "network": "{}"}
    safetensors.torch.save_file(nothing, file, told)
    with pytest.raises(WeightsError, match="damaged"):
        read_student(file)
