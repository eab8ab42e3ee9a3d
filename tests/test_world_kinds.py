"""Kinds that nobody named: found by what looks alike, learnt by a network that others begin with."""

import shutil

import numpy as np
import pytest
import torch

from support.stopped_training import Killed
from wordmask.collection.references import ImageRef
from wordmask.console.progress import OnStderr
from wordmask.distillation.records import MaskRecord, MaskTable, encode_mask, write_masks
from wordmask.segmenters.deeplab import DeepLabV3Plus, fill_backbone
from wordmask.segmenters.student_file import read_student
from wordmask_world.distilling import RUN
from wordmask_world.drawing.scenes import WorldError
from wordmask_world.models import KINDS, find
from wordmask_world.report import naming_by_kinds
from wordmask_world.training import figures, kinds
from wordmask_world.training.kinds import ANYTHING, KindsSettings, clusters, means_within, train_kinds, write_kinds

pytestmark = pytest.mark.usefixtures("one_thread")


def test_what_looks_alike_is_one_kind_and_distances_are_to_its_middle():
    chance = np.random.default_rng(0)
    middles = chance.normal(size=(3, 2, 6)) + 5  # what all have in common tells nothing
    truth = np.arange(60) % 3
    looks = (middles[truth] + 0.02 * chance.normal(size=(60, 2, 6))) * np.array([1.0, 100.0])[:, None]
    kind, distance = clusters(looks, 3, seed=0)
    assert len({(one, other) for one, other in zip(truth, kind, strict=True)}) == 3
    flat = []
    for view in (0, 1):
        own = looks[:, view] - looks[:, view].mean(axis=0)
        flat.append(own / np.linalg.norm(own, axis=1, keepdims=True))
    both = np.concatenate(flat, axis=1)
    for place in range(60):
        middle = both[kind == kind[place]].mean(axis=0)
        assert distance[place] == pytest.approx(np.linalg.norm(both[place] - middle), abs=0.02)


def test_a_mask_s_mean_counts_cells_by_how_far_they_are_covered():
    chance = np.random.default_rng(1)
    features, masks = chance.normal(size=(2, 3, 2, 4)), chance.random((2, 4, 12)) < 0.4
    found = means_within(torch.from_numpy(features), torch.from_numpy(masks).double()).numpy()
    for picture in (0, 1):
        whole, weight = np.zeros(3), 0
        for row, column in zip(*np.nonzero(masks[picture]), strict=True):
            whole, weight = whole + features[picture, :, row // 2, column // 3], weight + 1
        np.testing.assert_allclose(found[picture], whole / weight, atol=1e-9)


def test_those_nearest_to_the_middle_of_their_kind_are_learnt_from(tmp_path):
    mask = encode_mask(np.eye(4, dtype=bool))
    records = [MaskRecord(ANYTHING, rank, ImageRef(f"{rank}.jpg"), mask, 1.0, 0.0) for rank in range(5)]
    write_masks(tmp_path / "masks" / "one.arrow", records, root=tmp_path, names=[ANYTHING])
    kind, distance = np.array([7, 2, 7, 4, 2]), np.array([0.3, 0.1, 0.2, 0.9, 0.4])
    found = write_kinds(MaskTable(tmp_path / "masks"), kind, distance, 0.8, tmp_path / "kinds")
    assert found.names == ("kind 2", "kind 7")  # nothing of kind 4 is near its middle
    told = [(record.name, record.rank, record.image.path) for record in found]
    assert told == [("kind 2", 0, "1.jpg"), ("kind 2", 1, "4.jpg"), ("kind 7", 0, "2.jpg"), ("kind 7", 1, "0.jpg")]


def test_masks_and_looks_of_one_precision_are_not_gone_on_with_in_another(tmp_path, monkeypatch):
    def dies(*given, **options):
        raise Killed

    monkeypatch.setattr(kinds, "write_folder", dies)
    for _ in range(2):
        with pytest.raises(Killed):
            train_kinds(KindsSettings(tmp_path), OnStderr())
    with pytest.raises(WorldError, match="holds kinds made with precision 'fp32', not 'bf16'"):
        train_kinds(KindsSettings(tmp_path, precision="bf16"), OnStderr())


def test_what_ships_tells_things_apart_that_nobody_named(monkeypatch):
    monkeypatch.setattr(figures, "NAMED_PICTURES", 100)
    told = read_student(find(KINDS).path)
    assert "wordmask world train-kinds" in told.metadata["command"]
    assert naming_by_kinds(told.network) > 50  # 4 by chance


@pytest.mark.slow
def test_a_killed_training_of_kinds_goes_on_and_others_begin_with_it(tmp_path, monkeypatch):
    settings = KindsSettings(tmp_path / "run", pictures=24, kinds=3, steps=3)
    whole = train_kinds(settings, OnStderr()).read_bytes()
    shutil.rmtree(settings.out / "round-2" / "student")
    shutil.rmtree(settings.out / "round-3")
    looked_at_first = (settings.out / "round-2" / "looks" / "00000000.npy").stat().st_mtime_ns

    def dies(*given, **options):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(kinds, "write_kinds", dies)
        with pytest.raises(Killed):
            train_kinds(settings, OnStderr())
    path = train_kinds(settings, OnStderr())
    assert path.read_bytes() == whole
    assert (settings.out / "round-2" / "looks" / "00000000.npy").stat().st_mtime_ns == looked_at_first
    told = read_student(path)
    assert told.vocabulary.names[0] == "background"
    assert all(name.startswith("kind") for name in told.vocabulary.names[1:])
    begun = DeepLabV3Plus(4, RUN.student.network)
    fill_backbone(begun, str(path))
    state = told.network.state_dict()
    assert torch.equal(begun.classifier.aspp.project[0].weight, state["classifier.aspp.project.0.weight"])


@pytest.mark.slow
def test_a_network_of_kinds_goes_on_for_one_round_by_what_it_sees_itself(tmp_path):
    settings = KindsSettings(tmp_path / "run", pictures=24, kinds=3, steps=2, batch=4, start="world:kinds")
    path = train_kinds(settings, OnStderr())
    own = path.parent.parent
    assert [folder.name for folder in settings.out.glob("round-*")] == [own.name]
    looks = np.load(own / "looks" / "00000000.npy")
    masks = MaskTable(settings.out / "masks")
    record = masks[int(masks.rows(ANYTHING)[0])]
    begun = read_student(find(KINDS).path).network
    with torch.inference_mode():
        image = torch.from_numpy(masks.open_image(record.image)).permute(2, 0, 1)[None] / 255
        seen = begun.features(begun.statistics.normalise(image))
    mask = torch.from_numpy(record.mask())[None].float()
    np.testing.assert_allclose(looks[0, 0], means_within(seen, mask)[0].numpy(), atol=1e-4)
    assert read_student(path).network.settings.zoom == 2
