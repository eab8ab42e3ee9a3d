"""A distillation that several make: the very same files as by one process, whoever begins and whoever goes on."""

import json
import os
import pickle
import signal
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from support.shard_tasks import OneHere
from support.tiny_collection import ColourClip, embedder, encoded, picture, write_embeddings, write_pictures
from support.tiny_pipeline import Tiny
from support.tiny_run import NAMES, SETTINGS, THINGS_AND_STUFF, Bright, Listener, contents, pipeline_with
from wordmask.collection.archive import Archive
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.distillation import experts, pipeline, pseudo_masks
from wordmask.distillation.archive import ArchiveSettings, build_archive
from wordmask.distillation.config import ConfigError, make_run
from wordmask.distillation.filters import FilterSettings
from wordmask.distillation.pseudo_masks import MaskSettings, make_masks
from wordmask.distillation.records import DistillationError
from wordmask.names.vocabulary import Vocabulary
from wordmask.runs.claim import STATE, locked
from wordmask.runs.crew import CrewError, Processes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """So many that there are several shards of each stage."""
    monkeypatch.setattr(pseudo_masks, "PICTURES_PER_SHARD", 5)
    write_pictures(tmp_path / "pictures", 20)
    (tmp_path / "pictures" / "005 blue.png").write_bytes(b"broken")
    return tmp_path / "pictures"


def two():
    return Processes(2, threads=1)


@pytest.mark.parametrize("settings", [{}, THINGS_AND_STUFF], ids=["things", "things and stuff"])
def test_a_crew_makes_the_very_same_run_as_one_process(pictures, tmp_path, settings):
    """What it is told and what it loads is sent to it as to another process."""
    pipeline_with(pictures, tmp_path / "one", settings).run_all()
    pipeline_with(pictures, tmp_path / "two", settings, crew=OneHere()).run_all()
    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "two")
    assert {name.partition("/")[0] for name in one} >= {"archive", "masks", "experts", "refined", "student"}
    listener = Listener()
    pipeline_with(pictures, tmp_path / "two", settings, console=listener).run_all()
    assert listener.of("student") == "student: done before"


class Trains(OneHere):
    """Trains the student as a cluster does, and waits until its log has been read."""

    def train(self, learn, out):
        pickle.loads(pickle.dumps(learn))()
        wait_until(lambda: STEPS)


STEPS = []


class Steps(Listener):
    @contextmanager
    def progress(self, description):
        yield lambda done, total: STEPS.append((done, total)) if description == "student" else None


def test_a_student_trained_elsewhere_is_the_same_and_its_steps_are_told(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("wordmask.training.logs.LOOKS_EVERY", 0.01)
    STEPS.clear()
    plain = {"experts": None}
    pipeline_with(pictures, tmp_path / "one", plain).run_all()
    pipeline_with(pictures, tmp_path / "two", plain, console=Steps(), crew=Trains()).run_all()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert STEPS[-1] == (4, 4)


def test_learners_wait_for_those_of_a_command_that_was_killed(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "OUTLIVES", 0.1)
    monkeypatch.setattr("wordmask.training.logs.LOOKS_EVERY", 0.01)
    lock = tmp_path / "run" / STATE / pipeline.LEARNERS
    lock.parent.mkdir(parents=True)

    def run():
        return pipeline_with(pictures, tmp_path / "run", {"experts": None}, console=Steps(), crew=Trains()).run_all()

    with locked(lock, AssertionError()), pytest.raises(DistillationError, match="are still at work"):
        run()
    assert not (tmp_path / "run" / "student").exists()
    run()


def wait_until(there):
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_learners_are_of_a_cluster(tmp_path, command):
    line = ("distill", "--names", "dog", "--images", tmp_path, "--out", tmp_path / "run", "--learners", 2)
    status, _, err = command(*line)
    assert status == 2
    assert "give --cluster" in " ".join(err.replace("│", " ").split())


class StopsAt(Listener):
    """Ends a run, as a kill would, when a stage begins."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def say(self, text):
        super().say(text)
        if text.startswith(f"{self.stage}: "):
            raise KeyboardInterrupt


@pytest.mark.parametrize("first", ["two processes", pytest.param("one", marks=pytest.mark.slow)])
def test_a_run_begun_on_one_runner_goes_on_with_another(pictures, tmp_path, first):
    pipeline_with(pictures, tmp_path / "whole").run_all()
    begins, goes_on = (None, two()) if first == "one" else (two(), None)
    with pytest.raises(KeyboardInterrupt):
        pipeline_with(pictures, tmp_path / "run", console=StopsAt("refined"), crew=begins).run_all()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "experts").rglob("*.safetensors")}
    assert len(before) == len(NAMES)
    (tmp_path / "run" / "experts" / "001" / experts.EXPERT_FILE).unlink()
    pipeline_with(pictures, tmp_path / "run", crew=goes_on).run_all()
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    again = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert [path.parent.name for path in again] == ["001"]


class DiesOnce(Bright):
    """Ends its process at the first picture that anybody looks at."""

    def __init__(self, place: Path):
        self.flag = place

    def raw_maps(self, images):
        if not self.flag.exists():
            self.flag.mkdir()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().raw_maps(images)


class LoadDying:
    def __init__(self, place: Path):
        self.place = place

    def __call__(self):
        return DiesOnce(self.place)


def test_a_worker_that_is_killed_costs_a_shard(pictures, tmp_path):
    archive = an_archive(pictures, tmp_path)
    settings, said = MaskSettings(side=16, refine="none"), []
    make_masks(archive, Bright, tmp_path / "one", settings)
    load = LoadDying(tmp_path / "killed")
    make_masks(archive, load, tmp_path / "two", settings, crew=Processes(1, threads=1), say=said.append)
    assert [line for line in said if "is lost, and what it did is given to another" in line]
    for path in (tmp_path / "one").glob("masks_*"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def an_archive(pictures, place):
    vectors = np.random.default_rng(2).random((19, 3)).astype(np.float16)
    names = sorted(path.name for path in pictures.glob("*.png") if path.name != "005 blue.png")
    write_embeddings(place / "embeddings", [vectors[:7], vectors[7:]], {"image_path": names})
    folder = EmbeddingFolder(place / "embeddings", root=pictures)
    return build_archive(folder, Vocabulary.of(NAMES), embedder(), place / "archive.parquet", ArchiveSettings(size=6))


class OtherWeights(Tiny):
    """Another saliency, whoever asks."""

    asked = count()

    @property
    def saliency_identity(self):
        return str(next(self.asked))


def test_a_worker_with_other_weights_is_refused(pictures, tmp_path):
    run = make_run(SETTINGS, {"names": NAMES, "images": pictures, "out": tmp_path / "run"})
    with pytest.raises(CrewError, match="has another saliency than where the run was begun"):
        OtherWeights(run, crew=OneHere()).run_all()


def test_a_launcher_and_a_crew_do_not_go_together(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="leave out the crew"):
        pipeline_with(pictures, tmp_path / "run", crew=two())


def test_what_a_crew_found_of_an_archive_is_gone_on_with_and_then_forgotten(pictures, tmp_path, monkeypatch):
    expected = an_archive(pictures, tmp_path)
    folder = EmbeddingFolder(tmp_path / "embeddings", root=pictures)

    def build(**how):
        place = tmp_path / "shared" / "archive.parquet"
        return build_archive(folder, Vocabulary.of(NAMES), embedder(), place, ArchiveSettings(size=6), **how)

    with monkeypatch.context() as patch:
        patch.setattr("wordmask.distillation.archive.write_archive", lambda *_, **__: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            build(crew=OneHere())
    parts = sorted((tmp_path / "shared" / "parts").rglob("*.npz"))
    assert [path.stem for path in parts] == ["best_00000", "best_00001", "look_00000", "look_00001"]
    times = [path.stat().st_mtime_ns for path in parts]
    with monkeypatch.context() as patch:
        patch.setattr("wordmask.distillation.archive.forget_parts", lambda parts: None)
        build()
    assert [path.stat().st_mtime_ns for path in parts] == times
    assert Archive(tmp_path / "shared" / "archive.parquet").entries("red") == expected.entries("red")
    build()
    assert not (tmp_path / "shared" / "parts").exists()


# The search by shards with filters.


@pytest.fixture
def collection(tmp_path, monkeypatch):
    """Embeddings in three shards: some are alike within one, some across; pictures are gone, small, or have faces."""
    monkeypatch.setattr("wordmask.encoders.clip_building.clip_at", lambda *_: ColourClip())
    monkeypatch.setattr(
        "wordmask.distillation.filters.face_detector", lambda detector: lambda image: int(image[0, 0, 0] % 3 == 0)
    )
    dice = np.random.default_rng(9)
    paths = write_pictures(tmp_path / "pictures", 30)
    for number in (2, 8, 20):
        paths[number].write_bytes(encoded(picture(number, "green", (6, 6))))
    paths[4].unlink()
    vectors = dice.integers(1, 6, (60, 3)).astype(np.float16)
    names = [paths[number].name for number in dice.integers(0, 30, 60)]
    unsafe = dice.random(60).tolist()
    columns = {"image_path": names, "punsafe": unsafe}
    write_embeddings(tmp_path / "embeddings", [vectors[:25], vectors[25:28], vectors[28:]], columns)
    return tmp_path / "embeddings"


FILTERS = [
    ("duplicates=0.97",),
    ("faces=opencv", "duplicates=0.99", "smallest_side=10"),
    ("unsafe=true", "unsafe_names=[grey]", "least_similarity=0.6"),
]


@pytest.mark.parametrize("filters", FILTERS, ids=",".join)
def test_shares_leave_out_what_one_pass_leaves_out(collection, tmp_path, command, filters):
    line = ["search", "green", "blue", "--collection", collection, "--image-root", tmp_path / "pictures", "--top", 7]
    line += [part for filter in filters for part in ("--filter", filter)]
    status, whole, told = command(*line, "--json")
    assert status == 0, told
    shares, rounds = (*line, "--parts", tmp_path / "parts", "--json"), 0
    while True:
        rounds += 1
        assert command(*shares, "--merge")[0] == 1, "parts are missing"
        outs = [command(*shares, "--shards", f"{which}/2")[1] for which in (2, 1)]
        if not outs[1].startswith('{"out"'):
            break
        assert json.loads(outs[0])["missing"] > 0
    assert rounds >= 2, "a search, and then a look"
    assert outs[1] == whole
    status, merged, again = command(*shares, "--merge")
    assert (status, merged) == (0, whole)
    said = [line for line in told.splitlines() if "left out" in line]
    assert said
    assert said == [line for line in again.splitlines() if "left out" in line]
    if filters == FILTERS[0]:  # other processes know nothing of the faces here
        by_process = ("--parts", tmp_path / "other", "--workers", 1, "--time-limit", 300)
        assert command(*line, "--json", *by_process)[1] == whole


def test_without_filters_search_finds_more(collection, tmp_path, command):
    line = ("search", "green", "--collection", collection, "--image-root", tmp_path / "pictures", "--top", 7, "--json")
    assert command(*line)[1] != command(*line, "--filter", "duplicates=0.9")[1]
    status, _, err = command(*line, "--filter", "duplicate=0.9")
    assert status == 1
    assert "archive.filters" in err
    assert "duplicates" in err


def test_filters_of_pictures_are_the_same_by_shards(collection, tmp_path):
    folder = EmbeddingFolder(collection, root=tmp_path / "pictures")
    chosen = ArchiveSettings(size=9, filters=FilterSettings(duplicates=0.98, faces="opencv", unsafe=True))
    one = build_archive(folder, Vocabulary.of(NAMES), embedder(), tmp_path / "one.parquet", chosen)
    build_archive(folder, Vocabulary.of(NAMES), embedder(), tmp_path / "two.parquet", chosen, crew=OneHere())
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert sum(count.dropped["near-duplicate"] for count in one.counts.values())
    assert sum(count.dropped["face"] for count in one.counts.values())
