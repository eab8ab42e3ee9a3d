"""Pictures that are composed of several small ones: what is in them, and that they hang on their place alone."""

import pytest
import torch

from support.small_archive import make_archive
from support.small_head import crowds
from wordmask.distillation.records import DistillationError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("archive"))


def test_crowds_hold_things_of_several_names_and_depend_on_the_place_alone(masks):
    own = crowds(masks, 1.0, most_pasted=1)
    seen = [set(own.one(place)[1].unique().tolist()) - {0, 255} for place in range(24)]
    assert max(map(len, seen)) == 3
    alone = crowds(masks, 0.0, most_pasted=1)
    assert all(len(set(alone.one(place)[1].unique().tolist()) - {0, 255}) <= 1 for place in range(24))
    image, labels = own.one(17)
    again, same = crowds(masks, 1.0, most_pasted=1).one(17)
    assert torch.equal(image, again)
    assert torch.equal(labels, same)
    assert image.shape == (3, 32, 32)


def test_the_place_s_own_picture_is_in_its_crowd(masks):
    own = crowds(masks, 1.0, most_pasted=1)
    labels = own.examples.labels
    assert all(labels[own.index(place)] in own.one(place)[1] for place in range(24))


def test_crowds_may_be_of_more_and_smaller_pictures(masks):
    image, labels = crowds(masks, 1.0, crop=50, most_pasted=1, sides=(3,)).one(5)
    assert image.shape == (3, 50, 50)
    assert (labels[48:] == 255).all()
    assert (labels[:, 48:] == 255).all()
    assert (labels[:48, :48] != 255).any()
    mixed = crowds(masks, 1.0, crop=50, most_pasted=1, sides=(2, 3))
    assert {mixed.one(place)[1][48:].eq(255).all().item() for place in range(24)} == {True, False}
    with pytest.raises(DistillationError, match="crowd_sides of 4"):
        crowds(masks, 1.0, crop=50, sides=(2, 4))
