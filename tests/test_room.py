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
from wordmask.methods import methods_of
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
    scene = next(
        s for s in (draw_scene(7_000_000_000 + i, 128, kind="single") for i in range(9)) if ABSENT not in s.things
    )
    return scene.image


@pytest.fixture(scope="module")
def load():
    loaded = {}

    def load(method):
        loaded[method] = loaded.get(method) or wordmask.load(method, preset="world", device="cpu", precision="fp32")
        return loaded[method]

    return load


@pytest.mark.parametrize("method", [m for m in methods_of("segmenter") if m != "reco"])
def test_a_single_name_does_not_take_the_whole_picture(load, scene, method):
    result = load(method).segment(scene, [ABSENT])
    assert result.names == [ABSENT, "background"]
    assert result.pixels["background"] > 0.5 * result.labels.size
    filled = load(method).segment(scene, [ABSENT], fill=True)
    assert filled.names == [ABSENT]


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
    assert own[0] == "background"
    assert "sky" in own
    assert not {"grass", "sand", "water"} & set(own)
    named = Vocabulary.of({"dog": None, "background": ["sky"]})
    assert named.with_room() is named
    assert named.worded(words) is named


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


def test_what_scores_less_is_background():
    result = Painted().segment(painting(), ["red", "blue"], min_score=0.5)
    assert result.names == ["red", "blue", "background"]
    assert result.pixels == {"red": 20, "blue": 20, "background": 160}
    assert result.scores[0, 0] == pytest.approx(1 - 55 / 255)
    with pytest.raises(SegmenterError, match="min_score needs a background"):
        Painted().segment(painting(), ["red"], min_score=0.5, fill=True)
    for wrong in ({"min_score": 2}, {"drop_absent": "much"}):
        with pytest.raises(SegmenterError, match="a number between 0 and 1"):
            Painted().segment_many([painting()], ["red"], **wrong)


def test_names_of_too_few_pixels_are_absent_but_keep_their_numbers():
    result = Painted().segment(painting(), ["blue", "red"], drop_absent=0.15)
    assert result.names == ["blue", "red", "background"]
    assert result.pixels == {"blue": 0, "red": 40, "background": 160}
    assert result.present() == ["red", "background"]
    nothing = Painted().segment(painting(), ["blue"], drop_absent=0.15)
    assert nothing.pixels == {"blue": 0, "background": 200}


def test_present_counts_pixels_and_scores():
    labels = np.array([[0, 0, 0, 1]])
    result = Segmentation(labels, ["a", "b", "c"], np.array([[0.9, 0.9, 0.9, 0.2]], np.float32))
    assert result.present() == ["a", "b"]
    assert result.present(min_share=0.5) == ["a"]
    assert result.present(min_score=0.5) == ["a"]
    with pytest.raises(SegmentationError, match="no background among the names"):
        result.rejecting(0.5)


def test_results_are_told_in_one_line_and_shown_in_notebooks():
    result = Painted().segment(painting(), ["red", "blue"])
    assert repr(result) == "Segmentation('<array>', 20 x 10: 'background' 70%, 'red' 20%, 'blue' 10%)"
    assert "<img src=" in result._repr_html_()
    assert "<img" not in Segmentation(result.labels, ["<b>", "b", "c"])._repr_html_().replace("<img src", "")
    assert "&lt;b&gt;" in Segmentation(result.labels, ["<b>", "b", "c"])._repr_html_()
    large = Painted().segment(np.zeros((2000, 3000, 3), np.uint8), ["red"])
    assert len(large._repr_html_()) < 200_000
    many = Segmentation(np.arange(400).reshape(20, 20), [f"name {i}" * 30 for i in range(400)])
    assert len(repr(many)) < 600
    assert "\n" not in repr(many)
    assert repr(Vocabulary.of(["dog", "cat"])) == "Vocabulary('dog', 'cat')"
    assert len(repr(Vocabulary.of([f"name {i}" for i in range(1000)]))) < 200
    assert "20 x 10" in repr(Painted().look(painting()))
    assert repr(Painted()) == "Painted(painted, preset custom, fp32)"


def test_masks_come_as_a_tensor():
    result = Painted().segment(painting(), ["red", "blue"])
    masks = result.to_torch()
    assert masks.dtype.is_floating_point is False
    assert np.array_equal(masks.numpy(), result.to_numpy())


# The command line


def on_disk(folder, image):
    folder.mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / "a.png")
    return folder


def test_the_command_line_makes_room_and_says_so_once(command, scene, tmp_path):
    folder = on_disk(tmp_path / "in", scene)
    options = ("--method", "selfmask-clip", "--preset", "world")
    status, out, err = command("segment", folder, "--names", ABSENT, *options, "-o", tmp_path / "out", "--json")
    assert status == 0
    assert json.loads(out)["names"] == [ABSENT, "background"]
    assert err.count("background is not among the names and was added") == 1
    status, out, err = command(
        "segment", folder, "--names", ABSENT, *options, "-o", tmp_path / "o2", "--json", "--fill"
    )
    assert status == 0
    assert "was added" not in err
    assert json.loads(out)["names"] == [ABSENT]


def test_labels_of_one_name_are_no_whole_pictures(command, scene, tmp_path):
    folder = on_disk(tmp_path / "in", scene)
    out = tmp_path / "labels"
    options = ("--method", "selfmask-clip", "--preset", "world", "--format", "yolo", "--out", out)
    status, _, err = command("label", folder, "--names", ABSENT, *options)
    assert status == 0
    assert "background is not among the names and was added" in err
    areas = [int(line.split(",")[3]) for line in (out / "masks.csv").read_text().splitlines()[1:]]
    assert sum(areas) < 0.5 * scene[..., 0].size
    assert read_names(out / "data.yaml").names == (ABSENT,)
    status, _, err = command("label", folder, "--names", ABSENT, *options, "--min-score", "0.3")
    assert status == 1
    assert "min_score" in err


def test_a_student_brings_its_names_to_segment_too(command, scene, tmp_path):
    folder = on_disk(tmp_path / "in", scene)
    options = ("--method", "namedmask", "--preset", "world", "--json", "-o", tmp_path / "out")
    status, out, _ = command("segment", folder, *options)
    assert status == 0
    assert len(json.loads(out)["names"]) == 25


def test_the_default_is_one_method_everywhere_and_help_lists_them_all(command):
    for verb in ("segment", "label", "evaluate"):
        status, out, _ = command(verb, "--help")
        words = " ".join(out.replace("│", " ").split())
        assert status == 0
        assert f"[default: {DEFAULT_METHOD}]" in words or f"default: {DEFAULT_METHOD}" in words
        assert all(f"• {method}:" in words for method in methods_of("segmenter"))


@pytest.mark.parametrize("arguments", [("segment", "https://example.com/a.jpg"), ("label", "https://example.com/a")])
def test_an_address_in_place_of_a_file_is_echoed_as_it_was_written(command, arguments):
    status, _, err = command(*arguments, "--names", "dog")
    assert status == 2
    assert arguments[1] in "".join(err.replace("│", " ").split())


def test_a_mistaken_setting_is_told_its_neighbours(command, scene, tmp_path):
    folder = on_disk(tmp_path / "in", scene)
    _, _, err = command("segment", folder, "--names", "dog", "--preset", "world", "--set", "stirde=3")
    assert "did you mean stride?" in err
    status, _, err = command("train-selfmask", "--preset", "world", "--set", "steps=6", "--out", tmp_path / "run")
    assert status == 1
    assert len(err) < 250
    assert not (tmp_path / "run").exists()  # no picture is drawn before the settings are known to be right


@pytest.mark.parametrize("value", ["9" * 100_000, "0x" + "f" * 100_000, "[" * 50_000])
def test_an_endless_value_is_refused_in_one_short_line(command, scene, tmp_path, value):
    folder = on_disk(tmp_path / "in", scene)
    status, _, err = command("segment", folder, "--names", "dog", "--preset", "world", "--set", f"stride={value}")
    assert status == 1
    assert len(err) < 500
    assert "stride" in err


# Folders that are labelled


def job_of(folder, out, names=("red", "blue", "background"), **settings):
    return Job(folder, out, Vocabulary.of(list(names)), LabelSettings(**settings), {"method": "painted"})


def test_a_folder_that_was_labelled_before_there_was_a_least_score_goes_on(tmp_path):
    job = job_of(painted_folder(tmp_path / "in"), tmp_path / "out")
    label_folder(job, segmenter=Painted())
    place = tmp_path / "out/.wordmask/settings.json"
    kept = json.loads(place.read_text())
    place.write_text(json.dumps({key: value for key, value in kept.items() if key not in ("min_score", "drop_absent")}))
    assert label_folder(job, segmenter=Painted()).new == 0
    with pytest.raises(LabelError, match="min_score"):
        label_folder(job_of(job.folder, job.out, min_score=0.5), segmenter=Painted())


def test_labels_that_fill_their_pictures_go_on_filled(tmp_path):
    job = job_of(painted_folder(tmp_path / "in"), tmp_path / "out", ("red", "blue"))
    filled = replace(job, vocabulary=Vocabulary.of(["red", "blue"]), fill=True)
    assert job.vocabulary.names == ("red", "blue", "background")
    assert filled.vocabulary.names == ("red", "blue")
    label_folder(filled, segmenter=Painted())
    with pytest.raises(LabelError, match="say --fill"):
        label_folder(job, segmenter=Painted())
    assert label_folder(filled, segmenter=Painted()).new == 0


def test_unsure_parts_and_absent_names_have_no_labels(tmp_path):
    folder = painted_folder(tmp_path / "in")
    everything = label_folder(job_of(folder, tmp_path / "a", min_area=1), segmenter=Painted())
    sure = label_folder(job_of(folder, tmp_path / "b", min_area=1, min_score=0.5), segmenter=Painted())
    large = label_folder(job_of(folder, tmp_path / "c", min_area=1, drop_absent=0.2), segmenter=Painted())
    assert sure.instances < everything.instances
    assert 0 < large.instances < everything.instances
