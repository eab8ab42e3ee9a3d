"""ReCo's archive may be that of a run of `wordmask distill`."""

import os
import shutil

import numpy as np
import pytest

from support.plain_windows import picture
from support.small_clip import small_clip
from support.tiny_collection import embedder, write_pictures
from support.tiny_run import NAMES, pipeline_with
from wordmask.collection.archive import Archive
from wordmask.collection.references import CollectionError
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.reco import ReCo, ReCoSettings, open_archive, patch_encoder
from wordmask.segmenters.reco_archive import FolderArchive
from wordmask.segmenters.reco_run import RunArchive

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run whose archives are made; its pictures are of four colours, and it was asked for three."""
    place = tmp_path_factory.mktemp("finished")
    os.environ["WORDMASK_CACHE"] = str(place / "cache")
    write_pictures(place / "pictures", 24, colours=("red", "green", "blue", "grey"))
    pipeline_with(place / "pictures", place / "run")._archive_stages()
    return place


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


def best(run, name, count, *phrases):
    return RunArchive(run, embedder()).best(name, phrases or (name,), count)


def test_a_run_s_names_have_the_best_pictures_of_its_archive(run, finished):
    for name in NAMES:
        entries = Archive(run / "archive" / "archive.parquet").entries(name)
        ranked = [finished / "pictures" / entry.image.path for entry in entries]
        assert best(run, name, 4) == ranked[:4]
        assert best(run, "something else", 100, "else", name.upper()) == ranked
        assert all(name in path.name for path in ranked[:4])


def test_other_names_are_searched_for_in_its_embeddings(run):
    assert ["grey" in path.name for path in best(run, "grey", 5)] == 5 * [True]
    shutil.rmtree(run / "embeddings")
    assert best(run, "red", 2)
    with pytest.raises(SegmenterError, match="has no archive of 'grey', and no embeddings .* ask for red, green, blue"):
        best(run, "grey", 5)


def test_pictures_that_are_gone_are_left_out_and_said(run, finished, tmp_path):
    first, second, *_ = best(run, "red", 3)
    first.rename(tmp_path / "away.png")
    try:
        with pytest.warns(UserWarning, match="left out: .*is not there any more"):
            assert best(run, "red", 2) == [second]
        none = pytest.raises(SegmenterError, match="no picture that .* has of 'red' can be read below .*1 tried")
        with pytest.warns(UserWarning, match="left out"), none:
            best(run, "red", 1)
    finally:
        (tmp_path / "away.png").rename(first)


def test_a_run_is_told_from_a_folder_of_pictures(run, finished):
    clip = small_clip()
    assert isinstance(open_archive(finished / "pictures", clip, embedder()), FolderArchive)
    assert isinstance(open_archive(run, clip, embedder()), RunArchive)
    (run / "archive" / "archive.parquet").write_bytes(b"damaged")
    with pytest.raises(CollectionError, match="is no archive"):
        open_archive(run, clip, embedder())


def test_names_are_segmented_as_the_run_s_pictures_show_them(run):
    clip = small_clip()
    sizes = {"shorter_side": None, "window": 32, "stride": 16, "pictures": 3, "archive_side": 24}
    settings = ReCoSettings(templates="photo", context=("grey",), **sizes)
    segmenter = ReCo(clip, patch_encoder("clip", "values", clip, "fp32"), RunArchive(run, embedder()), settings)
    result = segmenter.segment(picture(32, 40), ["background", *NAMES])
    assert result.labels.shape == (32, 40)
    assert np.isfinite(result.scores).all()
