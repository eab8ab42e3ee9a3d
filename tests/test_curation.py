"""Down a ranking past what filters drop: as a plain walk over the whole collection would, in bounded memory."""

import numpy as np
import pytest
from PIL import Image

from support.shard_tasks import OneHere
from support.tiny_collection import COLOURS, embedder, encoded, picture, write_embeddings, write_pictures
from wordmask.collection import search as top
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.search import HEAD, Queries, rows_with_direction, search
from wordmask.distillation import curation
from wordmask.distillation import filters as filters_module
from wordmask.distillation.archive import ArchiveSettings, build_archive
from wordmask.distillation.filters import FilterSettings
from wordmask.distillation.records import DistillationError
from wordmask.names.vocabulary import Vocabulary

NAMES = ["red", "green", "blue"]
PICTURES, ROWS = 30, 70


@pytest.fixture(scope="module")
def pile(tmp_path_factory):
    """Pictures of several sizes, some of them gone, some listed twice; few directions, so that there are ties."""
    place, dice = tmp_path_factory.mktemp("pile"), np.random.default_rng(5)
    paths = write_pictures(place / "root", PICTURES)
    for number in (3, 4, 11):
        paths[number].write_bytes(encoded(picture(number, "red", (6, 6))))
    vectors = dice.integers(0, 5, size=(ROWS, 3)).astype(np.float32)
    vectors[7], vectors[50] = 0, np.nan
    names = [path.name for path in paths] + [f"gone {number}.png" for number in range(10)]
    columns = {"image_path": [names[i] for i in dice.integers(0, len(names), ROWS)]}
    columns["punsafe"] = dice.random(ROWS).tolist()
    write_embeddings(place / "emb", [vectors[:20], vectors[20:21], vectors[21:]], columns)
    return EmbeddingFolder(place / "emb", root=place / "root"), vectors.astype(np.float64), columns


def directions(vectors):
    with np.errstate(invalid="ignore"):
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def direction_of(colour):
    return directions(np.array([COLOURS[colour]], np.float64))[0]


def has_face(image):
    return int(image[..., 0].mean() > 135)


def slowly(pile, name, size, filters):
    """Rows, similarities and counts, one picture after the other in the order of a plain sort."""
    folder, vectors, columns = pile
    names = columns["image_path"]
    phrase = directions(embedder()(Vocabulary.of([name])).vectors.numpy().astype(np.float64))[0]
    similar = {row: float((v * phrase).sum() / np.sqrt((v * v).sum())) for row, v in enumerate(vectors) if v @ v > 0}
    unit = {row: vectors[row] / np.sqrt(vectors[row] @ vectors[row]) for row in similar}
    kept, dropped, looked_at = [], {}, 0
    for row in sorted(similar, key=lambda row: (-similar[row], row)):
        if len(kept) == size:
            break
        looked_at += 1
        path, why = folder.root / names[row], ""
        if "least_similarity" in filters and similar[row] < filters["least_similarity"]:
            why = "unlike"
        elif "unsafe" in filters and columns["punsafe"][row] > 0.5:
            why = "unsafe"
        elif any(unit[row] @ direction_of(no) > similar[row] + 1e-9 for no in filters.get("unsafe_names", ())):
            why = "unsafe by name"
        elif not path.exists():
            why = "unreadable"
        elif "smallest_side" in filters and min(Image.open(path).size) < filters["smallest_side"]:
            why = "too small"
        elif "duplicates" in filters and any(unit[row] @ unit[other] >= filters["duplicates"] for other in kept):
            why = "near-duplicate"
        elif "faces" in filters and has_face(np.asarray(Image.open(path))):
            why = "face"
        elif names[row] in {names[other] for other in kept}:
            why = "listed twice"
        if why:
            dropped[why] = dropped.get(why, 0) + 1
        else:
            kept.append(row)
    return kept, [similar[row] for row in kept], looked_at, dropped


@pytest.mark.parametrize("size", [1, 6, 100])
@pytest.mark.parametrize("crew", [None, OneHere()], ids=["one pass", "by shards"])
@pytest.mark.parametrize("memory", ["much", "little"])
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"least_similarity": 0.8},
        {"unsafe": True},
        {"unsafe_names": ("green",)},
        {"smallest_side": 10},
        {"duplicates": 0.9},
        {"faces": "opencv"},
        {"least_similarity": 0.5, "duplicates": 0.97, "smallest_side": 10, "unsafe": True},
    ],
    ids=lambda filters: "+".join(filters) or "none",
)
def test_archives_are_those_of_a_plain_walk_over_the_whole_ranking(
    pile, tmp_path, monkeypatch, filters, memory, crew, size
):
    if memory == "little":
        spare = {"CANDIDATES_TOGETHER": 4, "RANKS_TOGETHER": 9, "NAMES_TOGETHER": 2, "LEAST_SPARE": 1}
        for module, values in ((curation, spare), (top, {"RESCORED_ROWS": 3, "BLOCK_BYTES": 5 * 4 * 3})):
            for key, value in values.items():
                monkeypatch.setattr(module, key, value)
    monkeypatch.setattr(filters_module, "face_detector", lambda detector: has_face)
    names = [name for name in NAMES if name not in filters.get("unsafe_names", ())]
    chosen = ArchiveSettings(size=size, filters=FilterSettings(**filters))
    archive = build_archive(pile[0], Vocabulary.of(names), embedder(), tmp_path / "a.parquet", chosen, crew=crew)
    likeness = directions(pile[1]) @ np.stack([direction_of(name) for name in names]).T
    for name in names:
        rows, similarities, looked_at, dropped = slowly(pile, name, size, filters)
        entries = archive.entries(name)
        assert [entry.row for entry in entries] == rows
        assert [entry.rank for entry in entries] == list(range(len(rows)))
        assert [entry.similarity for entry in entries] == similarities
        best = likeness[rows].max(axis=1)
        assert all(likeness[e.row, names.index(e.best_name)] > best[e.rank] - 1e-6 for e in entries)
        counts = archive.counts[name]
        assert (counts.looked_at, counts.kept) == (looked_at, len(rows))
        assert {label: number for label, number in counts.dropped.items() if number} == dropped


@pytest.mark.parametrize("step", [1, 4, 33])
def test_a_ranking_searched_stretch_by_stretch_is_the_whole(pile, step):
    folder, queries = pile[0], Queries.of(np.random.default_rng(0).normal(size=(4, 3)), [0, 0, 1, 2])
    whole = search(folder, queries, ROWS)
    ranked = int(np.count_nonzero((pile[1] ** 2).sum(axis=1) > 0))
    assert 0 < ranked < ROWS
    assert [len(rows) for rows in whole.rows] == [rows_with_direction(folder)] * 3 == [ranked] * 3
    places, pieces = [HEAD, None, HEAD], [[], [], []]
    for _ in range(0, ROWS, step):
        part = search(folder, queries, step, after=places)
        for name, (rows, values) in enumerate(zip(part.rows, part.similarities, strict=True)):
            pieces[name].extend(zip(rows.tolist(), values.tolist(), strict=True))
            if len(rows):
                places[name] = (float(values[-1]), int(rows[-1]))
    for name in range(3):
        assert pieces[name] == list(zip(whole.rows[name].tolist(), whole.similarities[name].tolist(), strict=True))


class Read:
    """How much of a collection is read, and how much of it is held at once."""

    def __init__(self, monkeypatch):
        self.told, self.vectors, self.found, self.alive, self.most_alive = [], [], [], 0, 0
        for method in ("told", "vectors"):
            monkeypatch.setattr(EmbeddingFolder, method, self._counted(getattr(EmbeddingFolder, method), method))
        read = self

        def searched(*args, **kwargs):
            best = search(*args, **kwargs)
            read.found.append(sum(map(len, best.rows)))
            return best

        class Candidate(curation.Candidate):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                read.alive += 1
                read.most_alive = max(read.most_alive, read.alive)

            def __del__(self):
                read.alive -= 1

        monkeypatch.setattr(curation, "search", searched)
        monkeypatch.setattr(curation, "Candidate", Candidate)

    def _counted(self, method, name):
        def counted(folder, rows):
            getattr(self, name).append(len(rows))
            return method(folder, rows)

        return counted


def large_pile(place, rows, safe):
    write_pictures(place / "root", safe)
    paths = [f"nothing {number}.png" for number in range(rows)]
    vectors = np.random.default_rng(1).random((rows, 3)).astype(np.float16)
    last = np.argsort(directions(vectors.astype(np.float64)) @ direction_of("red"), kind="stable")[:safe].tolist()
    for row, path in zip(last, sorted((place / "root").iterdir()), strict=True):
        paths[row] = path.name
    columns = {"image_path": paths, "punsafe": [0.0 if row in last else 1.0 for row in range(rows)]}
    write_embeddings(place / "emb", [vectors], columns)
    return EmbeddingFolder(place / "emb", root=place / "root")


def archive_of_red(folder, tmp_path, size, **filters):
    chosen = ArchiveSettings(size=size, filters=FilterSettings(**filters))
    return build_archive(folder, Vocabulary.of(["red"]), embedder(), tmp_path / "a.parquet", chosen)


@pytest.mark.parametrize("rows", [1000, 4000])
def test_a_filter_that_rejects_nearly_all_makes_no_more_be_held_at_once(tmp_path, monkeypatch, rows):
    folder = large_pile(tmp_path, rows, safe=4)
    for module, key in ((curation, "CANDIDATES_TOGETHER"), (curation, "RANKS_TOGETHER"), (top, "RESCORED_ROWS")):
        monkeypatch.setattr(module, key, 100)
    read = Read(monkeypatch)
    archive = archive_of_red(folder, tmp_path, 4, unsafe=True)
    assert archive.counts["red"].dropped["unsafe"] == rows - 4
    assert len(archive.entries("red")) == 4
    assert max(*read.told, *read.vectors, *read.found) <= 100
    assert read.most_alive <= 2
    assert sum(read.told) == rows


def test_nothing_is_looked_at_below_the_least_similarity(tmp_path, monkeypatch):
    folder = large_pile(tmp_path, 4000, safe=1)
    likeness = directions(folder.vectors(np.arange(4000))) @ direction_of("red")
    least, looked_at, read = float(np.sort(likeness)[-25]), [], Read(monkeypatch)
    monkeypatch.setattr(curation, "CANDIDATES_TOGETHER", 10)
    monkeypatch.setattr(filters_module.Candidate, "size", property(lambda self: looked_at.append(self.row)))
    with pytest.raises(DistillationError, match=r"of 4000 looked at, 3975 unlike, 25 unreadable"):
        archive_of_red(folder, tmp_path, 20, least_similarity=least - 1e-6)
    assert len(set(looked_at)) == 25
    assert sum(read.told) == 30
