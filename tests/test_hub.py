"""Students as folders of the hub: what is in them, and that they come back the same."""

import pytest
from huggingface_hub import ModelCard

from support.small_segmenters import picture, small_student
from wordmask.hub import Card, HubError, from_pretrained, push, save_folder

CARD = Card("cc-by-4.0", "1000 pictures of the built-in world.", {"world": 41.25}, ["It has never seen snow."])


@pytest.fixture(scope="module")
def student():
    return small_student({"background": None, "dog": ["puppy"], "traffic light": None}, {"steps": "5"})


def test_a_folder_holds_weights_and_a_card_and_comes_back_the_same(student, tmp_path):
    folder = save_folder(student, tmp_path / "model", CARD)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "student.safetensors"]
    again = from_pretrained(folder, device="cpu", precision="fp32")
    assert (again.vocabulary, again.metadata) == (student.vocabulary, student.metadata)
    wanted, got = (each.segment(picture(40, 60), ["dog", "background"]) for each in (student, again))
    assert (got.labels == wanted.labels).all()
    assert (got.scores == wanted.scores).all()


def test_the_card_states_names_data_figures_and_limits(student, tmp_path):
    card = ModelCard.load(save_folder(student, tmp_path, CARD) / "README.md")
    told = (card.data.license, card.data.library_name, card.data.pipeline_tag)
    assert told == ("cc-by-4.0", "wordmask", "image-segmentation")
    for said in ("| 1 | dog | puppy |", "1000 pictures", "| world | 41.2 |", "never seen snow", "nobody drew"):
        assert said in card.text


def test_a_student_that_learnt_from_corrections_is_not_called_free_of_annotations(student, tmp_path):
    told = "not annotation-free any more: 12 pictures corrected (weight 4)"
    corrected = small_student({"background": None, "dog": None}, {"note": told})
    own, other = (ModelCard.load(save_folder(each, tmp_path, CARD) / "README.md") for each in (student, corrected))
    assert ("annotation-free" in own.data.tags, "annotation-free" in other.data.tags) == (True, False)
    assert ("No mask was drawn" in own.text, "No mask was drawn" in other.text) == (True, False)
    assert told in other.text
    assert "but for the pictures that a person corrected" in other.text


def test_pushing_uploads_that_folder(student, monkeypatch):
    uploaded = {}

    class Api:
        def __init__(self, token):
            uploaded["token"] = token

        def create_repo(self, repository, private, exist_ok):
            uploaded["made"] = (repository, private, exist_ok)
            return f"https://huggingface.co/{repository}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            uploaded["student"] = from_pretrained(folder_path)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert push(student, "me/dogs", CARD, token="t") == "https://huggingface.co/me/dogs"
    assert uploaded["made"] == ("me/dogs", True, True)
    assert uploaded["student"].vocabulary == student.vocabulary


def test_mistakes_are_explained(student, tmp_path, monkeypatch):
    with pytest.raises(HubError, match="holds no student.safetensors"):
        from_pretrained(tmp_path)

    class Api:
        def __init__(self, token): ...
        def create_repo(self, *_, **__):
            raise RuntimeError("401 Unauthorized\nmore")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(HubError, match="me/dogs could not be uploaded: 401 Unauthorized"):
        push(student, "me/dogs", CARD)


def test_from_the_hub_the_file_is_found_by_the_repositorys_name(student, tmp_path, monkeypatch):
    folder = save_folder(student, tmp_path, CARD)
    asked = []
    file = folder / "student.safetensors"
    monkeypatch.setattr("wordmask.hub.resolve", lambda source: asked.append(source) or file)
    assert from_pretrained("me/dogs").vocabulary == student.vocabulary
    assert asked == ["hf-hub:me/dogs/student.safetensors"]
