"""Names come in order, tell apart, and fail with the name and the way out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wordmask.names.lists import parse_names, read_names
from wordmask.names.vocabulary import MAX_NAME_LENGTH, Vocabulary, VocabularyError


def test_names_keep_their_order_and_their_letters():
    vocabulary = Vocabulary.of(["traffic light", "Dog", "background", "Été"])
    assert vocabulary.names == ("traffic light", "Dog", "background", "Été")
    assert (vocabulary.background, len(vocabulary)) == (2, 4)
    assert vocabulary.without_background().names == ("traffic light", "Dog", "Été")
    assert Vocabulary.of(vocabulary) is vocabulary


def test_synonyms_are_read_beside_the_name_and_wordings_in_its_place():
    vocabulary = Vocabulary.of({"person": ["man", "woman"], "crane": {"instead": "crane bird"}, "tv": "television"})
    assert vocabulary.phrases == (("person", "man", "woman"), ("crane bird",), ("tv", "television"))
    assert vocabulary.all_phrases == ("person", "man", "woman", "crane bird", "tv", "television")
    assert vocabulary.background is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no names"),
        ([""], "empty name"),
        (["dog", "  "], "empty name"),
        (["dog", "cat", "Dog"], "'Dog' is there twice"),
        (["traffic  light", "traffic light"], "'traffic light' is there twice"),
        (["x" * 10_000], "10000 characters.*at most 200"),
        (["dog\x00"], "control character"),
        (["dog\ud800"], "half a character"),
        (["dog", 7], "must be text, not 7"),
        (["dog", None], "must be text, not None"),
        ("dog", r"must be a list, not one string: write \['dog'\]"),
        ({"dog": []}, "'dog': synonyms must be"),
        ({"dog": ["puppy"], "cat": ["puppy"]}, "'puppy' stands for 'dog' and 'cat'"),
        ({"dog": {"instaed": "puppy"}}, "'dog': expected a list of synonyms or `instead: wording`"),
        ([f"name {i}" for i in range(20_001)], "20001 names; at most 20000"),
    ],
)
def test_names_that_cannot_serve_are_refused(names, message):
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.of(names)


@given(st.lists(st.text(max_size=MAX_NAME_LENGTH + 10), max_size=6))
def test_any_text_gives_a_vocabulary_or_one_clear_error(names):
    try:
        vocabulary = Vocabulary.of(names)
    except VocabularyError:
        return
    assert len(vocabulary.names) == len(names)
    assert Vocabulary.of(list(vocabulary.names)) == vocabulary


def test_typed_names_are_parted_at_commas():
    assert parse_names("dog, traffic light,background").names == ("dog", "traffic light", "background")
    assert parse_names("dog,").names == ("dog",)
    with pytest.raises(VocabularyError, match="empty name"):
        parse_names("dog,,cat")


def test_a_names_file_holds_one_name_a_line(tmp_path):
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffdog\n\n# stuff\ngrass  # not a thing\r\n Été \n".encode())
    assert read_names(file).names == ("dog", "grass", "Été")


def test_a_yaml_file_holds_synonyms(tmp_path):
    file = tmp_path / "names.yaml"
    file.write_text("person: [man, woman]\ntv:\nno: on\n7: [seven]\ncrane: {instead: crane bird}\n")
    vocabulary = read_names(file)
    assert vocabulary.names == ("person", "tv", "no", "7", "crane")
    assert vocabulary.phrases[1:] == (("tv",), ("no", "on"), ("7", "seven"), ("crane bird",))
    file.write_text("- dog\n- person: [man]\n- background\n")
    assert read_names(file).names == ("dog", "person", "background")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.txt", b"dog, cat\n", "line 1 holds a comma"),
        ("names.txt", b"", "no names"),
        ("names.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("names.txt", None, "cannot be read .*No such file"),
        ("names.yaml", b"dog: [a\n", "not valid YAML"),
        ("names.yaml", b"dog: a\ndog: b\n", "'dog' is there twice"),
        ("names.yaml", b"- dog\n- dog\n", "'dog' is there twice"),
        ("names.yaml", b"- [dog]\n", "expected names or `name: synonyms`"),
        ("names.yaml", b"!!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("names.yaml", b"", "expected names"),
        ("names.yaml", b"[" * 50_000, "not valid YAML"),
    ],
)
def test_a_bad_names_file_is_named_with_its_fault(tmp_path, name, content, message):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(VocabularyError, match=message) as caught:
        read_names(file)
    assert str(file) in str(caught.value)
