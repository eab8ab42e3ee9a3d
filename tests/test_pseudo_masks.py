"""Masks nobody drew, and how they are kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from support.tiny_collection import ColourClip, embedder, picture, write_pictures, write_tar
from support.tiny_run import Bright, Counted
from wordmask.collection.embedding import embed
from wordmask.collection.piles import open_pile
from wordmask.collection.references import ImageRef
from wordmask.distillation import pseudo_masks
from wordmask.distillation.archive import ArchiveSettings, build_archive
from wordmask.distillation.pseudo_masks import MaskSettings, make_masks, mask_and_score, masks_of
from wordmask.distillation.records import DistillationError, MaskRecord, MaskTable, encode_mask, write_masks
from wordmask.names.vocabulary import Vocabulary
from wordmask.saliency.selfmask import SelfMask, SelfMaskSettings
from wordmask.saliency.selfmask_network import SelfMaskNetwork, SelfMaskShape

PLAIN = MaskSettings(side=12, refine="none")


@pytest.fixture
def archive(tmp_path):
    write_pictures(tmp_path / "pictures", 12)
    folder = embed(open_pile(tmp_path / "pictures"), ColourClip(), tmp_path / "embeddings")
    names, out = Vocabulary.of(["red", "green"]), tmp_path / "archive.parquet"
    return build_archive(folder, names, embedder(), out, ArchiveSettings(size=8))


def test_every_picture_of_every_archive_gets_a_mask_and_is_looked_at_once(tmp_path, archive):
    saliency = Counted()
    table = make_masks(archive, lambda: saliency, tmp_path / "masks", PLAIN)
    assert (len(table), table.names) == (16, ("red", "green"))
    assert saliency.pictures == len({entry.image for name in archive.names for entry in archive.entries(name)}) < 16
    for name in table.names:
        records = [table[row] for row in table.rows(name)]
        assert [(r.rank, r.image, r.similarity) for r in records] == [
            (e.rank, e.image, pytest.approx(e.similarity)) for e in archive.entries(name)
        ]
        for record in records:
            image = table.open_image(record.image)
            assert np.array_equal(record.mask(), np.ptp(image.astype(np.float32), axis=2) > 80)


def test_work_that_stopped_goes_on_at_its_block_and_ends_the_same(tmp_path, archive, monkeypatch):
    monkeypatch.setattr(pseudo_masks, "PICTURES_PER_SHARD", 3)
    whole = make_masks(archive, Bright, tmp_path / "whole", PLAIN)

    class Dying(Counted):
        def raw_maps(self, images):
            if self.pictures >= 6:
                raise KeyboardInterrupt
            return super().raw_maps(images)

    with pytest.raises(KeyboardInterrupt):
        make_masks(archive, Dying, tmp_path / "masks", replace(PLAIN, batch=1))
    saliency = Counted()
    assert make_masks(archive, lambda: saliency, tmp_path / "masks", PLAIN)[:] == whole[:]
    assert saliency.pictures == len({r.image for r in whole}) - 6


def test_pictures_that_have_gone_are_listed_and_have_no_mask(tmp_path, archive):
    gone = archive.entries("red")[0].image.path
    (tmp_path / "pictures" / gone).unlink()
    table = make_masks(archive, Bright, tmp_path / "masks", PLAIN)
    assert gone not in {record.image.path for record in table}
    line = json.loads((tmp_path / "masks" / "bad_images.jsonl").read_text())
    assert (line["image"], "no such file" in line["reason"]) == (gone, True)


@pytest.mark.parametrize(
    ("level", "settings", "trouble"),
    [
        (0.0, {}, "empty"),
        (1.0, {}, "full"),
        (None, {"least_area": 0.9}, "too small"),
        (None, {"most_area": 0.1}, "too large"),
        (None, {"least_score": 0.999}, "unsure"),
    ],
)
def test_masks_of_no_use_are_set_aside_and_a_name_without_any_is_an_error(tmp_path, archive, level, settings, trouble):
    class Level(Bright):
        def raw_maps(self, images):
            own = super().raw_maps(images)
            return [np.full(m.shape, level, np.float32) if level is not None else 0.9 * m for m in own]

    with pytest.raises(DistillationError, match=f"'red' is usable .{trouble}"):
        make_masks(archive, Level, tmp_path / "masks", replace(PLAIN, **settings))
    table = MaskTable(tmp_path / "masks")
    assert len(table.rows("red", usable=False)) == 8
    assert {record.trouble for record in table} == {trouble}


def test_the_score_is_sureness_times_steadiness():
    soft = np.zeros((10, 10), np.float32)
    soft[2:4, 2:6], soft[4:6, 2:6] = 0.7, 0.9
    mask, score = mask_and_score(np.zeros((10, 10, 3), np.uint8), soft, "none")
    assert np.array_equal(mask, soft > 0.5)
    assert score == pytest.approx((8 * 0.9 + 8 * 0.7) / 16)
    # the solver, with an edge in the picture beside the mask's: it moves there, and the score tells
    image = np.full((48, 48, 3), 30, np.uint8)
    image[12:36, 12:36] = 220
    soft = np.zeros((48, 48), np.float32)
    assert mask_and_score(image, soft, "none")[1] == 0
    soft[12:36, 12:32] = 1.0
    refined, score = mask_and_score(image, soft, "solver")
    shared, either = (refined & (soft > 0.5)).sum(), (refined | (soft > 0.5)).sum()
    assert score == pytest.approx(shared / either)
    assert score < 1


def test_selfmask_with_the_solver_is_the_papers_archive_mask(tmp_path):
    torch.manual_seed(0)
    network = SelfMaskNetwork(SelfMaskShape(image_size=32, width=24, blocks=1, heads=2, layers=1, queries=2))
    saliency = SelfMask(network, SelfMaskSettings(archive_side=40), device="cpu", precision="fp32")
    images = [picture(n, size=(60, 90 - 20 * n)) for n in range(2)]
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    refs = [ImageRef(f"{number}.png") for number in range(2)]
    found = list(masks_of(refs, tmp_path, saliency, MaskSettings(side=40), pytest.fail))
    for image, (_, mask, _) in zip(images, found, strict=True):
        assert np.array_equal(mask, saliency.archive_mask(image))


def test_masks_survive_their_file_whatever_the_shards(tmp_path):
    dice = np.random.default_rng(0)
    masks = {(name, rank): dice.random((9, 5)) > 0.5 for name in ("b", "a") for rank in (1, 0)}
    records = [
        MaskRecord(name, rank, ImageRef(f"{name}/{rank}.png"), encode_mask(mask), 0.5, 0.25)
        for (name, rank), mask in masks.items()
    ]
    write_masks(tmp_path / "x" / "1.arrow", records[:3], root=tmp_path, names=["a", "b"])
    write_masks(tmp_path / "x" / "0.arrow", records[3:], root=tmp_path, names=["a", "b"])
    table = MaskTable(tmp_path / "x")
    assert [(r.name, r.rank) for r in table] == sorted(masks)
    assert all(np.array_equal(r.mask(), masks[r.name, r.rank]) for r in table)
    with pytest.raises(DistillationError, match="no masks of 'c'; its names are a, b"):
        table.rows("c")
    (tmp_path / "x" / "2.arrow").write_bytes(b"ARROW1 cut short")
    with pytest.raises(DistillationError, match="no file of masks"):
        MaskTable(tmp_path / "x")


def test_a_picture_in_a_tar_that_was_cut_short_since_is_an_error_of_its_own(tmp_path):
    write_tar(tmp_path / "0.tar", {"a.png": picture(0).tobytes()})
    ref = ImageRef("0.tar", "a.png", 512, 10_000)
    with pytest.raises(Exception, match=r"0.tar::a.png: is cut short"):
        ref.open(tmp_path)
