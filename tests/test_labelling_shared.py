"""Labels that several make: shares of an array, processes of a crew, going on with what another began."""

import json

import pytest
from PIL import Image

from support.labelling_job import files_in, job, label
from support.painted import Painted
from support.shard_tasks import OneHere
from wordmask import segmenters
from wordmask.corrections import FILE_NAME, REJECTED, Correction, write_corrections
from wordmask.fingerprints import file_digest
from wordmask.labelling import LabelError
from wordmask.labelling.run import label_folder
from wordmask.labelling.share import label_share
from wordmask.runs.shards import ShardError, Share


@pytest.fixture
def pictures(folder):
    """Four pictures and a damaged one: five batches of one, three shards of two."""
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def share(pictures, out, which, of=2, format="coco", segmenter=None, **options):
    return label_share(
        job(pictures, out, format),
        Share(which, of),
        segmenter=segmenter or Painted(),
        batch_size=1,
        per_shard=2,
        on_bad=lambda error: None,
        **options,
    )


def merged(pictures, out, format="coco"):
    return label_folder(
        job(pictures, out, format), segmenter=Painted(), batch_size=1, on_bad=lambda error: None, merge=True
    )


def whole(pictures, out, format="coco"):
    label(pictures, out, format, batch_size=1, on_bad=lambda error: None)
    return files_in(out)


@pytest.mark.parametrize("format", ["coco", "yolo", "png", "coco,voc"])
def test_shares_make_the_very_same_labels_as_one_process(pictures, tmp_path, format):
    assert share(pictures, tmp_path / "out", 2, format=format) == 2
    assert share(pictures, tmp_path / "out", 1, format=format) == 0
    labels = merged(pictures, tmp_path / "out", format)
    assert files_in(tmp_path / "out") == whole(pictures, tmp_path / "one", format)
    assert (labels.pictures, labels.left_out, labels.new) == (4, 1, 5)
    assert not list((tmp_path / "out/.wordmask/parts").iterdir())
    again = Painted()
    label(pictures, tmp_path / "out", format, segmenter=again, batch_size=1, on_bad=lambda error: None)
    assert again.looked == [], "nothing is labelled twice"


def test_to_join_what_is_not_all_there_is_refused_by_name(pictures, tmp_path):
    share(pictures, tmp_path / "out", 1)
    with pytest.raises(LabelError, match="2 batches of pictures not labelled yet, the first with .*png"):
        merged(pictures, tmp_path / "out")
    share(pictures, tmp_path / "out", 2)
    merged(pictures, tmp_path / "out")
    assert files_in(tmp_path / "out") == whole(pictures, tmp_path / "one")


def test_one_process_goes_on_with_what_a_share_began(pictures, tmp_path):
    one = whole(pictures, tmp_path / "one")
    share(pictures, tmp_path / "out", 1)
    there = Painted()
    label(pictures, tmp_path / "out", segmenter=there, batch_size=1, on_bad=lambda error: None)
    assert len(there.looked) == 2
    assert files_in(tmp_path / "out") == one


def test_shares_go_on_with_what_one_process_began(pictures, tmp_path):
    whole(pictures, tmp_path / "out")
    for number, colour in enumerate([(255, 0, 0), (0, 0, 255), (255, 0, 0)]):
        Image.new("RGB", (8, 8), colour).save(pictures / f"z{number}.png")
    looked = []
    for which in (1, 2):
        there = Painted()
        left = share(pictures, tmp_path / "out", which, segmenter=there)
        looked += there.looked
    assert left == 0
    assert sorted(path.rsplit("/")[-1] for path in looked) == ["z0.png", "z1.png", "z2.png"]
    merged(pictures, tmp_path / "out")
    assert files_in(tmp_path / "out") == whole(pictures, tmp_path / "one")


def test_a_share_that_is_made_is_not_made_again_but_after_a_change(pictures, tmp_path):
    share(pictures, tmp_path / "out", 1)
    share(pictures, tmp_path / "out", 2)
    again = Painted()
    share(pictures, tmp_path / "out", 1, segmenter=again)
    assert again.looked == []
    Image.new("RGB", (9, 9), (255, 0, 0)).save(pictures / "nothing.png")
    share(pictures, tmp_path / "out", 1, segmenter=again)
    share(pictures, tmp_path / "out", 2, segmenter=again)
    assert {path.rsplit("/")[-1] for path in again.looked} >= {"nothing.png"}
    merged(pictures, tmp_path / "out")
    assert files_in(tmp_path / "out") == whole(pictures, tmp_path / "one")


def test_shares_do_not_label_again_what_a_person_rejected(pictures, tmp_path):
    out, again = tmp_path / "out", Painted()
    whole(pictures, out, "png")
    write_corrections(out / FILE_NAME, [Correction("ring.png", file_digest(pictures / "ring.png"), (30, 40), REJECTED)])
    quiet = {"on_bad": lambda error: None, "on_note": lambda note: None}
    label(pictures, out, "png", batch_size=1, **quiet)
    assert not (out / "masks" / "ring.png").exists()
    assert share(pictures, out, 1, of=1, format="png", segmenter=again) == 0
    assert again.looked == []


def test_a_share_with_other_settings_is_refused(pictures, tmp_path):
    share(pictures, tmp_path / "out", 1)
    with pytest.raises(LabelError, match="made with format 'coco', not 'yolo'"):
        share(pictures, tmp_path / "out", 2, format="yolo")


def test_a_damaged_part_is_named(pictures, tmp_path):
    share(pictures, tmp_path / "out", 1, of=1)
    part = min((tmp_path / "out/.wordmask/parts").iterdir())
    part.write_bytes(part.read_bytes()[:-30])
    with pytest.raises(LabelError, match="000000.jsonl is damaged: delete it and run again"):
        merged(pictures, tmp_path / "out")


def test_shares_are_of_one_precision(pictures, tmp_path):
    with pytest.raises(LabelError, match="say --precision fp32"):
        label_share(job(pictures, tmp_path / "out"), Share(1, 2))


LABEL = ("--names", "red, blue", "--method", "maskclip", "--precision", "fp32")


def test_the_verb_makes_shares_and_the_last_one_joins_them(pictures, tmp_path, command, monkeypatch):
    monkeypatch.setattr(segmenters, "load", lambda **options: Painted())
    out = tmp_path / "out"
    line = ("label", pictures, "--out", out, *LABEL, "--batch-size", 1, "--per-shard", 2)
    status, printed, err = command(*line, "--shards", "1/2", "--json")
    assert status == 0, err
    assert json.loads(printed) == {"out": str(out), "share": "1/2", "missing": 1}
    status, _, err = command(*line, "--merge")
    assert status == 1
    assert "not labelled yet" in err
    status, printed, err = command(*line, "--shards", "2/2", "--json")
    assert status == 0, err
    assert json.loads(printed)["pictures"] == 4
    assert command(*line, "--merge", "--json")[0] == 0
    assert (out / "annotations.json").exists()


@pytest.mark.slow
def test_a_crew_makes_the_very_same_labels_as_one_process(tmp_path, command):
    """With a real segmenter, which each process loads."""
    assert command("world", "make", "--out", tmp_path / "data", "--count", 6, "--size", 32, "--workers", 1)[0] == 0
    line = ("label", tmp_path / "data/images", "--names", "dog, cat", "--preset", "world", "--precision", "fp32")
    line += ("--batch-size", 2, "--per-shard", 2, "--out")
    assert command(*line, tmp_path / "one")[0] == 0
    status, _, err = command(*line, tmp_path / "out", "--workers", 2, "--time-limit", 300)
    assert status == 0, err
    assert files_in(tmp_path / "out") == files_in(tmp_path / "one")


def test_a_shard_that_a_crew_cannot_label_is_named_and_the_rest_is_kept(pictures, tmp_path, monkeypatch):
    """The processes are other ones, and of painted segmenters they know nothing: so the crew is of this process."""

    class Unwell(Painted):
        def look_many(self, images, sources):
            if any("ring" in str(source) for source in sources):
                raise RuntimeError("out of memory")
            return super().look_many(images, sources)

    def run(out, segmenter):
        monkeypatch.setattr(segmenters, "load", lambda **options: segmenter)
        load = {"method": "maskclip", "precision": "fp32"}
        told = job(pictures, out)
        told = type(told)(**{**vars(told), "load": load})
        return label_folder(told, crew=OneHere(), batch_size=1, per_shard=2, on_bad=lambda _: None, on_note=print)

    with pytest.raises(ShardError, match=r"1 shard could not be made: shard \d, from .*RuntimeError: out of memory"):
        run(tmp_path / "out", Unwell())
    well = Painted()
    assert run(tmp_path / "out", well).pictures == 4
    assert len(well.looked) == 1, "the others were done"
    assert files_in(tmp_path / "out") == whole(pictures, tmp_path / "one")
