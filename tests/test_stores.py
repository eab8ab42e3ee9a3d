"""Piles and embeddings in object stores: S3 as moto's server speaks it on this machine, and plain HTTP to read."""

import io
import json
import logging
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow.parquet as pq
import pytest

from support.embedding_files import SETTINGS, files_in
from support.shard_tasks import colour_clip
from support.tiny_collection import ColourClip, encoded, picture, write_pictures, write_tar
from support.tiny_run import pipeline_with
from wordmask.collection.embedding import Embedding, embed
from wordmask.collection.piles import open_pile
from wordmask.collection.references import CollectionError
from wordmask.collection.stores import StoreError, place_at, place_to_write
from wordmask.distillation.config import ConfigError
from wordmask.errors import WordmaskError
from wordmask.runs.crew import Processes
from wordmask.runs.shards import Share

WHY = "is not installed: pip install 'wordmask[cluster]'"
pytest.importorskip("upath", reason=f"universal-pathlib {WHY}")


@pytest.fixture(scope="module")
def s3():
    """A bucket of an S3 server that runs in this process."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install s3fs")
    server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    url = "http://{}:{}".format(*running.get_host_and_port())
    with pytest.MonkeyPatch.context() as patched:
        told = {"AWS_ACCESS_KEY_ID": "of", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in (told | {"AWS_ENDPOINT_URL": url}).items():
            patched.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="pile")
        yield client
    running.stop()


@pytest.fixture
def tars(tmp_path):
    for number in range(4):
        members = {f"{n}.png": encoded(picture(10 * number + n)) for n in range(3)}
        write_tar(tmp_path / "tars" / f"{number:05d}.tar", members | {"bad.png": b"none"})
    return tmp_path / "tars"


def sent(client, folder, prefix):
    for path in sorted(folder.iterdir()):
        client.put_object(Bucket="pile", Key=f"{prefix}/{path.name}", Body=path.read_bytes())
    return f"s3://pile/{prefix}"


def objects(client, prefix):
    listed = client.list_objects_v2(Bucket="pile", Prefix=f"{prefix}/").get("Contents", [])
    got = partial(client.get_object, Bucket="pile")
    return {each["Key"].removeprefix(f"{prefix}/"): got(Key=each["Key"])["Body"].read() for each in listed}


def rows_of(content):
    return pq.read_table(io.BytesIO(content)).to_pylist()


def same_embeddings(one, other):
    """Files of two folders, whose shards' fingerprints differ with the place that their pictures are at."""
    names = {name for name in one if not name.startswith("collection") and ".checksums" not in name}
    assert names == {name for name in other if not name.startswith("collection") and ".checksums" not in name}
    for name in names:
        if name.endswith(".parquet"):
            assert rows_of(one[name]) == rows_of(other[name])
        else:
            assert one[name] == other[name]


def test_tars_in_a_store_are_embedded_into_a_store(s3, tars, tmp_path):
    embed(open_pile(tars), ColourClip(), tmp_path / "here", SETTINGS)
    pile, out = open_pile(sent(s3, tars, "a/tars")), place_to_write("s3://pile/a/out")
    for which in (2, 1):
        work = Embedding(pile, ColourClip(), out, SETTINGS)
        work.begin()
        work.make(share=Share(which, 2))
        assert len(work.missing()) == (2 if which == 2 else 0)
    about = work.finish()
    assert (about["pictures"], about["bad_pictures"]) == (12, 4)
    there = objects(s3, "a/out")
    same_embeddings(there, files_in(tmp_path / "here"))
    told = json.loads(there["collection.json"])
    assert (told["finished"], told["root"]) == (True, "s3://pile/a/tars")
    assert not [name for name in there if ".part" in name or ".wordmask" in name]


def test_only_what_changed_in_a_store_is_embedded_anew(s3, tars, tmp_path):
    source = sent(s3, tars, "b/tars")

    def looked():
        clip = ColourClip()
        work = Embedding(open_pile(source), clip, place_to_write("s3://pile/b/out"), SETTINGS)
        work.begin()
        work.make()
        work.finish()
        return clip.pictures

    assert (looked(), looked()) == (12, 0)
    write_tar(tars / "00001.tar", {f"{n}.png": encoded(picture(90 + n)) for n in range(3)} | {"bad.png": b"none"})
    sent(s3, tars, "b/tars")
    assert looked() == 3, "the same size within the same second: the store's own mark tells"


def test_a_list_in_a_store_names_pictures_beside_it(s3, tmp_path):
    write_pictures(tmp_path / "pictures", 4)
    names = [path.name for path in sorted((tmp_path / "pictures").iterdir())]
    (tmp_path / "pictures" / "some.txt").write_text("".join(f"{name}\n" for name in [*names, "away.png"]))
    embed(open_pile(tmp_path / "pictures" / "some.txt"), ColourClip(), tmp_path / "one", SETTINGS)
    source = sent(s3, tmp_path / "pictures", "c")
    folder = embed(open_pile(f"{source}/some.txt"), ColourClip(), tmp_path / "out", SETTINGS)
    same_embeddings(files_in(tmp_path / "out"), files_in(tmp_path / "one"))
    assert (len(folder), folder.about["bad_pictures"]) == (4, 1)
    assert np.array_equal(folder.references(folder.told([2]))[0].open(place_at(source)), picture(2, "blue"))


def test_a_picture_of_a_tar_is_read_without_the_rest(s3, tars, tmp_path):
    source = sent(s3, tars, "d/tars")
    folder = embed(open_pile(source), ColourClip(), tmp_path / "out", SETTINGS)
    ref = folder.references(folder.told([4]))[0]
    assert np.array_equal(ref.open(place_at(source)), picture(11))


def test_a_store_that_does_not_answer_fails_the_shard_and_loses_no_picture(s3, tars, tmp_path, monkeypatch):
    pile = open_pile(sent(s3, tars, "e/tars"))
    s3.delete_object(Bucket="pile", Key="e/tars/00002.tar")
    work = Embedding(pile, ColourClip(), tmp_path / "out", SETTINGS, survey=pile.survey())
    work.begin()
    with pytest.raises(StoreError, match="s3://pile/e/tars/00002.tar: "):
        work.make()
    assert len(work.missing()) == 2


@pytest.mark.slow
def test_processes_send_their_shards_to_a_store(s3, tars, tmp_path):
    embed(open_pile(tars), ColourClip(), tmp_path / "here", SETTINGS)
    pile, out = open_pile(sent(s3, tars, "f/tars")), place_to_write("s3://pile/f/out")
    work = Embedding(pile, ColourClip(), out, SETTINGS)
    work.begin()
    work.make(crew=Processes(2), load=colour_clip)
    work.finish()
    same_embeddings(objects(s3, "f/out"), files_in(tmp_path / "here"))


def test_the_verb_reads_from_a_store_and_writes_to_one(s3, tars, tmp_path, command, monkeypatch):
    monkeypatch.setattr("wordmask.encoders.clip_building.clip_at", lambda *_: ColourClip())
    source = sent(s3, tars, "g/tars")
    status, out, err = command("embed", source, "--out", "s3://pile/g/out")
    assert status == 0, err
    assert out == "s3://pile/g/out: embeddings of 12 pictures\n"
    assert "collection.json" in objects(s3, "g/out")
    assert command("embed", source, "--out", tmp_path / "here")[0] == 0
    assert "  s3://pile/g/tars/0000" in command("search", "red", "--collection", tmp_path / "here")[1]
    with pytest.raises(ConfigError, match="the pictures of .*here are in a store, s3://pile/g/tars: mount it"):
        pipeline_with(tmp_path / "here", tmp_path / "run").run_all()


@pytest.mark.parametrize("place", ["s3://pile/nothing", "s3://nowhere/tars"])
def test_an_empty_place_is_refused(s3, place):
    with pytest.raises(WordmaskError, match="no tars found in|s3://nowhere"):
        open_pile(place)


def test_a_tar_is_read_over_http_and_nothing_written(tars, tmp_path):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install aiohttp")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *told):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tars)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/00001.tar"
        folder = embed(open_pile(url), ColourClip(), tmp_path / "out", SETTINGS)
        server.shutdown()
    assert (len(folder), folder.about["bad_pictures"]) == (3, 1)
    with pytest.raises(StoreError, match="can only be read"):
        place_to_write("https://example.org/out")


def test_a_store_without_its_package_is_refused_in_a_line():
    with pytest.raises((StoreError, CollectionError), match="nosuch"):
        open_pile("nosuch://bucket/tars")
