"""Convolutions in int8: against whole numbers multiplied one by one, and students that compute in them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from support.learnt_students import LONG, learnt
from support.tiny_student import NAMES, picture, tiny_student
from wordmask.compute import has_int8
from wordmask.encoders import precision as measuring
from wordmask.encoders.inference import for_inference
from wordmask.encoders.int8_agreement import compute_in_int8, kept
from wordmask.encoders.int8_blocks import NoInt8Error
from wordmask.encoders.int8_convolutions import Int8Convolution, Int8Packed, eligible, in_int8
from wordmask.encoders.int8_rounding import compensated, to_nearest
from wordmask.encoders.packed import Residual
from wordmask.segmenters import student_int8
from wordmask.segmenters.deeplab import DeepLabV3Plus
from wordmask.segmenters.namedmask import NamedMask, student_sample
from wordmask.segmenters.student_int8 import RoundedStudent

pytestmark = pytest.mark.skipif(
    not has_int8() or not hasattr(torch.ops.onednn, "qconv2d_pointwise"), reason="nothing computes in int8 here"
)
RUN = DeepLabV3Plus.features


def convolution(**options):
    torch.manual_seed(0)
    return nn.Conv2d(16, 24, options.pop("size", 3), **options).requires_grad_(False)


@pytest.mark.parametrize("options", [{"padding": 2, "dilation": 2}, {"padding": 1, "stride": 2}, {"size": 1}])
@pytest.mark.parametrize("least", [0.0, -1.5])
@pytest.mark.parametrize("rounding", [to_nearest, compensated])
def test_a_convolution_is_its_whole_numbers(options, least, rounding):
    own = convolution(**options)
    x = torch.randn(2, 16, 9, 12).clamp(min=least).contiguous(memory_format=torch.channels_last)
    made = Int8Convolution.of(own, x, rounding)
    assert made.weight.dtype == torch.int8
    assert made.weight.abs().max() <= 127
    whole = (x / made.scale + 0.5).floor().clamp(-made.zero, 255 - made.zero).long()
    steps = (own.stride, own.padding, own.dilation)
    sums = F.conv2d(whole.double(), made.weight.double(), None, *steps)  # exact: all are whole
    exact = sums * (made.scale * made.scales.double())[:, None, None] + made.bias.double()[:, None, None]
    found = Int8Packed(own, made, x.shape, relu=False)(x)
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(Int8Packed(own, made, x.shape, relu=True)(x), found.relu())
    beside = torch.randn_like(found)
    torch.testing.assert_close(Int8Packed(own, made, x.shape, False).added(x, beside.clone()), (found + beside).relu())
    plain = own(x)
    assert 0 < (found - plain).norm() < 0.03 * plain.norm()
    torch.testing.assert_close(found.mean(dim=(0, 2, 3)), plain.mean(dim=(0, 2, 3)), atol=0.01, rtol=0.02)


def test_what_lies_beyond_the_span_is_cut_off_and_a_channel_of_zeros_stays():
    own = convolution(padding=1)
    own.weight[3] = 0
    x = torch.rand(1, 16, 8, 8)
    made = Int8Convolution.of(own, x, to_nearest)
    found = Int8Packed(own, made, x.shape, False)
    torch.testing.assert_close(found(9 * x.sign()), found(torch.full_like(x, x.max().item())))
    torch.testing.assert_close(found(x)[:, 3], own.bias[3].expand(1, 8, 8))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return learnt(DeepLabV3Plus(3, LONG)).requires_grad_(False)


def made_of(network, rounding=to_nearest):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return in_int8(for_inference(network, RUN, packed=False), RUN, images, rounding=rounding)


@torch.inference_mode()
def test_a_network_is_near_and_its_pictures_hang_on_nothing_else(network):
    made = made_of(network)
    ready = for_inference(network, RUN, int8=made)
    inside = {name for name, own in ready.named_modules() if isinstance(own, Int8Packed)}
    assert len(inside) == len(made)
    assert sum(isinstance(own, Residual) for own in ready.modules()) == 5
    for size in ((64, 64), (41, 83)):
        images = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)
        exact, found = network.features(images), ready.features(images)
        assert 0 < (found - exact).norm() < 0.15 * exact.norm()
        torch.testing.assert_close(ready.features(images[1:]), found[1:], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ready.features(images), found, rtol=0, atol=0)  # nothing was written over


def test_pixels_and_what_the_last_layer_reads_stay_as_they_are(network):
    names = eligible(for_inference(network, RUN, packed=False), RUN, torch.randn(1, 3, 64, 64))
    assert "backbone.conv1" not in names
    assert "classifier.classifier.3" not in names
    assert not any(own.groups > 1 for own in names.values())
    assert "backbone.layer4.0.conv2" in names


def test_a_student_in_int8_says_so_and_keeps_labels(monkeypatch):
    student = tiny_student()
    exact = NamedMask(student, device="cpu", precision="fp32")
    segmenter = NamedMask(student, device="cpu", precision="int8")
    assert segmenter.precision == "int8"
    labels, expected = (own.segment(picture(1), NAMES).labels for own in (segmenter, exact))
    assert any(isinstance(own, Int8Packed) for own in segmenter._ready.modules())
    assert (labels == expected).mean() > 0.9
    (told,) = kept()
    assert told.what == "student DeepLabV3+ resnet10t"
    monkeypatch.setattr(student_int8, "in_int8", None)  # what is kept is read
    again = NamedMask(student, device="cpu", precision="int8")
    assert (again.segment(picture(1), NAMES).labels == labels).all()


@pytest.mark.parametrize(("share", "chosen"), [(0.0, "int8"), (1.1, "fp32")])
def test_auto_takes_int8_only_where_it_is_fastest_and_labels_stay(share, chosen, monkeypatch):
    monkeypatch.delenv("WORDMASK_PRECISION")
    monkeypatch.setattr(measuring, "fastest", lambda seconds: "int8" if "int8" in seconds else "fp32")
    monkeypatch.setattr(student_int8, "LEAST_LABELS", share)
    monkeypatch.setattr("wordmask.encoders.int8_agreement.Agreement.is_enough", share < 1)
    student = tiny_student()
    segmenter = NamedMask(student, device="cpu")
    assert segmenter.precision == chosen
    labels = segmenter.segment(picture(1), NAMES).labels
    exact = NamedMask(student, device="cpu", precision="fp32").segment(picture(1), NAMES).labels
    assert chosen == "int8" or (labels == exact).all()


def test_labels_are_judged_each_by_its_own_and_one_alone_says_nothing():
    segmenter = NamedMask(tiny_student(), device="cpu", precision="fp32")
    own = segmenter._rounded()
    exact = F.one_hot(torch.tensor([[0] * 90 + [1] * 10]), 4).float()
    other = F.one_hot(torch.tensor([[0] * 95 + [1] * 5]), 4).float()
    assert own.judge([exact], [other]).same == pytest.approx(0.75)
    assert own.judge([exact], [exact]).is_enough
    chance = torch.Generator().manual_seed(0)
    alone = torch.randn(1, 100, 4, generator=chance) + torch.tensor([9.0, 0, 0, 0])
    assert own.judge([alone], [alone + torch.randn(alone.shape, generator=chance)]).same < 0.9


def test_a_part_is_timed_in_int8(network):
    with torch.inference_mode():
        assert student_sample(network).call("int8")().isfinite().all()


def test_a_student_that_was_rounded_is_not_taken_for_another():
    student, other = tiny_student(), tiny_student()
    compute_in_int8(NamedMask(student, device="cpu", precision="fp32")._rounded())
    other.network.backbone.conv1[0].weight.data += 0.1
    compute_in_int8(NamedMask(other, device="cpu", precision="fp32")._rounded())
    assert len(kept()) == 2


def test_networks_without_convolutions_in_int8_say_so(network, monkeypatch):
    monkeypatch.setattr("wordmask.encoders.int8_convolutions.hasattr", lambda own, name: False, raising=False)
    with pytest.raises(NoInt8Error, match="this torch has no convolutions in int8"):
        made_of(network)
    with pytest.raises(NoInt8Error, match="a head on frozen encoders has no int8 form"):
        RoundedStudent(nn.Identity(), lambda pictures: pictures, lambda made: None, has_labels=True)
