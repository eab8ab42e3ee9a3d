"""Several formats of one run: the files of as many runs, and one look at each picture."""

import pytest
from typer.testing import CliRunner

from support.labelling_job import Stop, StopsAfter, files_in, label
from support.painted import Painted, painted_folder
from wordmask.cli import app
from wordmask.labelling import LabelError, LabelSettings

THREE = "coco,yolo,voc"


@pytest.fixture
def photos(tmp_path):
    painted_folder(tmp_path / "photos")
    return tmp_path / "photos"


def below(files, folder):
    return {name.removeprefix(f"{folder}/"): content for name, content in files.items() if name.startswith(folder)}


def test_each_format_has_the_files_of_a_run_of_its_own(photos, tmp_path):
    label(photos, tmp_path / "all", "yolo, coco,voc,label-studio,png")
    found = files_in(tmp_path / "all")
    for own in ("coco", "yolo", "voc", "png", "label-studio"):
        label(photos, tmp_path / own, own)
        alone = files_in(tmp_path / own)
        beside = {
            name for name in alone if name in ("masks.csv", "review.html", "left-out.txt") or name[:7] == "review/"
        }
        assert {name: found[name] for name in beside} == {name: alone[name] for name in beside}
        assert below(found, own) == {name: content for name, content in alone.items() if name not in beside}


def test_the_network_looks_once(photos, tmp_path):
    class Counting(Painted):
        looked = 0

        def look_many(self, images, sources):
            Counting.looked += len(images)
            return super().look_many(images, sources)

    label(photos, tmp_path / "out", THREE, segmenter=Counting())
    assert Counting.looked == 4


def test_a_run_that_was_stopped_goes_on_and_lost_files_of_one_format_are_made_anew(photos, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(Stop):
        label(photos, out, THREE, segmenter=StopsAfter(2), batch_size=1)
    label(photos, out, THREE, batch_size=1)
    whole = files_in(out)
    (out / "voc" / "SegmentationClass" / "ring.png").unlink()
    with pytest.warns(UserWarning, match="of 1 picture were gone, and have been made anew"):
        label(photos, out, "voc,yolo,coco", batch_size=1)
    assert files_in(out) == whole


def test_other_formats_into_the_same_folder_are_refused(photos, tmp_path):
    label(photos, tmp_path / "out", "coco")
    with pytest.raises(LabelError, match="coco,yolo"):
        label(photos, tmp_path / "out", "coco,yolo")


@pytest.mark.parametrize(("given", "told"), [("coco,xml", "'xml'"), ("", "''"), ("coco;yolo", "'coco;yolo'")])
def test_what_is_no_format_is_named(given, told):
    with pytest.raises(ValueError, match=told):
        LabelSettings(format=given)


def test_the_command_line_says_what_is_wrong_with_a_format(photos, tmp_path):
    end = CliRunner().invoke(app, ["label", str(photos), "--names", "a", "--format", "coco,xml"])
    assert end.exit_code == 2
    assert "no format is called 'xml'" in " ".join(end.output.split())
