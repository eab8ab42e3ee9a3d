"""The whole of a distillation, small: what is skipped, what is made anew, and that kills change nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

import wordmask
from support.nursery import run_with_kills
from support.tiny_collection import ColourClip, encoded, picture, write_pictures
from support.tiny_run import NAMES, Listener, contents, pipeline_with
from wordmask.cli import app
from wordmask.collection.archive import Archive
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.references import CollectionError
from wordmask.distillation.config import ConfigError, make_run, read_config
from wordmask.distillation.records import DistillationError, MaskTable
from wordmask.distillation.report import write_report

STAGES = ("embeddings", "archive", "masks", "experts", "refined", "student", "report")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is done, over pictures of which one in twenty is broken."""
    place = tmp_path_factory.mktemp("finished")
    paths = write_pictures(place / "pictures" / "ünï", 20)
    paths[5].write_bytes(b"broken")
    os.environ["WORDMASK_CACHE"] = str(place / "cache")
    student = pipeline_with(place / "pictures", place / "run").run_all()
    return place, student


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to be meddled with, over the same pictures."""
    place, _ = finished
    shutil.copytree(place / "run", tmp_path / "run")
    return place / "pictures", tmp_path / "run"


def heard(pictures, out, *layers):
    """What is said of a run that is gone on with."""
    listener = Listener()
    pipeline_with(pictures, out, *layers, console=listener).run_all()
    return listener


def all_done(listener, stages=STAGES):
    return [listener.of(stage) for stage in stages] == [f"{stage}: done before" for stage in stages]


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_run_ends_with_a_student_that_segments(finished):
    place, student = finished
    assert student.segment(picture(1), ["red", "background"]).labels.shape == (12, 16)
    assert student.vocabulary.names == ("background", *NAMES)
    kept = wordmask.load("namedmask", weights=place / "run" / "student" / "student.safetensors")
    assert kept.vocabulary == student.vocabulary


def test_every_arrow_is_a_file_that_can_be_looked_at(finished):
    run = finished[0] / "run"
    archive = Archive(run / "archive" / "archive.parquet")
    assert archive.names == tuple(NAMES)
    assert all(len(archive.entries(name)) == 6 for name in NAMES)
    assert len(MaskTable(run / "masks")) == len(MaskTable(run / "refined")) == 18
    assert len(contents(run)) == 1 + 1 + 3 + 3 + 1
    assert "005 blue.png" in (run / "embeddings" / "bad_images.jsonl").read_text()


@pytest.mark.parametrize(
    "free", [{}, {"embedding": {"batch": 7, "readers": 1}, "masks": {"batch": 3}, "student": {"log_every": 2}}]
)
def test_started_again_a_run_does_nothing_whatever_settings_change_nothing_about_the_outcome(run, free):
    assert all_done(heard(*run, free))


def test_a_changed_setting_makes_anew_what_follows_from_it_and_nothing_else(run):
    before = contents(run[1])
    listener = heard(*run, {"student": {"steps": 5}})
    after = contents(run[1])
    assert listener.of("student") == "student: made anew, as student.steps changed from 4 to 5"
    assert all_done(listener, STAGES[:5])
    assert {name for name in after if after[name] != before[name]} == {"student/student.safetensors"}
    assert listener.of("report") == "report: made anew, as the student changed"


def test_files_that_a_method_is_given_are_known_by_their_content(tmp_path):
    head, onnx = tmp_path / "head.pth", tmp_path / "teacher.onnx"
    told = {"saliency": "found", "settings": {"head": str(head)}}
    taught = {"teacher": "maskclip", "teacher_settings": {"onnx": str(onnx)}, "race": True}
    seen = set()
    for changed in (head, onnx):
        for content in (b"one", b"two"):
            head.write_bytes(b"")
            onnx.write_bytes(b"")
            changed.write_bytes(content)
            own = pipeline_with(tmp_path, tmp_path / "run", {"masks": told | taught})
            seen.add((own.saliency_identity, own.teacher_identity))
    assert len(seen) == 4


def test_a_detector_of_faces_is_known_by_its_content(tmp_path, monkeypatch):
    write_pictures(tmp_path / "pictures", 3)
    model, seen = tmp_path / "yunet.onnx", []
    for content in (b"one", b"two"):
        model.write_bytes(content)
        told = {"archive": {"filters": {"faces": str(model)}}}
        own = pipeline_with(tmp_path / "pictures", tmp_path / "run", told)
        monkeypatch.setattr(own.stages, "run_stage", lambda stage: seen.append((stage.name, stage.inputs)) or "")
        own._archive_stages()
    assert [name for name, _ in seen] == ["embeddings", "archive"] * 2
    assert seen[0] == seen[2]
    assert seen[1] != seen[3]


def test_a_picture_that_gets_into_no_archive_spares_all_that_follows(run):
    pictures, out = run
    more = shutil.copytree(pictures, out.parent / "more")
    small = {"archive": {"size": 5}}  # there are no more blue pictures
    pipeline_with(more, out, small).run_all()
    (more / "ünï" / "aa grey.png").write_bytes(encoded(picture(50, "grey")))
    listener = heard(more, out, small)
    assert "the pictures changed" in listener.of("embeddings")
    assert "the embeddings changed" in listener.of("archive")
    assert Archive(out / "archive" / "archive.parquet").pictures == 20
    assert all_done(listener, STAGES[2:6])
    assert "From 20 unlabelled pictures" in (out / "report" / "report.html").read_text()


def test_pictures_that_are_away_cost_a_run_nothing_unless_it_is_told_to_prune(run, tmp_path):
    pictures, out = run
    own = shutil.copytree(pictures, tmp_path / "own")
    pipeline_with(own, out).run_all()

    def files():
        return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    before, away = files(), [own / "ünï" / name for name in ("000 red.png", "003 red.png")]
    for path in away:
        path.rename(tmp_path / path.name)
    with pytest.raises(CollectionError, match=r"no longer in .*: 2 pictures, as ünï/000 red.png.*--prune"):
        pipeline_with(own, out).run_all()
    assert files() == before
    for path in away:
        (tmp_path / path.name).rename(path)
    assert all_done(heard(own, out))
    away[0].unlink()
    pipeline_with(own, out, prune=True).run_all()
    assert len(EmbeddingFolder(out / "embeddings")) == 18  # one is broken


def test_without_experts_the_student_learns_from_the_masks_as_they_are(run):
    listener = heard(*run, {"experts": None})
    assert "student: made anew, as the masks changed" in listener.of("student")
    assert not any(text.startswith("refined") for text in listener.said)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path, finished):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    with pytest.raises(ConfigError, match="chapter.txt is there already, and not by `wordmask distill`"):
        pipeline_with(finished[0] / "pictures", tmp_path / "thesis").run_all()
    with pytest.raises(ConfigError, match="holds the pictures themselves"):
        pipeline_with(finished[0] / "pictures", finished[0] / "pictures").run_all()


def test_two_processes_do_not_share_a_run(run):
    with FileLock(run[1] / ".wordmask" / "lock"), pytest.raises(DistillationError, match="written by another run"):
        pipeline_with(*run).run_all()


def test_the_report_needs_nothing_beside_it_and_shows_every_name(finished):
    html = (finished[0] / "run" / "report" / "report.html").read_text()
    assert 'src="http' not in html
    assert 'href="http' not in html
    for shown in ("<svg", "Pictures that it has not learnt from", *(f'id="name-{name}"' for name in NAMES)):
        assert shown in html
    assert html.count("<img") >= 3 * 4 * 6


def test_every_part_of_the_report_says_how_far_it_is(run, monkeypatch):
    def evaluate(student, benchmark, *, on_progress, **opening):
        on_progress(1, 4)
        return SimpleNamespace(miou=50.0, pixel_accuracy=60.0, per_class={})

    monkeypatch.setattr("wordmask.benchmarks.evaluate", evaluate)
    own = pipeline_with(*run, {"validation": {"benchmark": "world"}}).run
    steps = []
    write_report(run[1], own, seconds={}, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 300) for done in (33, 66, 100, 125, 233, 266, 300)]


def test_what_was_told_is_kept_as_a_file_that_says_the_same(finished):
    place, _ = finished
    again = make_run(read_config(place / "run" / "config.yaml"))
    assert again == pipeline_with(place / "pictures", place / "run").run


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"masks": {"saliency": "spectrall"}}, "no saliency method is called 'spectrall'"),
        ({"masks": {"settings": {"zom": 2}}}, "spectral has no setting 'zom'"),
        ({"masks": {"settings": {"device": "cpu"}}}, "spectral has no setting 'device'"),
        ({"masks": {"settings": {"precision": "auto"}}}, "precision=auto makes other masks"),
        ({"experts": {"network": {"backbone": "resnet5O"}}}, "no network of timm's is called 'resnet5O'"),
        ({"student": {"network": {"backbone_options": {"layrs": 2}}}}, "resnet10t cannot be built as a backbone"),
    ],
)
def test_mistakes_about_networks_are_told_before_anything_is_made(tmp_path, told, message):
    write_pictures(tmp_path / "pictures", 3)
    with pytest.raises(wordmask.WordmaskError, match=message):
        pipeline_with(tmp_path / "pictures", tmp_path / "run", told).run_all()
    assert not (tmp_path / "run").exists()


def test_the_command_line_asks_for_what_is_missing_and_explains_mistakes(tmp_path):
    assert cli("distill", "--out", tmp_path / "run").exit_code == 2
    write_pictures(tmp_path / "pictures", 1)
    (tmp_path / "names.txt").write_text("red\n")
    given = ("--names", tmp_path / "names.txt", "--images", tmp_path / "pictures", "--out", tmp_path / "run")
    result = cli("distill", *given, "--set", "archive.sise=3")
    assert isinstance(result.exception, ConfigError)
    assert "did you mean archive.size" in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_a_run_can_be_asked_for_phrases(finished, monkeypatch):
    monkeypatch.setattr("wordmask.encoders.clip_building.clip_at", lambda *_: ColourClip())
    place, _ = finished
    page = place / "page.html"
    shown = ("--collection", place / "run", "--top", 3, "--json", "--sheet", page)
    result = cli("search", "something blue", *shown)
    assert result.exit_code == 0, result.exception
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == page.read_text().count("<img") == 3
    assert all("blue" in line["image"] and Path(line["image"]).is_file() for line in found)
    similarities = [line["similarity"] for line in found]
    assert similarities == sorted(similarities, reverse=True)
    # and so can a pile that nobody has embedded, which is embedded once
    asked = ("--collection", place / "pictures", "--top", 2)
    by_phrase = cli("search", "green", *asked).stdout
    assert ["green" in line for line in by_phrase.splitlines()] == [True, True]
    (place / "sought.txt").write_text("green\n")
    for given in ("green", place / "sought.txt"):
        assert cli("search", "--names", given, *asked).stdout == by_phrase
    for unclear in (("green", "--names", "green"), ()):
        assert cli("search", *unclear, *asked).exit_code == 2


def test_a_run_takes_names_as_a_list_or_a_file(tmp_path, monkeypatch):
    asked = []

    def pipeline(run, *_, **__):
        asked.append(run.names)
        raise KeyboardInterrupt

    monkeypatch.setattr("wordmask.distillation.pipeline.Pipeline", pipeline)
    (tmp_path / "names.yaml").write_text("red: [scarlet]\nblue:\n")
    for given in ("red: [scarlet], blue", tmp_path / "names.yaml"):
        assert cli("distill", "--names", given, "--images", tmp_path, "--out", tmp_path / "run").exit_code == 130
    assert [names.phrases for names in asked] == 2 * [(("red", "scarlet"), ("blue",))]
    assert asked[0] == asked[1]


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_a_run_ends_the_same(tmp_path):
    pictures = write_pictures(tmp_path / "pictures", 40)[0].parent
    longer = ("student.steps=30", "experts.steps=10", "student.save_every=7")
    kills = run_with_kills(tmp_path, pictures, *longer, most=15, per=5)
    assert kills >= 5
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "run")) > 10


@pytest.mark.slow
def test_a_million_embeddings_by_a_hundred_names_are_searched_exactly_in_little_memory(tmp_path):
    """Memory is what the process has beside mapped files."""
    program = """
import sys
import numpy as np, psutil
from pathlib import Path
from support.tiny_collection import write_embeddings
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.search import Queries, search

dice = np.random.default_rng(0)
parts = [dice.standard_normal((100_000, 64), dtype=np.float32).astype(np.float16) for _ in range(10)]
parts[3][:1000] = parts[7][:1000]
write_embeddings(Path(sys.argv[1]), parts, {"image_path": [""] * 1_000_000})
queries = Queries.of(dice.standard_normal((100, 64)), np.arange(100))
rows = np.concatenate(parts).astype(np.float64)
del parts
cosines = (rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ queries.vectors.T
del rows
memory = psutil.Process()
own = lambda: memory.memory_info().rss - memory.memory_info().shared
before = own()
best = search(EmbeddingFolder(sys.argv[1]), queries, 500)
grown = own() - before
assert grown < 2**28, grown
for name in range(100):
    truth = np.lexsort((np.arange(1_000_000), -cosines[:, name].round(12)))[:500]
    ours = best.rows[name]
    assert np.abs(cosines[truth, name] - best.similarities[name]).max() < 1e-12
    differing = np.flatnonzero(truth != ours)
    assert all(abs(cosines[truth[i], name] - cosines[ours[i], name]) < 1e-12 for i in differing), name
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "emb")], env=environment, check=True)
    assert np.load(tmp_path / "emb" / "img_emb" / "img_emb_0.npy", mmap_mode="r").shape == (100_000, 64)
