"""Distillation with what a person corrected: truths replace pseudo-masks, count more, and are owned up to."""

import numpy as np
import pytest
from typer.testing import CliRunner

from support.tiny_collection import write_pictures
from support.tiny_run import NAMES, Listener, pipeline_with
from wordmask.cli import app
from wordmask.collection.archive import Archive
from wordmask.collection.references import ImageRef
from wordmask.corrections import ACCEPTED, REJECTED, Correction, Corrections, MaskVerdict, write_corrections
from wordmask.distillation.batches import Examples
from wordmask.distillation.corrected_targets import corrected, put_truths_in_targets
from wordmask.distillation.corrections import NOT_THERE, Used
from wordmask.distillation.records import MaskTable
from wordmask.distillation.targets import Target, TargetTable, write_targets
from wordmask.fingerprints import file_digest
from wordmask.masks.run_lengths import encoded_mask
from wordmask.weights.loading import read_metadata

SIZE = (12, 16)

pytestmark = pytest.mark.usefixtures("one_thread")


def corner(rows=5, columns=6):
    mask = np.zeros(SIZE, bool)
    mask[:rows, :columns] = True
    return mask


def verdict_on(path, *masks, verdict=ACCEPTED, picture=None):
    told = tuple(MaskVerdict(name, encoded_mask(mask)["counts"], ACCEPTED) for name, mask in masks)
    return Correction(picture or path.name, file_digest(path), SIZE, verdict, told)


@pytest.fixture
def pile(tmp_path, monkeypatch):
    monkeypatch.setenv("WORDMASK_CACHE", str(tmp_path / "cache"))
    return write_pictures(tmp_path / "pictures", 20)


def distilled(tmp_path, corrections, **more):
    file = tmp_path / "corrections.json"
    write_corrections(file, corrections)
    told = {"corrections": {"file": str(file), **more}}
    listener = Listener()
    pipeline = pipeline_with(tmp_path / "pictures", tmp_path / "run", told, console=listener)
    pipeline.run_all()
    return pipeline, listener


def records_of(table, name):
    return [table[row] for row in table.rows(name, usable=False).tolist()]


def test_truths_replace_pseudo_masks_and_count_more(tmp_path, pile):
    """Pictures 0 and 3 are red; 1 is green, and a person saw red in its corner; 2 is blue, and rejected."""
    accepted = [verdict_on(pile[0], ("red", corner())), verdict_on(pile[1], ("red", corner(3, 3)))]
    rejected = verdict_on(pile[2], verdict=REJECTED)
    pipeline, listener = distilled(tmp_path, [*accepted, rejected], weight=3)
    run = tmp_path / "run"

    archive = Archive(run / "archive" / "archive.parquet")
    paths = {name: [entry.image.path for entry in archive.entries(name)] for name in NAMES}
    assert pile[2].name not in paths["blue"]
    assert archive.counts["blue"].dropped["rejected by a person"] == 1
    assert pile[0].name in paths["red"]
    assert pile[1].name not in paths["red"]

    for folder in ("corrected", "corrected-refined"):  # what experts learn from, and what the student does
        table = MaskTable(run / folder)
        red = records_of(table, "red")
        for path, mask in ((pile[0], corner()), (pile[1], corner(3, 3))):
            own = [record for record in red if record.image.path == path.name]
            assert len(own) == 3
            assert all(record.usable and (record.mask() == mask).all() for record in own)
        others = [record for record in red if record.image.path not in (pile[0].name, pile[1].name)]
        assert len(others) == len(paths["red"]) - 1
        gone = [record for record in records_of(table, "green") if record.image.path == pile[1].name]
        assert [(record.usable, record.trouble) for record in gone] in ([], [(False, NOT_THERE)])

    assert Used.read(run / "corrected").truths >= 2
    note = "not annotation-free any more: 2 pictures corrected (weight 3), 1 rejected"
    assert note in listener.said
    assert pipeline.note == note
    assert read_metadata(run / "student" / "student.safetensors")["note"] == note
    report = (run / "report" / "report.html").read_text()
    assert report.count(f"N{note[1:]}") == report.count("<table") == 2
    assert "and no labels" not in report


def test_a_picture_is_learnt_from_as_often_as_its_weight_says(tmp_path, pile):
    distilled(tmp_path, [verdict_on(pile[0], ("red", corner()))], weight=5)
    table = MaskTable(tmp_path / "run" / "corrected-refined")
    examples = Examples(table, {"red": 1})
    paths = [table[row].image.path for row in examples.rows.tolist()]
    assert paths.count(pile[0].name) == 5
    assert all(paths.count(path) == 1 for path in set(paths) - {pile[0].name})


def test_without_corrections_a_run_is_as_it_was_and_with_others_only_what_follows_is_made_anew(tmp_path, pile):
    plain = Listener()
    pipeline = pipeline_with(tmp_path / "pictures", tmp_path / "run", console=plain)
    pipeline.run_all()
    assert pipeline.note is None
    assert not (tmp_path / "run" / "corrected").exists()
    assert "and no labels" in (tmp_path / "run" / "report" / "report.html").read_text()
    assert "note" not in read_metadata(tmp_path / "run" / "student" / "student.safetensors")

    _, first = distilled(tmp_path, [verdict_on(pile[0], ("red", corner()))])
    assert first.of("masks") == "masks: done before"
    assert "made anew" in first.of("student")
    _, second = distilled(tmp_path, [verdict_on(pile[0], ("red", corner()))])
    stages = ("archive", "masks", "corrected", "experts", "refined", "corrected-refined", "student", "report")
    assert [second.of(stage) for stage in stages] == [f"{stage}: done before" for stage in stages]


def test_what_teaches_nothing_is_said(tmp_path, pile):
    elsewhere = Correction("away.png", "0" * 64, SIZE, ACCEPTED, ())
    _, told = distilled(tmp_path, [elsewhere, verdict_on(pile[0], ("red", corner()), ("lynx", corner(2, 2)))])
    assert any("1 of pictures that are not in the collection" in text for text in told.said)
    assert any("masks of lynx teach nothing" in text for text in told.said)


def test_single_masks_settle_their_name_only_when_all_of_it_are_judged():
    first, second = corner(3, 3), corner(3, 3)[::-1]
    codes = [encoded_mask(mask)["counts"] for mask in (first, second)]

    def judged(*verdicts, verdict=None):
        masks = tuple(MaskVerdict(name, code, own, was) for code, (name, own, was) in zip(codes, verdicts, strict=True))
        return Correction("a.png", "0" * 64, SIZE, verdict, masks)

    half = judged(("red", ACCEPTED, None), ("red", None, None))
    assert half.truth_of("red") is None
    assert half.truth_of("blue") is None
    both = judged(("red", ACCEPTED, None), ("red", REJECTED, None))
    np.testing.assert_array_equal(both.truth_of("red"), first)
    renamed = judged(("blue", ACCEPTED, "red"), ("red", ACCEPTED, None))
    np.testing.assert_array_equal(renamed.truth_of("blue"), first)
    np.testing.assert_array_equal(renamed.truth_of("red"), second)
    whole = judged(("red", None, None), ("red", REJECTED, None), verdict=ACCEPTED)
    np.testing.assert_array_equal(whole.truth_of("red"), first)
    assert not whole.truth_of("blue").any()


def test_what_a_teacher_said_gives_way_to_a_person():
    said = np.zeros(SIZE, np.uint8)
    said[:6], said[6:] = 1, 2  # red above, green below
    target = Target(ImageRef("a.png"), said, np.full((1, 1), 100, np.uint8), digest="0" * 64)
    code = encoded_mask(corner())["counts"]

    whole = Correction("a.png", "0" * 64, SIZE, ACCEPTED, (MaskVerdict("red", code),))
    made, settled = corrected(target, whole, ("red", "green"))
    np.testing.assert_array_equal(made.labels, corner())
    assert settled == 2
    assert not made.ignored(1.0, 0.0).any()

    part = Correction("a.png", "0" * 64, SIZE, None, (MaskVerdict("red", code, ACCEPTED),))
    made, settled = corrected(target, part, ("red", "green"))
    assert settled == 1
    np.testing.assert_array_equal(made.labels, np.where(corner(), 1, np.where(said == 2, 2, 0)))
    np.testing.assert_array_equal(made.ignored(0.0, 0.0), (said == 1) & ~corner())  # nobody knows what that is
    np.testing.assert_array_equal(made.sure()[corner()], 1)
    assert (made.sure()[said == 2] < 0.4).all()


def test_what_a_teacher_was_sure_of_stays_so_beside_a_person_s_mask():
    size = (12, 12)  # of which one pixel is a float above 1, as floats are interpolated
    target = Target(ImageRef("a.png"), np.ones(size, np.uint8), np.full((1, 1), 255, np.uint8), digest="0" * 64)
    mask = np.zeros(size, bool)
    mask[0, 0] = True
    judged = MaskVerdict("green", encoded_mask(mask)["counts"], ACCEPTED)
    made, _ = corrected(target, Correction("a.png", "0" * 64, size, None, (judged,)), ("red", "green"))
    np.testing.assert_array_equal(made.sure(), 1)


def test_targets_without_rejected_pictures_and_with_corrected_ones_by_their_weight(tmp_path):
    digests = [letter * 64 for letter in "abc"]
    targets = [
        Target(ImageRef(f"{digest[0]}.png"), np.ones(SIZE, np.uint8), np.full((1, 1), 200, np.uint8), digest=digest)
        for digest in digests
    ]
    write_targets(tmp_path / "taught" / "t_00000.arrow", targets, first=0, root=tmp_path, names=["red"])
    code = encoded_mask(corner())["counts"]
    corrections = Corrections(
        (
            Correction("a.png", digests[0], SIZE, REJECTED),
            Correction("b.png", digests[1], SIZE, ACCEPTED, (MaskVerdict("red", code), MaskVerdict("lynx", code))),
        )
    )
    used = put_truths_in_targets(TargetTable(tmp_path / "taught"), corrections, tmp_path / "out", 3)
    assert used == Used(pictures=1, truths=1, rejected=1, unknown=0, weight=3, others=("lynx",))
    table = TargetTable(tmp_path / "out")
    assert [target.image.path for target in (table[number] for number in range(len(table)))] == ["b.png"] * 3 + [
        "c.png"
    ]
    np.testing.assert_array_equal(table[1].labels, corner())


def test_a_file_that_is_not_there_stops_a_run_before_it_works(tmp_path, pile):
    line = ["distill", "--names", "red", "--images", tmp_path / "pictures", "--out", tmp_path / "run"]
    done = CliRunner().invoke(app, [*map(str, line), "--corrections", str(tmp_path / "none.json"), "--json"])
    assert done.exit_code == 1
    assert "none.json" in str(done.exception)
    assert not (tmp_path / "run" / "embeddings").exists()
