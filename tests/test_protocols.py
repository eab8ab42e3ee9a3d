"""Protocols and vocabularies: named settings of an evaluation, as data, recorded with every figure."""

import json
from unittest.mock import Mock

import pytest

from support.data_sets import voc_folder
from support.small_clip import small_clip
from support.squares import Squares
from wordmask import evaluate, segmenters
from wordmask.benchmarks import list_benchmarks, named_settings
from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.benchmarks.names import class_names
from wordmask.benchmarks.protocols import (
    ProtocolError,
    find_protocol,
    list_protocols,
    published_by,
    settings_under,
)
from wordmask.benchmarks.results import PLAN
from wordmask.benchmarks.tables.frontier import OURS
from wordmask.benchmarks.wordings import Worded, WordingError, list_wordings, worded
from wordmask.cards import EIGHT
from wordmask.methods import list_methods, methods_of, settings_of
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.plugins import named
from wordmask.segmenters import maskclip
from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings

FACTS = [
    # protocol, benchmark, shorter side, window, stride, padded to a multiple of
    ("clip-dinoiser", "voc", 448, 448, 224, None),
    ("sclip", "voc", 336, 224, 112, None),
    ("sclip", "coco-stuff", 448, 224, 112, None),
    ("sclip", "cityscapes", 560, 224, 112, None),
    ("sc-clip", "coco-stuff", 336, 224, 112, None),
    ("naclip", "voc", 336, None, 112, None),
    ("naclip", "context", 336, 224, 112, None),
    ("clearclip", "ade20k", 448, 448, 224, "patch"),
    ("clearclip", "cityscapes", 448, 224, 224, "patch"),
    ("proxyclip", "voc20", 336, 336, 112, 56),
    ("proxyclip", "cityscapes", 448, 224, 112, 56),
    ("proxyclip", "ade20k", 448, 336, 112, 56),
    ("corrclip-2", "cityscapes", 784, 224, 112, 56),
    ("trident", "voc20", 336, 336, 112, 56),
    ("trident", "coco-object", 448, 336, 224, 56),
    ("talk2dino", "context", 448, 448, 224, None),
    ("lposs", "cityscapes", 448, 224, 112, None),
]


@pytest.mark.parametrize(("protocol", "benchmark", "side", "window", "stride", "pad"), FACTS)
def test_protocols_are_the_papers(protocol, benchmark, side, window, stride, pad):
    looks = find_protocol(protocol).looks(benchmark)
    assert (looks["shorter_side"], looks["window"], looks["stride"], looks["pad_multiple"]) == (
        side,
        window,
        stride,
        pad,
    )
    assert (looks["longest_side"], looks["antialias"]) == (2048, False)


def test_every_protocol_but_own_says_how_and_names_benchmarks_that_there_are():
    assert set(named_settings("protocols")) == set(list_protocols())
    for name, protocol in list_protocols().items():
        assert (protocol.shorter_side is None) is (name == "own")
        assert set(protocol.benchmarks) <= set(list_benchmarks())


def test_a_protocol_is_settings_of_a_method():
    settings = settings_of("segmenter", "maskclip", **settings_under("sclip", "maskclip", "voc"))
    assert len(settings.plan(375, 500)) == 2 * 3
    assert (settings.plan(375, 500).height, settings.plan(375, 500).window) == (336, (224, 224))
    whole = settings_of("segmenter", "maskclip", **settings_under("naclip", "maskclip", "voc"))
    assert len(whole.plan(375, 500)) == 1


def test_what_a_paper_gives_for_a_benchmark_goes_with_its_preset_and_not_against_the_protocol(monkeypatch):
    given = {"voc": {"background_threshold": 0.3, "shorter_side": 999}}
    monkeypatch.setattr(maskclip, "PUBLISHED", given, raising=False)
    assert settings_under("own", "maskclip", "voc") == given["voc"]
    assert settings_under("own", "maskclip", "context") == {}
    assert settings_under("own", "maskclip", "voc", preset="world") == {}
    under = settings_under("sclip", "maskclip", "voc")
    assert (under["background_threshold"], under["shorter_side"]) == (0.3, 336)


def test_what_methods_say_they_published_is_of_benchmarks_and_settings_that_there_are():
    told = {method.name: published_by(named(method.at)) for method in list_methods("segmenter")}
    assert told["clip-dinoiser"]["context"] == {"background": "none"}
    for method, benchmarks in told.items():
        for benchmark, settings in benchmarks.items():
            assert benchmark in list_benchmarks()
            settings_of("segmenter", method, **settings)


@pytest.mark.parametrize(("method", "protocol"), sorted({(own.method, own.protocol) for own in OURS.values()}))
@pytest.mark.parametrize("benchmark", EIGHT)
def test_a_paper_s_own_settings_are_those_of_its_protocol(method, protocol, benchmark):
    """Both tell how pictures are looked at: the one by the method, the other for any."""
    if method not in methods_of("segmenter") or method in ("maskclip", "reco"):
        pytest.skip("it is not here, or its paper looked at pictures in another way")
    own, under = (
        settings_of("segmenter", method, **settings_under(which, method, benchmark)) for which in ("own", protocol)
    )
    looks = ("shorter_side", "longest_side", "window", "stride", "pad_multiple", "background_threshold", "scale")
    assert [getattr(own, key, None) for key in looks] == [getattr(under, key, None) for key in looks]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("nonsense", "maskclip", "voc"), "no protocol is called 'nonsense'; choose one of own, clip-dinoiser"),
        (("sclip", "clip-diy", "voc"), "clip-diy cannot look at pictures as sclip does, having no setting 'window'"),
    ],
)
def test_protocols_that_cannot_be_are_refused(asked, says):
    with pytest.raises(ProtocolError, match=says):
        settings_under(*asked)


def test_a_segmenter_that_is_loaded_must_look_at_pictures_so_already(tmp_path):
    voc_folder(tmp_path)
    settings = settings_of("segmenter", "maskclip", templates="photo", **settings_under("sclip", "maskclip", "voc"))
    other = MaskClip(small_clip(), MaskClipSettings(templates="photo"))
    with pytest.raises(ProtocolError, match="this maskclip has shorter_side=448, and sclip has 336 on voc"):
        evaluate(other, "voc", root=tmp_path, protocol="sclip")
    found = evaluate(MaskClip(small_clip(), settings), "voc", root=tmp_path, protocol="sclip", vocabulary="sclip")
    assert (found.protocol, found.vocabulary) == ("sclip", "sclip")


def test_a_method_by_its_name_is_loaded_as_the_protocol_has_it(tmp_path, monkeypatch):
    small = MaskClip(small_clip(), MaskClipSettings(templates="photo", shorter_side=32, window=32, stride=16))
    load = Mock(return_value=small)
    monkeypatch.setattr(segmenters, "load", load)
    voc_folder(tmp_path)
    assert evaluate("maskclip", "voc", root=tmp_path, protocol="lposs").protocol == "lposs"
    asked = load.call_args.kwargs
    assert (load.call_args.args, asked["precision"]) == (("maskclip",), "fp32")
    assert (asked["shorter_side"], asked["window"], asked["stride"]) == (448, 224, 112)


def test_the_record_of_an_evaluation_says_both(wordmask, tmp_path):
    voc_folder(tmp_path / "data")
    arguments = ["evaluate", "--benchmark", "voc", "--root", tmp_path / "data", "--method", "maskclip", "--json"]
    out = ["--out", tmp_path / "run"]
    chosen = ["--protocol", "sclip", "--vocabulary", "sclip"]
    status, said, err = wordmask(*arguments, *out, *chosen)
    assert status == 0
    assert (json.loads(said)["protocol"], json.loads(said)["vocabulary"]) == ("sclip", "sclip")
    assert "of the words of sclip for voc it is not known whether" in err
    told = json.loads((tmp_path / "run" / "result.json").read_text())["configuration"]
    assert (told["protocol"], told["vocabulary"]) == ("sclip", "sclip")
    assert (told["words"]["boat"], len(told["words"]["background"])) == (["ship"], 26)
    status, _, err = wordmask(*arguments, *out, "--vocabulary", "sclip")
    assert (status, "made with protocol" in err) == (1, True)
    status, _, err = wordmask(*arguments, *out, "--protocol", "sclip")
    assert (status, "made with vocabulary" in err) == (1, True)
    assert json.loads(wordmask(*arguments, *out, *chosen)[1])["images"] == 2


def test_evaluations_of_before_there_were_protocols_go_on(wordmask, tmp_path):
    voc_folder(tmp_path / "data")
    arguments = ["evaluate", "--benchmark", "voc", "--root", tmp_path / "data", "--method", "maskclip"]
    assert wordmask(*arguments, "--out", tmp_path / "run")[0] == 0
    plan = json.loads((tmp_path / "run" / PLAN).read_text())
    for key in ("protocol", "vocabulary"):
        del plan[key]
    (tmp_path / "run" / PLAN).write_text(json.dumps(plan))
    assert wordmask(*arguments, "--out", tmp_path / "run")[0] == 0


def of(benchmark, vocabulary):
    """A benchmark's words, without its data."""
    squares = Squares(1)
    squares.name, squares.vocabulary = benchmark, class_names(benchmark)
    return Worded(squares, vocabulary).vocabulary


def test_vocabularies_are_the_papers():
    words = {
        vocabulary: dict(zip(found.names, found.phrases, strict=True))
        for vocabulary in ("sclip", "proxyclip", "corrclip", "clearclip", "lposs")
        for found in (of("voc", vocabulary),)
    }
    behind = {own["background"] for name, own in words.items() if name != "clearclip"}
    assert len(behind) == 1
    assert len(behind.pop()) == 26
    assert words["clearclip"]["background"] == ("background",)
    assert words["sclip"]["person"][:2] == ("person", "person in shirt")
    assert len(words["sclip"]["person"]) == 7
    assert words["sclip"]["tvmonitor"] == ("television monitor", "tv monitor", "monitor", "television", "screen")
    assert (words["sclip"]["boat"], words["sclip"]["motorbike"]) == (("ship",), ("motorbike",))
    assert words["corrclip"]["person"] == ("people",)
    assert words["sclip"]["dog"] == ("dog",)
    objects = {name: of("coco-object", name).phrases[0] for name in ("sclip", "proxyclip", "corrclip", "clearclip")}
    assert {name: len(own) for name, own in objects.items()} == {
        "sclip": 26,
        "proxyclip": 17,
        "corrclip": 16,
        "clearclip": 1,
    }
    assert set(objects["proxyclip"]) - set(objects["corrclip"]) == {"bed"}
    assert set(objects["proxyclip"]) < set(objects["sclip"])
    assert of("context", "sclip").phrases[0] == ("background",)


def test_every_vocabulary_words_the_names_of_benchmarks_that_there_are():
    eight = {"voc", "context", "coco-object", "voc20", "context59", "coco-stuff", "cityscapes", "ade20k"}
    assert set(named_settings("vocabularies")) == set(list_wordings())
    for name, wording in list_wordings().items():
        assert set(wording.words) == (eight if name != "plain" else set())
        for benchmark in wording.words:
            found = of(benchmark, name)
            assert found.names == class_names(benchmark).names, "labels stay what they are"
            assert all(found.phrases)


def test_a_vocabulary_without_words_for_a_benchmark_is_refused():
    assert worded(Squares(1), "plain").vocabulary == Squares.vocabulary
    with pytest.raises(WordingError, match="'sclip' has no words for squares, but for voc, .*: choose 'plain'"):
        worded(Squares(1), "sclip")
    with pytest.raises(BenchmarkError, match="no vocabulary is called 'nonsense'; choose one of plain, sclip"):
        worded(Squares(1), "nonsense")


def test_names_are_asked_for_in_other_words_and_called_as_before(tmp_path, monkeypatch):
    voc_folder(tmp_path)
    segmenter = MaskClip(small_clip(), MaskClipSettings(templates="photo", shorter_side=32, window=32, stride=16))
    read = []
    embed = TextEmbedder.__call__
    monkeypatch.setattr(TextEmbedder, "__call__", lambda own, names: read.append(names) or embed(own, names))
    plain, other = (evaluate(segmenter, "voc", root=tmp_path, vocabulary=own) for own in ("plain", "corrclip"))
    assert (plain.vocabulary, other.vocabulary) == ("plain", "corrclip")
    assert list(plain.per_class) == list(other.per_class)
    person = class_names("voc").names.index("person")
    assert [read[0].phrases[person], read[-1].phrases[person]] == [("person",), ("people",)]
