"""Search by shards: the best of the parts are the best of one pass."""

import json

import numpy as np
import pytest

from support.tiny_collection import ColourClip, write_embeddings
from wordmask.collection import search_shards
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.references import CollectionError
from wordmask.collection.search import Queries, search
from wordmask.collection.search_shards import Searched, joined_parts, missing_parts, search_by_shards
from wordmask.runs.crew import Processes
from wordmask.runs.shards import Share

DICE = np.random.default_rng(3)


@pytest.fixture
def searched(tmp_path):
    """Shards of several sizes, one smaller than what is looked for, with rows that are alike and one without a
    direction.
    """
    parts = [DICE.standard_normal((rows, 5)).astype(np.float16) for rows in (40, 3, 60, 25)]
    parts[2][:10] = parts[0][:10]
    parts[3][0] = 0
    write_embeddings(tmp_path / "embeddings", parts)
    queries = Queries.of(DICE.standard_normal((4, 5)), [0, 0, 1, 2])
    return Searched(EmbeddingFolder(tmp_path / "embeddings"), queries, 20)


def same(one, other):
    return all(map(np.array_equal, one.rows + one.similarities, other.rows + other.similarities))


def test_shares_find_what_one_pass_finds(searched, tmp_path):
    out = tmp_path / "parts"
    for which in (2, 1):
        search_by_shards(searched, out, share=Share(which, 2))
        assert len(missing_parts(searched, out)) == (2 if which == 2 else 0)
    whole = search(searched.folder, searched.queries, 20)
    assert same(joined_parts(searched, out), whole)
    vectors = np.concatenate([np.load(shard.embeddings) for shard in searched.folder.shards])
    similar = np.nan_to_num(searched.queries.exact(vectors, 0), nan=-2)
    assert np.array_equal(whole.rows[0], np.lexsort((np.arange(128), -similar))[:20])


def test_processes_find_what_one_pass_finds(searched, tmp_path):
    search_by_shards(searched, tmp_path / "parts", crew=Processes(1, time_limit=300))
    assert same(joined_parts(searched, tmp_path / "parts"), search(searched.folder, searched.queries, 20))


def test_parts_of_other_questions_or_other_embeddings_are_made_anew(searched, tmp_path, monkeypatch):
    out, asked = tmp_path / "parts", []
    real = search_shards.search
    monkeypatch.setattr(search_shards, "search", lambda *given, **how: asked.append(given[3]) or real(*given, **how))
    search_by_shards(searched, out)
    assert asked == [[0], [1], [2], [3]]
    search_by_shards(searched, out)
    assert len(asked) == 4
    path = searched.folder.shards[1].embeddings
    np.save(path, -np.load(path))
    with pytest.raises(CollectionError, match="1 part missing, as that of shard 1"):
        joined_parts(searched, out)
    search_by_shards(searched, out)
    assert asked[4:] == [[1]]
    (out / "best_00002.npz").write_bytes(b"PK\3\4 cut")
    search_by_shards(searched, out)
    assert asked[5:] == [[2]]
    search_by_shards(Searched(searched.folder, searched.queries, 19), out)
    assert len(asked) == 10


def test_the_verb_joins_what_shares_found(tmp_path, command, monkeypatch):
    monkeypatch.setattr("wordmask.encoders.clip_building.clip_at", lambda *_: ColourClip())
    write_embeddings(tmp_path / "embeddings", [DICE.random((9, 3)).astype(np.float16) for _ in range(3)])
    line = ("search", "green", "--collection", tmp_path / "embeddings", "--top", 4)
    share = (*line, "--parts", tmp_path / "parts", "--json")
    assert json.loads(command(*share, "--shards", "1/2")[1])["missing"] == 1
    assert command(*share, "--merge")[0] == 1
    status, out, err = command(*share, "--shards", "2/2")
    assert status == 0, err
    assert out == command(*line, "--json")[1] == command(*share, "--merge")[1]
    assert command(*line, "--shards", "1/2")[0] == 2, "where are the parts?"
