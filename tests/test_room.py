"""Names leave room for what none of them names, unless they are to fill the picture; doubtful names are put aside.

The same rule holds for Python, the command line, folders that are labelled, the service and its page.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import wordmask
from support.painted import Painted, painted_folder
from wordmask.benchmarks.evaluation import score_batches
from wordmask.labelling import Job, LabelSettings, label_folder
from wordmask.labelling.settings import LabelError
from wordmask.masks.segmentation import Segmentation, SegmentationError
from wordmask.methods import methods_of, presets_by_name
from wordmask.names.lists import read_names
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters import DEFAULT_METHOD
from wordmask.segmenters.base import SegmenterError
from wordmask_world import draw_scene
from wordmask_world.benchmark import World

ABSENT = "sheep"


@pytest.fixture(scope="module")
def scene():
    """A picture of one thing, which is no sheep, on other ground."""
    drawn = (draw_scene(7_000_000_000 + i, 128, kind="single") for i in range(9))
    return next(scene for scene in drawn if ABSENT not in scene.things).image


@pytest.fixture(scope="module")
def load():
    loaded = {}

    def load(method):
        loaded[method] = loaded.get(method) or wordmask.load(method, preset="world", device="cpu", precision="fp32")
        return loaded[method]

    return load


IN_THE_WORLD = [m for m in methods_of("segmenter") if m != "reco" and "world" in presets_by_name("segmenter", m)]


@pytest.mark.parametrize("method", IN_THE_WORLD)
def test_a_single_name_does_not_take_the_whole_picture(load, scene, method):
    result = load(method).segment(scene, [ABSENT])
    assert result.names == [ABSENT, "background"]
    assert result.pixels["background"] > 0.5 * result.labels.size
    assert load(method).segment(scene, [ABSENT], fill=True).names == [ABSENT]


@pytest.mark.parametrize("method", ["maskclip", "clip-dinoiser", "selfmask-clip"])
def test_who_names_background_is_answered_as_the_paper_does(load, scene, method):
    seen = load(method).look(scene)
    names = ["dog", "background", "sky"]
    asked, plain = seen.segment(names), seen.answer(Vocabulary.of(names))
    assert np.array_equal(asked.labels, plain.labels)
    assert np.array_equal(asked.scores, plain.scores)


def test_a_method_that_chooses_is_given_words_to_choose_from_but_none_that_the_user_means(load):
    words = load("maskclip").background_words
    worded = Vocabulary.of({"dog": None, "Grass": None, "water": ["sand"]}).with_room().worded(words)
    own = worded.phrases[3]
    assert (own[0], "sky" in own) == ("background", True)
    assert not {"grass", "sand", "water"} & set(own)
    named = Vocabulary.of({"dog": None, "background": ["sky"]})
    assert named.with_room() is named.worded(words) is named


def test_benchmarks_without_background_ask_for_their_own_names_alone():
    asked = []

    class Noting(Painted):
        def look_many(self, images, sources):
            seen = super().look_many(images, sources)
            for own in seen:
                own.answer = lambda vocabulary, answer=own.answer: asked.append(vocabulary) or answer(vocabulary)
            return seen

    benchmark = World("single", stuff=True, pictures=2)
    list(score_batches(Noting(), benchmark, 2, boundary=False))
    assert asked == [benchmark.vocabulary] * 2


def painting():
    """Red in a fifth, blue in a tenth of it, half of red unsure."""
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :4, 0] = 255
    image[:5, :4, 1] = 200
    image[:2, 10:20, 2] = 255
    return image


def segment(names, **options):
    return Painted().segment(painting(), names, **options)


def test_what_scores_less_is_background():
    result = segment(["red", "blue"], min_score=0.5)
    assert result.names == ["red", "blue", "background"]
    assert result.pixels == {"red": 20, "blue": 20, "background": 160}
    assert result.scores[0, 0] == pytest.approx(1 - 55 / 255)
    with pytest.raises(SegmenterError, match="min_score needs a background"):
        segment(["red"], min_score=0.5, fill=True)
    for wrong in ({"min_score": 2}, {"drop_absent": "much"}):
        with pytest.raises(SegmenterError, match="a number between 0 and 1"):
            Painted().segment_many([painting()], ["red"], **wrong)


def test_names_of_too_few_pixels_are_absent_but_keep_their_numbers():
    result = segment(["blue", "red"], drop_absent=0.15)
    assert result.names == ["blue", "red", "background"]
    assert result.pixels == {"blue": 0, "red": 40, "background": 160}
    assert result.present() == ["red", "background"]
    assert segment(["blue"], drop_absent=0.15).pixels == {"blue": 0, "background": 200}


def test_present_counts_pixels_and_scores():
    scores = np.array([[0.9, 0.9, 0.9, 0.2]], np.float32)
    result = Segmentation(np.array([[0, 0, 0, 1]]), ["a", "b", "c"], scores)
    assert result.present() == ["a", "b"]
    assert result.present(min_share=0.5) == result.present(min_score=0.5) == ["a"]
    with pytest.raises(SegmentationError, match="no background among the names"):
        result.rejecting(0.5)


def test_results_are_told_in_one_line_and_shown_in_notebooks():
    result = segment(["red", "blue"])
    assert repr(result) == "Segmentation('<array>', 20 x 10: 'background' 70%, 'red' 20%, 'blue' 10%)"
    assert "<img src=" in result._repr_html_()
    odd = Segmentation(result.labels, ["<b>", "b", "c"])._repr_html_()
    assert ("&lt;b&gt;" in odd, "<b>" in odd) == (True, False)
    assert len(Painted().segment(np.zeros((2000, 3000, 3), np.uint8), ["red"])._repr_html_()) < 200_000
    many = repr(Segmentation(np.arange(400).reshape(20, 20), [f"name {i}" * 30 for i in range(400)]))
    assert (len(many) < 600, "\n" in many) == (True, False)
    assert repr(Vocabulary.of(["dog", "cat"])) == "Vocabulary('dog', 'cat')"
    assert len(repr(Vocabulary.of([f"name {i}" for i in range(1000)]))) < 200
    assert "20 x 10" in repr(Painted().look(painting()))
    assert repr(Painted()) == "Painted(painted, preset custom, fp32)"


def test_masks_come_as_a_tensor():
    masks = segment(["red", "blue"]).to_torch()
    assert not masks.dtype.is_floating_point
    assert np.array_equal(masks.numpy(), segment(["red", "blue"]).to_numpy())


# The command line


@pytest.fixture
def folder(scene, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(scene).save(tmp_path / "in" / "a.png")
    return tmp_path / "in"


WORLD = ("--preset", "world")
CHOSEN = ("--names", ABSENT, "--method", "selfmask-clip", *WORLD)


def test_the_command_line_makes_room_and_says_so_once(command, folder, tmp_path):
    for fill, names, said in (((), [ABSENT, "background"], 1), (("--fill",), [ABSENT], 0)):
        status, out, err = command("segment", folder, *CHOSEN, "-o", tmp_path / f"out{said}", "--json", *fill)
        assert (status, json.loads(out)["names"]) == (0, names)
        assert err.count("background is not among the names and was added") == said


def test_labels_of_one_name_are_no_whole_pictures(command, scene, folder, tmp_path):
    out = tmp_path / "labels"
    options = (*CHOSEN, "--format", "yolo", "--out", out)
    status, _, err = command("label", folder, *options)
    assert (status, "background is not among the names and was added" in err) == (0, True)
    areas = [int(line.split(",")[3]) for line in (out / "masks.csv").read_text().splitlines()[1:]]
    assert sum(areas) < 0.5 * scene[..., 0].size
    assert read_names(out / "data.yaml").names == (ABSENT,)
    status, _, err = command("label", folder, *options, "--min-score", "0.3")
    assert (status, "min_score" in err) == (1, True)


def test_a_student_brings_its_names_to_segment_too(command, folder, tmp_path):
    status, out, _ = command("segment", folder, "--method", "namedmask", *WORLD, "--json", "-o", tmp_path / "out")
    assert (status, len(json.loads(out)["names"])) == (0, 25)


def test_the_default_is_one_method_everywhere_and_help_lists_them_all(command):
    for verb in ("segment", "label", "evaluate"):
        status, out, _ = command(verb, "--help")
        words = " ".join(out.replace("│", " ").split())
        assert (status, f"default: {DEFAULT_METHOD}" in words) == (0, True)
        assert all(f"• {method}:" in words for method in methods_of("segmenter"))


@pytest.mark.parametrize("arguments", [("segment", "https://example.com/a.jpg"), ("label", "https://example.com/a")])
def test_an_address_in_place_of_a_file_is_echoed_as_it_was_written(command, arguments):
    status, _, err = command(*arguments, "--names", "dog")
    assert (status, arguments[1] in "".join(err.replace("│", " ").split())) == (2, True)


def test_a_mistaken_setting_is_told_its_neighbours(command, folder, tmp_path):
    assert "did you mean stride?" in command("segment", folder, *CHOSEN[:2], *WORLD, "--set", "stirde=3")[2]
    status, _, err = command("train-selfmask", *WORLD, "--set", "steps=6", "--out", tmp_path / "run")
    assert (status, len(err) < 250) == (1, True)
    assert not (tmp_path / "run").exists()  # no picture is drawn before the settings are known to be right


@pytest.mark.parametrize("value", ["9" * 100_000, "0x" + "f" * 100_000, "[" * 50_000])
def test_an_endless_value_is_refused_in_one_short_line(command, folder, value):
    status, _, err = command("segment", folder, *CHOSEN[:2], *WORLD, "--set", f"stride={value}")
    assert (status, len(err) < 500, "stride" in err) == (1, True, True)


# Folders that are labelled


def job_of(folder, out, names=("red", "blue", "background"), **settings):
    return Job(folder, out, Vocabulary.of(list(names)), LabelSettings(**settings), {"method": "painted"})


def label(job):
    return label_folder(job, segmenter=Painted())


def test_a_folder_that_was_labelled_before_there_was_a_least_score_goes_on(tmp_path):
    job = job_of(painted_folder(tmp_path / "in"), tmp_path / "out")
    label(job)
    place = tmp_path / "out/.wordmask/settings.json"
    kept = json.loads(place.read_text())
    place.write_text(json.dumps({key: value for key, value in kept.items() if key not in ("min_score", "drop_absent")}))
    assert label(job).new == 0
    with pytest.raises(LabelError, match="min_score"):
        label(job_of(job.folder, job.out, min_score=0.5))


def test_labels_that_fill_their_pictures_go_on_filled(tmp_path):
    job = job_of(painted_folder(tmp_path / "in"), tmp_path / "out", ("red", "blue"))
    filled = replace(job, vocabulary=Vocabulary.of(["red", "blue"]), fill=True)
    assert (job.vocabulary.names, filled.vocabulary.names) == (("red", "blue", "background"), ("red", "blue"))
    label(filled)
    with pytest.raises(LabelError, match="say --fill"):
        label(job)
    assert label(filled).new == 0


def test_unsure_parts_and_absent_names_have_no_labels(tmp_path):
    folder = painted_folder(tmp_path / "in")
    rules = {"all": {}, "sure": {"min_score": 0.5}, "large": {"drop_absent": 0.2}}
    found = {name: label(job_of(folder, tmp_path / name, min_area=1, **own)).instances for name, own in rules.items()}
    assert found["sure"] < found["all"]
    assert 0 < found["large"] < found["all"]
