"""The best pictures for every name: exact, however they are cut, and filtered with counts."""

import itertools
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.tiny_collection import COLOURS, ColourClip, embedder, encoded, picture, write_embeddings, write_pictures
from wordmask.collection import search as top_module
from wordmask.collection.archive import Archive
from wordmask.collection.embedding import embed
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.piles import open_pile
from wordmask.collection.references import CollectionError
from wordmask.collection.search import Queries, search
from wordmask.distillation import filters as filters_module
from wordmask.distillation.archive import ArchiveSettings, build_archive
from wordmask.distillation.filters import FilterError, FilterSettings, face_detector
from wordmask.distillation.published import import_archive, import_embeddings
from wordmask.distillation.records import DistillationError
from wordmask.names.vocabulary import Vocabulary


def brute_force(parts: list[np.ndarray], queries: Queries, most: int) -> list[tuple[list[int], list[float]]]:
    """One name at a time, one row at a time, in double precision; ties by the number of the row."""
    rows = np.concatenate(parts).astype(np.float64)
    best = []
    bounds = [*queries.firsts.tolist(), len(queries.vectors)]
    for start, stop in itertools.pairwise(bounds):
        scored = []
        for number, row in enumerate(rows):
            length = np.sqrt((row * row).sum())
            if np.isfinite(length) and length > 0:
                scored.append((max((row * phrase).sum() / length for phrase in queries.vectors[start:stop]), -number))
        scored.sort(reverse=True)
        best.append(([-number for _, number in scored[:most]], [score for score, _ in scored[:most]]))
    return best


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("owner", [[0, 1, 2, 3], [0, 0, 1, 2]])
def test_an_archive_is_that_of_a_brute_force_sort(tmp_path, monkeypatch, kind, owner):
    monkeypatch.setattr(top_module, "BLOCK_BYTES", 7 * 4 * 16)  # blocks of seven rows
    dice = np.random.default_rng(0)
    parts = [dice.normal(size=(count, 16)).astype(kind) for count in (40, 1, 59)]
    parts[0][5] = parts[2][7]  # equals, far apart
    parts[2][8] = 0
    parts[2][9] = np.nan
    parts[2][10] = np.inf
    parts[0][6] *= 1000  # long, but not like anything for it
    write_embeddings(tmp_path / "emb", parts)
    queries = Queries.of(dice.normal(size=(4, 16)), owner)
    for most in (1, 10, 96, 100):
        best = search(EmbeddingFolder(tmp_path / "emb"), queries, most)
        for name, (rows, scores) in enumerate(brute_force(parts, queries, most)):
            assert best.rows[name].tolist() == rows
            assert best.similarities[name].tolist() == scores


def test_equals_come_in_the_order_of_their_numbers(tmp_path):
    row = np.random.default_rng(1).normal(size=16).astype(np.float16)
    write_embeddings(tmp_path / "emb", [np.tile(row, (50, 1)), np.tile(row, (50, 1))])
    best = search(EmbeddingFolder(tmp_path / "emb"), Queries.of(np.ones((1, 16)), [0]), 60)
    assert best.rows[0].tolist() == list(range(60))


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_parts_searched_apart_and_joined_in_any_way_are_the_whole(tmp_path_factory, data):
    dice = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    # few values, so that there are many ties
    parts = [dice.integers(-1, 2, size=(int(dice.integers(1, 9)), 3)).astype(np.float16) for _ in range(4)]
    path = tmp_path_factory.mktemp("parts") / "emb"
    write_embeddings(path, parts)
    folder, queries = EmbeddingFolder(path), Queries.of(dice.normal(size=(2, 3)), [0, 1])
    most = data.draw(st.integers(1, 12))
    a, b, c, d = (search(folder, queries, most, [number]) for number in data.draw(st.permutations(range(4))))
    whole = search(folder, queries, most)
    for joined in (a.merge(b).merge(c).merge(d), a.merge(b.merge(c.merge(d))), a.merge(b).merge(c.merge(d))):
        for ours, theirs in ((joined.rows, whole.rows), (joined.similarities, whole.similarities)):
            assert [each.tolist() for each in ours] == [each.tolist() for each in theirs]


@pytest.fixture
def coloured(tmp_path):
    write_pictures(tmp_path / "pictures", 30)
    return embed(open_pile(tmp_path / "pictures"), ColourClip(), tmp_path / "embeddings")


def filtered(tmp_path, folder, names=("red",), size=5, **filters):
    chosen = ArchiveSettings(size=size, filters=FilterSettings(**filters))
    return build_archive(folder, Vocabulary.of(names), embedder(), tmp_path / "a.parquet", chosen)


def test_a_name_gets_the_pictures_that_look_like_it(tmp_path, coloured):
    archive = filtered(tmp_path, coloured, ["blue", "red", "background"], size=6)
    assert archive.names == ("blue", "red")
    for name in archive.names:
        entries = archive.entries(name)
        assert [entry.rank for entry in entries] == list(range(6))
        assert all(name in entry.image.path and entry.best_name == name for entry in entries)
        similarities = [entry.similarity for entry in entries]
        assert similarities == sorted(similarities, reverse=True)
        assert entries[0].size == (12, 16)
    again = Archive(tmp_path / "a.parquet")
    assert again.entries("red") == archive.entries("red")
    assert (again.counts["red"].kept, again.pictures) == (6, 30)


def test_fewer_pictures_than_asked_for_are_all_taken_and_told(tmp_path, coloured):
    archive = filtered(tmp_path, coloured, size=500)
    assert len(archive) == archive.counts["red"].kept == 30
    assert {entry.image.path for entry in archive.entries("red")} == {f.name for f in (tmp_path / "pictures").iterdir()}


def test_one_word_for_two_things_is_told_apart_by_a_phrase(tmp_path, coloured):
    names = {"crane": {"instead": "blue crane"}, "tower": {"instead": ["green crane", "tall green crane"]}}
    archive = filtered(tmp_path, coloured, names, size=4)
    for name, colour in (("crane", "blue"), ("tower", "green")):
        assert all(colour in entry.image.path for entry in archive.entries(name))


def test_near_duplicates_give_way_to_the_next_best(tmp_path):
    paths = write_pictures(tmp_path / "pictures", 12)
    for number in range(5):
        (tmp_path / "pictures" / f"copy {number}.png").write_bytes(paths[0].read_bytes())
    folder = embed(open_pile(tmp_path / "pictures"), ColourClip(), tmp_path / "embeddings")
    archive = filtered(tmp_path, folder, size=3, duplicates=0.99999)
    vectors = folder.vectors([entry.row for entry in archive.entries("red")])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (vectors @ vectors.T - np.eye(3)).max() < 0.99999
    assert archive.counts["red"].dropped["near-duplicate"] >= 5
    assert archive.counts["red"].kept == 3


def test_small_pictures_and_those_that_are_gone_give_way(tmp_path, coloured):
    pictures, small = tmp_path / "pictures", encoded(picture(3, "red", (6, 6)))
    (pictures / "000 red.png").unlink()
    (pictures / "003 red.png").write_bytes(small)
    archive = filtered(tmp_path, coloured, size=20, smallest_side=10)
    assert archive.counts["red"].dropped == {"unreadable": 1, "too small": 1}
    assert len(archive) == 20
    assert not {"000 red.png", "003 red.png"} & {entry.image.path for entry in archive.entries("red")}
    for path in pictures.glob("*red.png"):  # so many that more must be looked at
        path.write_bytes(small)
    archive = filtered(tmp_path, coloured, size=18, smallest_side=10)
    assert (archive.counts["red"].dropped["too small"], archive.counts["red"].kept) == (9, 18)


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"punsafe": [0.1, 0.9, float("nan"), 0.5, 0.2, None], "NSFW": ["UNLIKELY"] * 6}, [0, 3, 4, 5]),
        ({"NSFW": ["UNLIKELY", "NSFW", "UNSURE", None, "UNLIKELY", "?"]}, [0, 4]),
    ],
)
def test_unsafe_pictures_are_left_out_by_laions_columns(tmp_path, columns, rows):
    names = [path.name for path in write_pictures(tmp_path / "root", 6, colours=("red",))]
    vectors = np.tile(np.array([[1, 0.1, 0.1]], np.float16), (6, 1))
    write_embeddings(tmp_path / "emb", [vectors], {"image_path": names, **columns})
    archive = filtered(tmp_path, EmbeddingFolder(tmp_path / "emb", root=tmp_path / "root"), unsafe=True)
    assert [entry.row for entry in archive.entries("red")] == rows


def test_without_laions_columns_unsafe_says_what_to_do(tmp_path, coloured):
    with pytest.raises(FilterError, match="unsafe_names"):
        filtered(tmp_path, coloured, unsafe=True)


def test_pictures_more_like_an_unsafe_name_are_left_out(tmp_path, coloured):
    red, blue = (np.array(COLOURS[name]) / np.linalg.norm(COLOURS[name]) for name in ("red", "blue"))
    vectors = coloured.vectors(np.arange(30))
    unsafe = set(np.flatnonzero(vectors @ blue > vectors @ red).tolist())
    archive = filtered(tmp_path, coloured, size=30, unsafe_names=("blue",))
    assert archive.counts["red"].dropped["unsafe by name"] == len(unsafe) >= 10
    assert {entry.row for entry in archive.entries("red")} == set(range(30)) - unsafe


def test_a_name_that_nothing_is_like_is_an_error_that_names_it(tmp_path, coloured):
    with pytest.raises(DistillationError, match=r"left for 'red'.*30 unlike.*archive\.filters"):
        filtered(tmp_path, coloured, names=("grey", "red"), least_similarity=0.95)


def test_embeddings_of_another_clip_are_refused(tmp_path):
    write_embeddings(tmp_path / "emb", [np.zeros((2, 7), np.float16)])
    with pytest.raises(CollectionError, match="7 numbers.*3"):
        filtered(tmp_path, EmbeddingFolder(tmp_path / "emb"))


def face() -> np.ndarray:
    """Eyes, brows, nose and mouth on an oval, shaded as Viola and Jones's features expect them."""
    y, x = np.mgrid[0:200, 0:200].astype(np.float64)
    grey = np.full((200, 200), 90.0)
    eyes = [(cx, *part) for cx in (76, 124) for part in ((82, 18, 12, 120), (82, 8, 7, 30), (66, 18, 4, 60))]
    mouth = [(100, 108, 8, 18, 225), (100, 124, 12, 4, 130), (100, 146, 24, 7, 70)]
    for cx, cy, rx, ry, shade in ((100, 100, 62, 82, 200), *eyes, *mouth):
        grey[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = shade
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def test_faces_are_found_by_the_detector_that_opencv_brings_or_the_error_says_what_to_give():
    import cv2

    if not hasattr(cv2, "CascadeClassifier"):  # OpenCV 5 has dropped it
        with pytest.raises(FilterError, match="YuNet"):
            face_detector("opencv")
        return
    find = face_detector("opencv")
    assert (find(face()), find(picture(0, "red", (200, 200)))) == (1, 0)


def test_a_face_model_that_is_none_is_refused(tmp_path):
    with pytest.raises(FilterError, match="neither 'opencv' nor"):
        face_detector(str(tmp_path / "none.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(FilterError, match="no YuNet model"):
        face_detector(str(tmp_path / "bad.onnx"))


def test_pictures_with_faces_are_left_out_and_looked_at_once(tmp_path, coloured, monkeypatch):
    looked = []

    def find(image):
        looked.append(image)
        return int(image[..., 2].mean() > image[..., 0].mean())  # whatever is bluish has a face

    monkeypatch.setattr(filters_module, "face_detector", lambda detector: find)
    archive = filtered(tmp_path, coloured, names=("red", "green"), size=30, faces="opencv")
    assert archive.counts["red"].dropped["face"] == archive.counts["green"].dropped["face"] >= 10
    assert len(looked) == 30


def test_a_published_archive_finds_its_pictures_below_any_root(tmp_path):
    for name in ("n01", "n02"):
        write_pictures(tmp_path / "imagenet" / "train" / name, 2)
    lists = {
        "dining_table": [f"/home/somebody/ImageNet/train/n01/{f}.png" for f in ("000 red", "gone", "001 green")],
        "crane": ["/home/somebody/ImageNet/train/n02/001 green.png", "/x/train/../../../etc/passwd"],
    }
    (tmp_path / "published.json").write_text(json.dumps(lists))

    def imported(root, **options):
        return import_archive(tmp_path / "published.json", root, tmp_path / "a.parquet", 500, **options)

    for root in (tmp_path / "imagenet", tmp_path / "imagenet" / "train"):
        told = []
        archive = imported(root, progress=lambda *done: told.append(done))  # noqa: B023
        assert told == [(0, 2), (1, 2)]
        assert archive.names == ("dining table", "crane")
        tables = [entry.image.path.rpartition("/")[2] for entry in archive.entries("dining table")]
        assert tables == ["000 red.png", "001 green.png"]
        assert archive.counts["dining table"].dropped == {"unreadable": 1}
        (crane,) = archive.entries("crane")
        assert crane.image.open(archive.root).shape == (12, 16, 3)
    with pytest.raises(DistillationError, match=r"no picture of .*holds train/"):
        imported(tmp_path)
    with pytest.raises(DistillationError, match="no archive of 'dog'"):
        imported(tmp_path, names=Vocabulary.of(["dog"]))


def test_published_embeddings_become_a_folder_in_the_usual_layout(tmp_path):
    numbers, names = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)), [f"n0_{n}.JPEG" for n in range(3)]
    (tmp_path / "e.pkl").write_bytes(pickle.dumps({names[n]: numbers[n] for n in (2, 0, 1)}))
    told = []
    how = {"clip": "ViT-L-14-336/openai", "progress": lambda *done: told.append(done)}
    folder = import_embeddings(tmp_path / "e.pkl", tmp_path, tmp_path / "out", **how)
    assert told == [(0, 3)]
    assert [row["image_path"] for row in folder.told([0, 1, 2])] == names
    assert np.array_equal(folder.vectors([0, 1, 2]), numbers.double().numpy())  # to the last bit
    assert folder.clip == "ViT-L-14-336/openai"
