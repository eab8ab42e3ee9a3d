"""The small DINO's own parts: places that two crops share, prototypes used evenly, a network that guides another."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from support.stopped_training import log_of
from support.tiny_world_dino import CHANNELS, settings
from wordmask.encoders.dino import DinoEncoder
from wordmask.training.checkpoints import CHECKPOINT, CheckpointError, read_checkpoint
from wordmask_world.report import PrintedPage, tell_of_resnet
from wordmask_world.training.batches import crop, crop_places, hue_turned
from wordmask_world.training.dino import DinoSettings, build_backbone, same_places, train_dino
from wordmask_world.training.dino_network import evenly_used, read_resnet, read_vit

pytestmark = pytest.mark.usefixtures("few_figures")


def test_a_place_in_one_crop_is_found_in_the_other():
    """Pictures whose colour says where a pixel is: both crops must show the same colour at the same place."""
    torch.manual_seed(0)
    across = torch.linspace(0, 1, 64)
    ramps = torch.stack([across.expand(64, 64), across[:, None].expand(64, 64), torch.zeros(64, 64)])
    images = ramps.expand(6, -1, -1, -1).contiguous()
    flips = torch.tensor([True, False, True, False, True, False])
    asked, told = crop_places((0.3, 0.6), flips), crop_places((0.3, 0.6), ~flips)
    there = same_places(asked, told, (16, 16))
    shared = (there.abs() <= 0.9).all(dim=-1)
    assert shared.float().mean() > 0.2
    own = crop(images, asked, 16).permute(0, 2, 3, 1)[shared]
    other = F.grid_sample(crop(images, told, 64), there, align_corners=False).permute(0, 2, 3, 1)[shared]
    torch.testing.assert_close(own, other, atol=0.02, rtol=0)


def test_prototypes_are_used_evenly():
    torch.manual_seed(0)
    shares = evenly_used(3 * torch.randn(40, 5) + torch.tensor([9.0, 0, 0, 0, 0]), rounds=30)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(40))
    torch.testing.assert_close(shares.sum(dim=0), torch.full((5,), 8.0), atol=0.05, rtol=0)


def test_hues_turn_and_greys_stay():
    torch.manual_seed(0)
    red = torch.tensor([0.6, 0.3, 0.3])[None, :, None, None].expand(200, 3, 1, 1)
    turned = hue_turned(red, 0.5)
    torch.testing.assert_close(turned.mean(dim=1), red.mean(dim=1))
    assert {int(best) for best in turned.flatten(1).argmax(dim=1)} == {0, 1, 2}
    assert torch.equal(hue_turned(red, 0.0).argmax(dim=1), red.argmax(dim=1))
    grey = torch.full((5, 3, 2, 2), 0.4)
    torch.testing.assert_close(hue_turned(grey, 0.5), grey)


def test_networks_are_read_as_they_are_used_later(tmp_path):
    torch.manual_seed(0)
    views = torch.randn(2, 3, 32, 48)
    vit, _ = build_backbone(settings(tmp_path, tmp_path))
    read, used = read_vit(vit.eval(), views), vit.forward_features(views)
    torch.testing.assert_close(read.pooled, used[:, 0])
    torch.testing.assert_close(read.map.flatten(2).transpose(1, 2), used[:, 1:])
    assert read.map.shape[-2:] == (4, 6)
    resnet, _ = build_backbone(settings(tmp_path, tmp_path, network="resnet"))
    torch.testing.assert_close(read_resnet(resnet.eval(), views).pooled, resnet(views))
    encoder, images = DinoEncoder(vit, name="tiny", device=torch.device("cpu")), torch.rand(2, 3, 32, 32)
    seen, read = encoder(images), read_vit(vit, encoder.statistics.normalise(images))
    torch.testing.assert_close(read.projections, (seen.key_maps(), seen.value_maps()))


def test_a_vit_learns_from_a_resnet_and_leaves_it_alone(small_training_file, tmp_path):
    guide = settings(small_training_file, tmp_path / "resnet", network="resnet")
    vit = settings(small_training_file, tmp_path / "vit", guide=guide.out)
    with pytest.raises(CheckpointError, match=str(guide.out)):
        train_dino(vit)
    train_dino(guide)
    model = train_dino(vit)
    before = read_checkpoint(guide.out / CHECKPOINT)["averaged"]
    for name, value in model.guide.state_dict().items():
        torch.testing.assert_close(value, before[f"teacher.backbone.{name}"], msg=name)
    assert {"distillation", "places", "shallow", "deep", "global"} <= set().union(*log_of(vit.out))
    encoder = DinoEncoder(model.teacher["backbone"], name="tiny", device=torch.device("cpu"))
    assert encoder(torch.rand(1, 3, 32, 32)).keys.isfinite().all()


def test_a_resnet_is_told_of_beside_itself_untrained(capsys):
    resnet, _ = build_backbone(DinoSettings(pictures=Path(), out=Path(), network="resnet", channels=CHANNELS))
    before = {name: value.clone() for name, value in resnet.state_dict().items()}
    tell_of_resnet(PrintedPage("a report"), resnet.eval())
    assert "untrained" in capsys.readouterr().out
    assert all(torch.equal(value, before[name]) for name, value in resnet.state_dict().items())
