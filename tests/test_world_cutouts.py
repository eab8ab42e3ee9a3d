"""Cut-outs pasted on grounds, and what is learnt of them."""

from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from support.stopped_training import log_of
from support.tiny_world_dino import settings
from wordmask_world.training.batches import Batch, crop
from wordmask_world.training.cutouts import HARDLY, MOSTLY, Belonging, cut_out, mean_of_cutouts, paste, paste_both
from wordmask_world.training.dino import SelfDistillation, train_dino

pytestmark = pytest.mark.usefixtures("few_figures")


def test_a_cutout_lies_on_its_ground_and_nowhere_else():
    torch.manual_seed(0)
    images, grounds = torch.rand(12, 3, 48, 48), torch.rand(12, 3, 32, 32)
    cutouts = cut_out(images, 32)
    assert cutouts.cover.amin() >= 0
    assert (cutouts.cover.amax(dim=(1, 2, 3)) == 1).all()  # every one has a whole inside
    views, cover = paste(grounds, cutouts, (0.4, 1.0))
    bare = (cover == 0).expand_as(views)
    assert torch.equal(views[bare], grounds[bare])
    covered = (cover == 1).expand_as(views)
    assert (views[covered] != grounds[covered]).float().mean() > 0.99
    assert 0.05 < cover.mean() < 0.5


def test_cutouts_are_of_every_shape_and_the_seed_decides():
    images = torch.rand(8, 3, 32, 32)
    torch.manual_seed(0)
    first, second = cut_out(images, 32), cut_out(images, 32)
    torch.manual_seed(0)
    assert torch.equal(cut_out(images, 32).cover, first.cover)
    assert not torch.equal(first.cover, second.cover)
    assert len({round(area, 2) for area in first.cover.mean(dim=(1, 2, 3)).tolist()}) > 4


@pytest.fixture
def model(small_training_file):
    torch.manual_seed(0)
    return SelfDistillation(settings(small_training_file, Path(), cutouts=1.0))


def test_the_same_cutout_lies_in_both_views_over_other_grounds(model):
    images = torch.rand(4, 3, 32, 32)
    views = model._views(Batch(images, 32, 1.0, [], torch.zeros(0)))
    for view, cover, places, shown in zip(views.pictures, views.covers, views.places, (0, 1), strict=True):
        grounds = crop(images.roll(-shown, dims=0), places, 32)
        bare = (cover.sum(dim=1, keepdim=True) == 0).expand_as(view)
        assert torch.equal(view[bare], grounds[bare])


def test_what_is_learnt_of_a_place_leaves_cutouts_out(model):
    """Grounds that are one colour each: where both crops show the ground, they agree wherever they were cut."""
    batch = Batch(torch.rand(4, 3, 1, 1).expand(-1, -1, 32, 32).contiguous(), 32, 1.0, [], torch.zeros(0))
    views = model._views(batch)

    class Recorder(torch.nn.Module):
        def forward(self, cells):
            self.cells = getattr(self, "cells", cells)
            return cells

    said, told = model.student["place_head"], model.teacher["place_head"] = Recorder(), Recorder()
    maps = torch.cat(views.pictures)
    model._about_places(maps, maps, views.places, views.covers, 1.0)
    assert len(said.cells) > 50
    # what is covered by less than a tenth may differ a bit
    torch.testing.assert_close(said.cells, told.cells, atol=0.25, rtol=0)


def test_crops_without_a_place_in_common_teach_nothing_of_places(model):
    left, right = torch.eye(2, 3).repeat(4, 1, 1) / 4, torch.eye(2, 3).repeat(4, 1, 1) / 4
    left[:, 0, 2], right[:, 0, 2] = -0.7, 0.7
    maps, covers = torch.rand(8, 24, 4, 4), [torch.zeros(4, 2, 4, 4)] * 2
    assert model._about_places(maps, maps, [left, right], covers, 1.0) == 0


def test_belonging_is_asked_of_every_pair():
    torch.manual_seed(0)
    maps, covers = torch.randn(3, 5, 2, 4), torch.zeros(3, 2, 2, 4)
    covers[0, 0, 0, :2], covers[0, 1, 0, 2:], covers[0, 0, 1, 0] = 0.9, 0.8, 0.4  # the last cell is neither's
    covers[1, 0, 1, 2:], covers[1, 1, 1, 1] = 1.0, 0.05  # the second picture has one cut-out, the third none
    asked = Belonging()
    wrong = {"one": [], "ground": [], "mixed": [], "two": []}
    for features, cover in zip(maps.flatten(2), covers.flatten(2), strict=True):
        if cover.max() <= MOSTLY:
            continue
        members = [
            "first" if a > MOSTLY else "second" if b > MOSTLY else "ground" if a + b < HARDLY else None
            for a, b in cover.T.tolist()
        ]
        known = [(member, features[:, place]) for place, member in enumerate(members) if member]
        for (one, own), (other, compared) in product(known, repeat=2):
            chance = torch.sigmoid(asked.scale.exp() * F.cosine_similarity(own, compared, dim=0) + asked.bias)
            kind = {("ground",): "ground", ("first", "second"): "two"}.get(tuple(sorted({one, other})), "mixed")
            kind = "one" if one == other != "ground" else kind
            wrong[kind].append(-(chance if one == other else 1 - chance).log().item())
    shares = {"one": 0.25, "ground": 0.25, "mixed": 0.4, "two": 0.1}
    expected = sum(share * sum(wrong[kind]) / len(wrong[kind]) for kind, share in shares.items())
    assert asked(maps, covers).item() == pytest.approx(expected, abs=1e-5)


def test_a_second_cutout_hides_the_first():
    torch.manual_seed(0)
    first, second = cut_out(torch.rand(6, 3, 32, 32), 32), cut_out(torch.rand(6, 3, 32, 32), 32)
    present = torch.tensor([True, True, True, False, False, False])
    _, covers = paste_both(torch.rand(6, 3, 32, 32), first, second, present, (0.8, 1.0))
    assert covers.sum(dim=1).amax() <= 1
    assert (covers[:3, 1].amax(dim=(1, 2)) > 0.9).all()
    assert (covers[3:, 1] == 0).all()


def test_the_mean_of_cutouts_is_of_the_cells_they_cover():
    maps = torch.arange(8.0).view(1, 2, 2, 2).repeat(2, 1, 1, 1)
    covers = torch.zeros(2, 2, 2, 2)
    covers[0, 0, 0, 0], covers[0, 0, 1, 1], covers[0, 1, 0, 1], covers[1, 0, 0, 0] = 1.0, 0.5, 0.8, 0.2
    assert torch.equal(mean_of_cutouts(maps, covers), torch.tensor([[0.5, 4.5], [0.0, 0.0]]))


@pytest.mark.parametrize("network", ["vit", "resnet"])
def test_both_networks_learn_from_cutouts(network, small_training_file, tmp_path):
    train_dino(settings(small_training_file, tmp_path, network=network, cutouts=1.0, output_stride=8))
    assert any("belonging" in step and "places" in step for step in log_of(tmp_path))
