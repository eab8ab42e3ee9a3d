"""Networks made ready to compute: the same numbers without batch norms, and dilations as sums of shifted pictures."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from support.learnt_students import LONG, learnt
from support.tiny_student import NAMES, expected_logits, picture, tiny_student
from wordmask.encoders import packed
from wordmask.encoders.inference import BLOCK_BYTES, WideDepthwise, for_inference, is_wide, shifted_sum
from wordmask.encoders.packed import Residual, can_pack
from wordmask.encoders.winograd import Winograd
from wordmask.segmenters import namedmask
from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus, small_resnet_settings
from wordmask.segmenters.namedmask import NamedMask
from wordmask.segmenters.student_file import read_student, write_student

SMALL = {
    "resnet10t": small_resnet_settings(
        backbone_options={"channels": (8, 8, 16, 16), "layers": (1, 1, 1, 1), "stem_width": 4}, width=8, low_width=4
    ),
    "mobilenet": DeepLabSettings("mobilenetv3_small_050", output_stride=16, rates=(2, 9), width=8, low_width=4),
    "no batch norms": DeepLabSettings("convnext_atto", output_stride=None, rates=(2, 9), width=8, low_width=4),
}


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("settings", SMALL.values(), ids=SMALL)
def test_a_network_made_ready_gives_the_same_without_a_batch_norm_and_is_itself_left_as_it_was(settings):
    torch.manual_seed(0)
    network = learnt(DeepLabV3Plus(3, settings))
    before = deepcopy(network.state_dict())
    ready = for_inference(network, DeepLabV3Plus.features)
    assert norms(network) > 0
    assert norms(ready) == 0
    for size in ((64, 64), (41, 83)):
        images = torch.randn(2, 3, *size)
        with torch.inference_mode():
            expected, found = network.features(images), ready.features(images)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weight.requires_grad for weight in network.parameters())  # it can go on learning


needs_kernels = pytest.mark.skipif(not can_pack(), reason="this torch has no such kernels")


@needs_kernels
@pytest.mark.parametrize("settings", [SMALL["resnet10t"], LONG], ids=["two layers a block", "three"])
@pytest.mark.parametrize("tiles", [1, 10**6])
def test_a_resnet_is_packed_whole_and_says_the_same_at_any_size(settings, tiles, monkeypatch):
    monkeypatch.setattr(packed, "LEAST_CHANNELS", 8)
    monkeypatch.setattr(packed, "LEAST_TILES", tiles)
    torch.manual_seed(0)
    network = learnt(DeepLabV3Plus(3, settings))
    ready = for_inference(network, DeepLabV3Plus.features)
    blocks = [own for own in ready.modules() if isinstance(own, Residual)]
    assert len(blocks) == sum(settings.backbone_options["layers"])
    assert not any(isinstance(own, nn.ReLU) for own in ready.backbone.modules())
    for size in ((64, 64), (41, 83), (96, 200)):
        images = torch.randn(2, 3, *size)
        with torch.inference_mode():
            expected, found = network.features(images), ready.features(images)
            alone = ready.features(images[1:])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
        torch.testing.assert_close(alone, found[1:], rtol=1e-5, atol=1e-6 * expected.abs().max().item())
    assert any(isinstance(own, Winograd) for own in ready.modules()) == (tiles == 1)


class Peeking(nn.Module):
    """A ReLU reads its convolution, and something else does."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU()

    def forward(self, x):
        own = self.conv(x)
        return self.relu(own) - own


@needs_kernels
def test_a_network_that_is_not_the_same_when_packed_stays_as_it_is():
    network = Peeking().eval()
    ready = for_inference(network, lambda own, images: own(images))
    assert not any(isinstance(own, packed.Packed) for own in ready.modules())
    images = torch.randn(1, 3, 9, 9)
    torch.testing.assert_close(ready(images), network(images))


@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="this torch or this processor has no such kernels")
def test_a_packed_network_computes_in_bf16_too():
    torch.manual_seed(0)
    network = learnt(DeepLabV3Plus(3, LONG))
    ready = for_inference(network, DeepLabV3Plus.features, torch.bfloat16)
    assert any(isinstance(own, Residual) for own in ready.modules())
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected, found = network.features(images), ready.features(images.bfloat16()).float()
    assert (found - expected).norm() < 0.05 * expected.norm()


class Forked(nn.Module):
    """Its convolution is read by a batch norm, and by something else."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        own = self.conv(x)
        return self.norm(own) + own


class Again(Forked):
    """Its batch norm reads two convolutions."""

    def forward(self, x):
        return self.norm(self.conv(x)) + self.norm(self.conv(x.flip(2)) + 1)


@pytest.mark.parametrize("family", [Forked, Again])
def test_a_batch_norm_stays_where_its_convolution_has_other_readers_or_it_runs_twice(family):
    network = learnt(family())
    ready = for_inference(network, lambda own, images: own(images))
    assert norms(ready) == 1
    images = torch.randn(1, 3, 9, 9)
    torch.testing.assert_close(ready(images), network(images))


@pytest.mark.parametrize("dilation", [(1, 1), (7, 7), (5, 12), (36, 24)])
@pytest.mark.parametrize("size", [(9, 30), (25, 13)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_sum_of_shifted_pictures_is_the_dilated_convolution(dilation, size, order):
    torch.manual_seed(0)
    images = torch.randn(2, 5, *size).contiguous(memory_format=order)
    weight, bias = torch.randn(5, 1, 3, 3), torch.randn(5)
    found = shifted_sum(images, weight[:, 0].permute(1, 2, 0), dilation, bias)
    expected = F.conv2d(images.double(), weight.double(), bias.double(), 1, dilation, dilation, groups=5)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_blocks_of_rows_make_no_difference(monkeypatch):
    images, taps = torch.randn(1, 6, 31, 17), torch.randn(3, 3, 6)
    assert images.nbytes < BLOCK_BYTES
    whole = shifted_sum(images, taps, (8, 8))
    for rows in (1, 7):
        monkeypatch.setattr("wordmask.encoders.inference.BLOCK_BYTES", rows * 17 * 6 * 4)
        assert torch.equal(shifted_sum(images, taps, (8, 8)), whole)


def test_only_convolutions_that_are_slow_as_they_stand_become_sums():
    wide = nn.Conv2d(4, 4, 3, padding=12, dilation=12, groups=4)
    assert is_wide(wide)
    others = [
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=12, dilation=12),
        nn.Conv2d(4, 8, 3, padding=12, dilation=12, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, dilation=12, groups=4),
        nn.Conv2d(4, 4, 5, padding=24, dilation=12, groups=4),
        nn.Conv2d(4, 4, 3, padding=12, dilation=12, groups=4, padding_mode="reflect"),
    ]
    assert not any(map(is_wide, others))
    ready = namedmask.ready(DeepLabV3Plus(2, SMALL["mobilenet"]).eval(), "fp32")
    assert [own.convolution.dilation for own in ready.modules() if isinstance(own, WideDepthwise)] == [(9, 9)]


def test_a_student_that_has_looked_is_saved_as_it_was_and_follows_to_another_device(tmp_path):
    student = tiny_student()
    segmenter = NamedMask(student, device="cpu", precision="fp32")
    before = segmenter.segment(picture(1), NAMES).labels
    write_student(tmp_path / "a.safetensors", segmenter.network, segmenter.vocabulary)
    again = read_student(tmp_path / "a.safetensors").network.state_dict()
    assert again.keys() == student.network.state_dict().keys()
    assert list(segmenter.networks) == ["network"]
    assert (segmenter.to("cpu").segment(picture(1), NAMES).labels == before).all()


def test_a_student_in_bf16_computes_in_it_and_keeps_most_labels():
    segmenter = NamedMask(tiny_student(), device="cpu", precision="bf16")
    labels = segmenter.segment(picture(1), NAMES).labels
    assert segmenter._ready.dtype == torch.bfloat16
    assert segmenter.network.dtype == torch.float32
    assert (labels == expected_logits(segmenter, picture(1)).argmax(dim=0).numpy()).mean() > 0.9
