"""ONNX files against PyTorch, and segmenters that run them."""

import json
import shutil

import numpy as np
import pytest
import torch

import wordmask
from support.small_clip import WIDTH, small_clip
from support.small_segmenters import small_student
from wordmask import segmenters
from wordmask.compute import PLAIN
from wordmask.errors import WordmaskError
from wordmask.export import ExportError, compare, export, load_onnx, quantise, write_words, writing
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.clip_dinoiser import ClipDinoiser, ClipDinoiserSettings, DinoiserHeads
from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings
from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings
from wordmask.segmenters.onnx_file import open_session
from wordmask.segmenters.student_file import Student

NAMES = ["dog", "grass", "background"]
SMALL = {"templates": "photo", "shorter_side": 32, "window": 32, "stride": 16}


@pytest.fixture(scope="module")
def maskclip():
    return MaskClip(small_clip(), MaskClipSettings(**SMALL))


@pytest.fixture(scope="module")
def dinoiser():
    torch.manual_seed(1)
    return ClipDinoiser(small_clip(), DinoiserHeads(WIDTH, 16), ClipDinoiserSettings(**SMALL, confidence=0.6))


@pytest.fixture(scope="module")
def student():
    return small_student(["background", "dog", "grass"])


@pytest.fixture(scope="module")
def files(maskclip, dinoiser, student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    made = {}
    for segmenter in (maskclip, dinoiser, student):
        made[segmenter.method] = folder / f"{segmenter.method}.onnx"
        agreement = export(segmenter, made[segmenter.method])
        assert agreement.difference <= 1e-3
        assert agreement.same >= 0.999
    return made


def pictures():
    dice = np.random.default_rng(0)
    return [dice.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 60), (33, 47), (64, 32), (40, 60))]


@pytest.mark.parametrize("method", ["maskclip", "clip-dinoiser", "namedmask"])
def test_a_segmenter_that_runs_the_file_answers_as_the_original_does(files, method, request):
    original = request.getfixturevalue({"clip-dinoiser": "dinoiser", "namedmask": "student"}.get(method, method))
    onnx = load_onnx(files[method], original)
    wanted = original.segment_many(pictures(), NAMES, batch_size=3, fill=True)
    for got, result in zip(onnx.segment_many(pictures(), NAMES, batch_size=3, fill=True), wanted, strict=True):
        assert got.names == result.names
        assert (got.labels == result.labels).mean() > 0.999
        assert (np.abs(got.scores - result.scores) < 1e-3).mean() > 0.999


def test_a_students_file_is_all_that_is_needed(files, student):
    onnx = load_onnx(files["namedmask"])
    assert onnx.vocabulary == student.vocabulary
    assert (onnx.segment(pictures()[0], ["dog"], fill=True).labels == 0).all()


def test_a_student_that_looks_closer_has_a_file_too(tmp_path):
    closer = wordmask.load("namedmask", preset="world", device="cpu", precision="fp32")
    assert closer.networks["network"].settings.zoom == 2
    export(closer, tmp_path / "closer.onnx")
    assert compare(closer, tmp_path / "closer.onnx", seed=1).difference < 1e-4


def test_what_is_to_be_known_of_a_student_is_in_its_file(tmp_path):
    student = small_student({"background": None, "dog": None}, {"note": "not annotation-free any more: 2 pictures"})
    export(student, tmp_path / "student.onnx")
    assert load_onnx(tmp_path / "student.onnx").note == student.note


def test_words_are_an_input_of_any_number(files, maskclip, tmp_path):
    """What a program without wordmask does: words from the file beside it, logits from the runtime, the best name."""
    write_words(maskclip, ["dog", "grass", "sky", "cat"], tmp_path / "words.npz")
    with np.load(tmp_path / "words.npz", allow_pickle=False) as words:
        names, vectors = words["names"].tolist(), words["vectors"]
        assert words["owner"].tolist() == [0, 1, 2, 3]
    pixels = np.random.default_rng(1).random((2, 3, 24, 32), np.float32)
    logits, features = open_session(files["maskclip"]).run(["logits", "features"], {"pixels": pixels, "words": vectors})
    assert logits.shape[:2] == (2, 4)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.allclose(logits, 100 * np.einsum("pd,bdhw->bphw", vectors, unit), atol=1e-3)
    text = maskclip.embed(Vocabulary.of(names))
    wanted = maskclip.score(maskclip.read(torch.from_numpy(pixels)), text)
    assert np.abs(torch.from_numpy(logits).softmax(1) - wanted).max() < 1e-3


def test_int8_is_smaller_and_still_the_same_network(files, maskclip, tmp_path):
    quantise(files["maskclip"], tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").stat().st_size < files["maskclip"].stat().st_size
    agreement = compare(maskclip, tmp_path / "small.onnx")
    assert 0 < agreement.difference < 50
    assert agreement.same > 0.8


@pytest.fixture
def traced(files, monkeypatch):
    """Tracing takes seconds; here it gives what it gave before."""
    monkeypatch.setattr(writing, "_trace", lambda graph, example, path: shutil.copy(files["maskclip"], path))


@pytest.mark.usefixtures("traced")
def test_a_file_that_differs_is_not_left_there(maskclip, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "MOST_DIFFERENCE", -1.0)
    with pytest.raises(ExportError, match="would differ from PyTorch"):
        export(maskclip, tmp_path / "bad.onnx")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_explained(files, maskclip, dinoiser, student, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"hello")
    with pytest.raises(ExportError, match="cannot be read as ONNX"):
        load_onnx(tmp_path / "bad.onnx")
    with pytest.raises(ExportError, match="there is no ONNX file"):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(ExportError, match="holds a maskclip: give the same method"):
        load_onnx(files["maskclip"], dinoiser)
    with pytest.raises(ExportError, match="key smoothing"):
        export(MaskClip(small_clip(), MaskClipSettings(**SMALL, key_smoothing=True)), tmp_path / "x.onnx")
    with pytest.raises(ExportError, match="knows its own names"):
        write_words(student, ["dog"], tmp_path / "x.npz")


@pytest.mark.usefixtures("traced")
def test_the_verb_says_how_well_the_file_agrees(maskclip, tmp_path, monkeypatch, command):
    monkeypatch.setattr(segmenters, "load", lambda **options: maskclip)
    status, said, _ = command("export", "-o", tmp_path / "m.onnx", "--names", "dog,cat", "--int8", "--json")
    assert status == 0
    told = json.loads(said)
    assert [row["file"].rpartition("/")[2] for row in told["files"]] == ["m.onnx", "m.int8.onnx", "m.names.npz"]
    assert told["files"][0]["same"] >= 0.999
    assert all((tmp_path / row["file"]).stat().st_size == row["bytes"] for row in told["files"])


def test_load_takes_the_file_in_place_of_the_network(files, student, maskclip, monkeypatch):
    assert segmenters.load("namedmask", onnx=files["namedmask"]).vocabulary == student.vocabulary
    asked = {}
    monkeypatch.setattr(segmenters, "load_method", lambda *arguments, **options: asked.update(options) or maskclip)
    onnx = segmenters.load("maskclip", onnx=files["maskclip"])
    assert asked["compute"]() == PLAIN
    assert type(onnx).__name__ == "OnnxOpenVocabulary"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"weights": "other.safetensors"}, "holds the student's weights: leave out weights=other.safetensors"),
        ({"names": ("cat",)}, "names cannot be chosen beside it"),
        ({"device": "cuda"}, "runs on the processor, not on 'cuda'"),
        ({"precision": "bf16"}, "computes in fp32, not in 'bf16'"),
        ({"preset": "coco"}, "exported from the preset 'custom', not 'coco'"),
        ({"preset": "moon"}, "no preset 'moon'"),
        ({"refine": "magic"}, "refine='magic' cannot be used"),
        ({"window": 32}, "no setting 'window'"),
    ],
)
def test_arguments_that_a_students_file_cannot_honour_are_refused(files, arguments, says):
    with pytest.raises(WordmaskError, match=says):
        segmenters.load("namedmask", onnx=files["namedmask"], **arguments)


def test_settings_of_a_student_that_its_file_leaves_open_are_honoured(files, student):
    onnx = segmenters.load("namedmask", onnx=files["namedmask"], refine="pamr", shorter_side=24)
    assert (onnx.settings.refine, onnx.settings.shorter_side, onnx.preset) == ("pamr", 24, student.preset)
    settings = NamedMaskSettings(refine="pamr", shorter_side=24)
    original = NamedMask(Student(student.network, student.vocabulary, {}), settings)
    wanted = original.segment(pictures()[0], NAMES, fill=True).labels
    assert (onnx.segment(pictures()[0], NAMES, fill=True).labels == wanted).mean() > 0.99


def test_another_text_tower_or_another_graph_is_refused(files, dinoiser):
    other = small_clip()
    with torch.no_grad():
        other.model.token_embedding.weight.add_(1)
    with pytest.raises(ExportError, match="another text tower than this maskclip's: give what was exported"):
        load_onnx(files["maskclip"], MaskClip(other, MaskClipSettings(**SMALL)))
    smoothed = MaskClip(small_clip(), MaskClipSettings(**SMALL, key_smoothing=True))
    with pytest.raises(ExportError, match="computes with key_smoothing=False, not with key_smoothing=True"):
        load_onnx(files["maskclip"], smoothed)
    sharper = ClipDinoiser(dinoiser.clip, dinoiser.heads, ClipDinoiserSettings(**SMALL, affinity_threshold=0.9))
    with pytest.raises(ExportError, match="not with affinity_threshold=0.9"):
        load_onnx(files["clip-dinoiser"], sharper)


@pytest.mark.parametrize(
    ("method", "damage", "says"),
    [
        ("namedmask", {"names": ["dog"]}, "its names: input should be a valid dictionary"),
        ("namedmask", {"names": {"dog": ["dog"]}}, "tells 1 name, and its network has 3 classes"),
        ("namedmask", {"settings": 3}, "its settings"),
        ("namedmask", {"settings": {"refine": 5}}, "refine=5 cannot be used"),
        ("maskclip", {"outputs": ["logits", "moon"]}, "no output 'moon'"),
        ("maskclip", {"outputs": None}, "its outputs"),
        ("maskclip", {"text_fingerprint": None}, "does not tell which text tower"),
        ("maskclip", {"format": "wordmask-onnx/9"}, "in the format 'wordmask-onnx/9'"),
        ("maskclip", "text", "was not written by `wordmask export`"),
    ],
)
def test_damaged_metadata_is_explained(files, maskclip, tmp_path, method, damage, says):
    told = json.loads(open_session(files[method]).get_modelmeta().custom_metadata_map["wordmask"])
    told = told | damage if isinstance(damage, dict) else damage
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(writing._with_metadata(files[method], told))
    with pytest.raises(ExportError, match=says):
        load_onnx(bad, maskclip)


def test_what_runs_from_a_file_stays_on_the_processor(files, maskclip):
    for segmenter in (segmenters.load("namedmask", onnx=files["namedmask"]), load_onnx(files["maskclip"], maskclip)):
        assert segmenter.to("cpu") is segmenter
        assert segmenter.device == torch.device("cpu")
        with pytest.raises(ExportError, match="an ONNX file runs on the processor, not on 'cuda'"):
            segmenter.to("cuda")
