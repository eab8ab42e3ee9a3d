"""`wordmask evaluate`: benchmarks of files and the world, checks, folders, saliency."""

import json

import numpy as np
import pytest
from PIL import Image

from support.data_sets import own_folder, voc_folder
from wordmask import segmenters


def test_data_can_be_checked_before_anything_is_loaded(wordmask, tmp_path):
    check = ("evaluate", "--benchmark", "voc", "--root", tmp_path, "--check")
    status, _, err = wordmask(*check)
    assert (status, "has no ImageSets/Segmentation/val.txt" in err, "--root" in err) == (1, True, True)
    voc_folder(tmp_path)
    assert wordmask(*check)[:2] == (0, "voc, val: 2 pictures, 21 names\n")
    (tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000042.png").unlink()
    status, _, err = wordmask(*check)
    assert (status, "2007_000042.png" in err) == (1, True)


def test_a_folder_of_ones_own_is_evaluated_and_kept(wordmask, tmp_path):
    own_folder(tmp_path / "mine")
    arguments = ["evaluate", "--method", "maskclip", "--benchmark", "folder", "--root", tmp_path / "mine"]
    arguments += ["--out", tmp_path / "run", "--json"]
    status, out, err = wordmask(*arguments)
    assert status == 0
    told = json.loads(out)
    keys = {"method", "preset", "benchmark", "split", "images", "miou", "pixel_accuracy", "per_class", "seconds"}
    assert keys <= set(told)
    assert (told["images"], set(told["per_class"])) == (1, {"dog", "cat"})
    assert "written" in err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["miou"] == told["miou"]
    assert json.loads(wordmask(*arguments)[1]) == told, "it was done already"


def test_a_mask_of_another_size_is_an_error_in_one_line(wordmask, tmp_path):
    own_folder(tmp_path)
    Image.fromarray(np.zeros((5, 5), dtype=np.uint8)).save(tmp_path / "masks" / "a" / "x.png")
    status, _, err = wordmask("evaluate", "--method", "maskclip", "--benchmark", "folder", "--root", tmp_path)
    assert (status, "the mask has 5 x 5 pixels and its picture 8 x 6" in err, "Traceback" in err) == (1, True, False)


def test_somebody_s_folder_is_refused_before_networks_are_loaded(wordmask, tmp_path, monkeypatch):
    (tmp_path / "letter.txt").write_text("dear")
    monkeypatch.setattr(segmenters, "load", lambda **asked: pytest.fail("networks were loaded"))
    status, _, err = wordmask("evaluate", "--out", tmp_path)
    assert (status, "letter.txt is there already, and not by `wordmask evaluate`" in err) == (1, True)


def test_several_devices_need_a_folder(wordmask):
    status, _, err = wordmask("evaluate", "--device", "cpu,cpu")
    assert (status, "--out" in err) == (2, True)
