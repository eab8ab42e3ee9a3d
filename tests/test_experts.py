"""Experts: groups of names, and masks redrawn better than those they were taught."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from support.small_archive import COLOURS, TINY, make_archive, picture
from wordmask.distillation import experts, redrawing
from wordmask.distillation.augmentations import Augmentation
from wordmask.distillation.experts import PRESETS, ExpertSettings, default_groups, group_names, train_expert
from wordmask.distillation.records import DistillationError, MaskTable, write_masks
from wordmask.distillation.redrawing import refine
from wordmask.segmenters.namedmask import NamedMask
from wordmask.segmenters.student_file import read_student, write_student

QUICK = ExpertSettings(
    network=TINY,
    start=None,
    augmentation=Augmentation(crop=40, scale=(0.8, 1.0), jitter=0, grey=0, blur=0),
    steps=40,
    learning_rate=1e-2,
    backbone_rate=1e-2,
    save_every=100,
    pictures=3,
)
EACH = 6
LARGE = (96, 100)


def spoilt(mask):
    """A mask that says too much, as saliency's do: a block somewhere is in it as well."""
    side = mask.shape[0] // 3
    top, left = np.random.default_rng(int(mask.sum())).integers(0, 2 * side, 2)
    more = mask.copy()
    more[top : top + side, left : left + side] = True
    return more


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("archive"), each=EACH, masks_of=spoilt)


@pytest.fixture(scope="module")
def expert(masks, tmp_path_factory):
    return train_expert(masks, ["apple"], QUICK, tmp_path_factory.mktemp("expert"), seed=1, device="cpu")


def vectors(*angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_many_names_are_grouped_as_in_the_paper():
    """And up to a hundred names each has an expert of its own."""
    counts = (1, 20, 50, 80, 100, 300, 919)
    assert [default_groups(count) for count in counts] == [1, 20, 50, 80, 100, 30, 90]


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1), (1, 1, 50, 50, 1)])  # directions count
def test_names_that_mean_like_things_are_together(lengths):
    names = ["cat", "car", "dog", "bus", "cow"]
    embeddings = vectors(0.1, 2.0, 0.15, 2.1, 0.2) * np.array(lengths)[:, None]
    assert group_names(names, embeddings, 2) == [["cat", "dog", "cow"], ["car", "bus"]]


def test_every_name_is_in_one_group_and_the_seed_decides():
    draw = np.random.default_rng(0)
    names, embeddings = [f"name {number}" for number in range(120)], draw.normal(size=(120, 16))
    groups = group_names(names, embeddings, None, seed=3)
    assert len(groups) == 10
    assert sorted(name for group in groups for name in group) == sorted(names)
    assert groups == group_names(names, embeddings, None, seed=3)


def test_one_name_a_group_needs_no_embeddings_and_more_groups_than_names_are_an_error():
    assert group_names(["cat", "dog"], np.zeros((0, 2)), None) == [["cat"], ["dog"]]
    with pytest.raises(DistillationError, match="3 groups of 2 names"):
        group_names(["cat", "dog"], vectors(0, 1), 3)


def test_the_paper_s_figures_are_the_presets():
    assert (PRESETS["paper"].steps, PRESETS["paper"].batch, PRESETS["paper"].most_pasted) == (5_000, 8, 1)
    assert (PRESETS["imagenet-s"].steps, PRESETS["imagenet-s"].batch) == (10_000, 16)


def test_an_expert_answers_to_each_name_of_its_group():
    vocabulary = experts.expert_vocabulary(["cat", "dog"])
    assert vocabulary.names == ("background", "cat or dog")
    assert vocabulary.phrases[1] == ("cat", "dog")
    many = experts.expert_vocabulary([f"a rather long name of number {number}" for number in range(30)])
    assert many.names[1] == "a rather long name of number 0 and 29 more"


def test_an_expert_learns_from_its_own_archive_alone(expert, masks):
    student = read_student(expert)
    assert student.vocabulary.names == ("background", "apple")
    assert student.network.classes == 2
    assert "leaf" not in student.metadata["run"]


def test_how_masks_are_redrawn_is_no_part_of_the_training(expert, masks):
    assert train_expert(masks, ["apple"], replace(QUICK, pictures=1), expert.parent, seed=1, device="cpu") == expert


@pytest.mark.slow
def test_experts_draw_better_masks_than_those_they_were_taught(tmp_path):
    """What the masks have in common is the thing; what they have too much is elsewhere in each."""
    masks = make_archive(tmp_path, each=36, names=("apple",), masks_of=spoilt, size=LARGE)
    settings = replace(QUICK, steps=150, augmentation=replace(QUICK.augmentation, crop=LARGE[0]), learning_rate=2e-3)
    expert = train_expert(masks, ["apple"], settings, tmp_path / "expert", seed=1, device="cpu")
    refine(expert, masks, ["apple"], settings, tmp_path / "refined" / "0", device="cpu")
    refined = MaskTable(tmp_path / "refined")
    truths = [picture("apple", rank, (LARGE[0], LARGE[1] - 4 * (rank % 2)))[1] for rank in range(36)]
    taught = [iou(masks[rank].mask(), truth) for rank, truth in enumerate(truths)]
    drawn = [iou(refined[rank].mask(), truth) for rank, truth in enumerate(truths)]
    assert np.mean(drawn) > np.mean(taught) + 0.05


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_refined_masks_are_records_of_the_same_pictures_in_the_same_order(expert, masks, tmp_path):
    told = []
    stem = tmp_path / "refined" / "0"
    refine(expert, masks, ["apple"], QUICK, stem, device="cpu", progress=lambda *state: told.append(state))
    refined = MaskTable(tmp_path / "refined")
    before = [masks[row] for row in masks.rows("apple")]
    assert [(one.name, one.rank, one.image) for one in refined] == [(one.name, one.rank, one.image) for one in before]
    assert all(one.mask().shape == other.mask().shape for one, other in zip(refined, before, strict=True))
    assert all(0 <= one.score <= 1 for one in refined)
    assert (refined.names, refined.root) == (masks.names, masks.root)
    assert list(dict.fromkeys(told)) == [(3, EACH), (6, EACH)]


def test_what_either_has_found_is_kept_but_nothing_of_what_was_set_aside(expert, masks, tmp_path):
    aside = [replace(record, usable=record.rank != 2, trouble="unsure" * (record.rank == 2)) for record in masks]
    write_masks(tmp_path / "masks" / "0.arrow", aside, root=masks.root, names=masks.names)
    table = MaskTable(tmp_path / "masks")
    refine(expert, table, ["apple"], replace(QUICK, keep="either"), tmp_path / "refined" / "0", device="cpu")
    student = NamedMask(read_student(expert), device="cpu", precision="fp32")
    found = list(MaskTable(tmp_path / "refined"))
    assert any((one.mask() & ~record.mask()).any() for one, record in zip(found, aside, strict=False))
    for one, record in zip(found, [record for record in aside if record.name == "apple"], strict=True):
        answer = student.segment(masks.open_image(record.image), ["background", "apple"])
        chances = []
        for (row, column), kept in np.ndenumerate(one.mask()):
            is_thing = answer.labels[row, column] == 1
            assert kept == (is_thing or (record.rank != 2 and record.mask()[row, column]))
            if kept:
                chances.append(answer.scores[row, column] if is_thing else 1 - answer.scores[row, column])
        assert one.score == pytest.approx(np.mean(chances), abs=1e-6)
        assert one.usable


def test_nothing_is_kept_of_a_mask_whose_picture_has_another_size_now(expert, tmp_path):
    masks = make_archive(tmp_path, each=1, names=("apple",))
    Image.fromarray(picture("apple", 7, (36, 52))[0]).save(tmp_path / "pictures" / "apple-0.png")
    for keep in ("redrawn", "either"):
        refine(expert, masks, ["apple"], replace(QUICK, keep=keep), tmp_path / keep / "0", device="cpu")
    assert MaskTable(tmp_path / "either")[0] == MaskTable(tmp_path / "redrawn")[0]
    assert MaskTable(tmp_path / "either")[0].mask().shape == (36, 52)


def test_a_group_s_masks_keep_their_own_names(expert, masks, tmp_path):
    refine(expert, masks, ["sky", "apple"], QUICK, tmp_path / "refined" / "0", device="cpu")
    refined = MaskTable(tmp_path / "refined")
    assert [len(refined.rows(name, usable=False)) for name in COLOURS] == [EACH, 0, EACH]


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_kill_while_redrawing_costs_a_shard_and_no_more(expert, masks, tmp_path, monkeypatch, kept):
    names = ["sky", "apple"]
    refine(expert, masks, names, QUICK, tmp_path / "at once" / "0", device="cpu")
    monkeypatch.setattr(redrawing, "MASKS_PER_SHARD", 5)
    whole = refine(expert, masks, names, QUICK, tmp_path / "whole" / "0", device="cpu")
    assert [path.name for path in whole] == [f"0_{number:05d}.arrow" for number in range(3)]
    written = []

    class Killed(BaseException):
        pass

    def dying(path, *args, **kwargs):
        if len(written) == kept:
            raise Killed
        written.append(path.name)
        write_masks(path, *args, **kwargs)

    monkeypatch.setattr(redrawing, "write_masks", dying)
    with pytest.raises(Killed) if kept < 3 else nullcontext():
        refine(expert, masks, names, QUICK, tmp_path / "killed" / "0", device="cpu")
    monkeypatch.setattr(redrawing, "write_masks", write_masks)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.arrow")}
    assert len(before) == kept
    again = refine(expert, masks, names, QUICK, tmp_path / "killed" / "0", device="cpu")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in whole]
    assert list(MaskTable(tmp_path / "killed")) == list(MaskTable(tmp_path / "at once"))


def test_a_shard_that_is_there_is_left_alone(expert, masks, tmp_path):
    (tmp_path / "0_00000.arrow").write_bytes(b"done")
    refine(expert, masks, ["apple"], QUICK, tmp_path / "0", device="cpu")
    assert (tmp_path / "0_00000.arrow").read_bytes() == b"done"


def test_pictures_that_are_gone_are_set_aside_and_told_why(expert, tmp_path):
    masks = make_archive(tmp_path, each=3)
    (tmp_path / "pictures" / "apple-1.png").write_bytes(b"no picture")
    refine(expert, masks, ["apple"], QUICK, tmp_path / "refined" / "0", device="cpu")
    refined = MaskTable(tmp_path / "refined")
    assert (len(refined), refined[1].usable) == (3, False)
    assert refined[1].trouble


def test_empty_and_full_masks_are_set_aside(masks, tmp_path):
    """An untaught expert whose bias says that all, or nothing, is the thing."""
    for trouble, bias in (("empty", -50.0), ("full", 50.0)):
        path = train_expert(masks, ["apple"], replace(QUICK, steps=1), tmp_path / trouble, seed=1, device="cpu")
        student = read_student(path)
        student.network.classifier.classifier[-1].bias.data = torch.tensor([0.0, bias])
        write_student(path, student.network, student.vocabulary)
        refine(path, masks, ["apple"], QUICK, tmp_path / f"{trouble}-masks" / "0", device="cpu")
        refined = MaskTable(tmp_path / f"{trouble}-masks")
        assert {one.trouble for one in refined} == {trouble}
        assert not any(one.usable for one in refined)
