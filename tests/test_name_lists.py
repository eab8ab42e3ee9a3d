"""Lists of names in the forms of other tools are read as they mean them, and what could mean two things is refused."""

import json
import time

import pytest

from support.labelling_job import job
from support.painted import NAMES, Painted, painted_folder
from wordmask.labelling import label_folder
from wordmask.names.lists import parse_names, read_names
from wordmask.names.vocabulary import Vocabulary, VocabularyError

THREE = ("person", "dog", "traffic light")


def written(folder, name, content):
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.yaml", "path: ../coco\ntrain: images\nval: images\nnames:\n  0: person\n  1: dog\n  2: traffic light\n"),
        ("data.yaml", "train: images\nval: images\nnc: 3\nnames: [person, dog, traffic light]\n"),
        ("names.yaml", "names: [person, dog, traffic light]\n"),
        ("names.yaml", "2: traffic light\n0: person\n1: dog\n"),
        ("names.yaml", "- person\n- dog\n- traffic light\n"),
        ("names.json", ["person", "dog", "traffic light"]),
        ("names.json", {"10": "traffic light", "2": "dog", "0": "person"}),
        ("names.json", {"traffic light": 2, "person": 0, "dog": 1}),
        ("instances.json", {"images": [], "categories": [{"id": i, "name": n} for i, n in enumerate(THREE, 1)][::-1]}),
        ("labels.json", [{"name": n, "color": "#fff", "attributes": []} for n in THREE]),
        ("names.txt", "0: person\n1: dog\n2: traffic light\n"),
        ("names.txt", "1 person\n2 dog\n3 traffic light\n"),
        ("labels.txt", "1 person\n2 dog\n3 traffic light\n255 void\n"),
        (
            "labelling_config.xml",
            '<View><BrushLabels name="b" toName="i"><Label value="person"/><Label value="dog"/>'
            '<Label value="traffic light" background="#123456"/></BrushLabels></View>',
        ),
    ],
)
def test_the_forms_of_other_tools_hold_the_same_names(tmp_path, name, content):
    assert read_names(written(tmp_path, name, content)).names == THREE


def test_the_list_that_lies_beside_labels_of_voc_is_read(tmp_path):
    folder = painted_folder(tmp_path / "pictures")
    label_folder(job(folder, tmp_path / "out", "voc"), segmenter=Painted())
    assert set(read_names(tmp_path / "out" / "labels.txt").names) == set(NAMES)


def test_words_that_other_tools_use_may_be_names_here(tmp_path):
    def read(content, name="names.yaml"):
        return read_names(written(tmp_path, name, content))

    kept = read("train: [railway]\npath:\nnames:\nval: {instead: a valley}\n")
    assert kept.names == ("train", "path", "names", "val")
    assert read("names: {instead: the names on a sign}\ndog:\n").phrases == (("the names on a sign",), ("dog",))
    assert read("3 pigs\nwolf\n", "names.txt").names == ("3 pigs", "wolf")
    assert read("labels: {instead: price tags}\n").names == ("labels",)
    assert read("labels: [price tags]\ndog:\n").names == ("labels", "dog")
    assert read("# one\ntraffic light\n").names == ("traffic light",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.yaml", "names: [dog, cat]\nperson: [man]\n", "`names` is either a name"),
        ("names.yaml", "names: dog\n", "`names` is either a name"),
        ("data.yaml", "nc: 3\nnames: [dog, cat]\n", "its nc is '3', but it has 2 names"),
        ("names.yaml", "0: dog\ncat: [kitten]\n", "number all names"),
        ("names.txt", "0: dog\n2: cat\n", "not all lines count from 0 or 1"),
        ("names.txt", "0 dog\n2 cat\n", "not all lines count from 0 or 1"),
        (
            "names.yaml",
            "classes: [dog, cat]\n",
            "`classes` is either a name with synonyms, or .* write them under `names`",
        ),
        ("names.json", {"labels": ["dog", "cat"]}, "`labels` is either a name"),
        ("names.yaml", "# pets\ndog\ncat # and kittens\n", "holds 2 lines that YAML reads as one name .'dog cat'."),
        ("names.txt", "dog; cat\n", "line 1 holds a semicolon"),
        ("names.yaml", "person: man, woman\n", r'synonyms of one as {"dog": \["puppy"'),
        ("names.json", "{", "no valid JSON"),
        ("names.json", "[7]", "expected names"),
        ("names.xml", "<View/>", "no configuration of Label Studio"),
        ("names.xml", "<!DOCTYPE x [<!ENTITY a 'b'>]><View/>", "declares entities"),
    ],
)
def test_what_could_mean_two_things_or_none_is_refused_with_the_file_s_name(tmp_path, name, content, message):
    file = written(tmp_path, name, content)
    with pytest.raises(VocabularyError, match=message) as caught:
        read_names(file)
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 600


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
ENDLESS = ("0x" + "f" * 100_000 + ": 1\n", "- " + "9" * 100_000, '{"dog": ' + "9" * 100_000 + "}")


@pytest.mark.parametrize("content", [BOMB, "a: &a [*a]\n", *ENDLESS])
def test_a_small_file_that_stands_for_much_is_refused_at_once(tmp_path, content):
    name, message = ("names.json", "no valid JSON") if content.startswith("{") else ("names.yaml", None)
    start = time.monotonic()
    with pytest.raises(VocabularyError, match=message) as caught:
        read_names(written(tmp_path, name, content))
    assert time.monotonic() - start < 5
    assert len(str(caught.value)) < 600


def test_synonyms_may_be_typed():
    vocabulary = parse_names("person: [man, woman], dog, crane: {instead: crane bird}, background")
    assert vocabulary.names == ("person", "dog", "crane", "background")
    assert vocabulary.phrases == (("person", "man", "woman"), ("dog",), ("crane bird",), ("background",))
    for unparted in ("dog; cat", "dog\ncat", "person: [man", "[dog]], cat"):
        with pytest.raises(VocabularyError):
            parse_names(unparted)


@pytest.mark.parametrize("sign", [",", ";", "\n"])
def test_several_names_in_one_text_are_refused_with_advice_that_works(sign):
    for names in ([f"dog{sign} cat"], f"dog{sign} cat"):
        with pytest.raises(VocabularyError, match=r"\['dog', 'cat'\]"):
            Vocabulary.of(names)
    with pytest.raises(VocabularyError, match="synonyms"):
        Vocabulary.of({"animal": f"dog{sign} cat"})
    assert Vocabulary.of(["dog", "cat"]).names == ("dog", "cat")
    assert Vocabulary.of({"dog": {"instead": "a dog, running"}}).phrases == (("a dog, running",),)


def test_a_file_of_names_that_there_is_not_is_refused_with_the_way_out(tmp_path):
    for path in (tmp_path / "missing.txt", tmp_path / "missing.json", tmp_path):
        with pytest.raises(VocabularyError, match="cannot be read .*; give a file of names, one a line, or the names"):
            read_names(path)
