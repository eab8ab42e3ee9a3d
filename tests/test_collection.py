"""Piles of pictures, and their embeddings."""

import json
import os
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from support.tiny_collection import ColourClip, encoded, picture, write_embeddings, write_pictures, write_tar
from wordmask.collection import embedding as embedding_module
from wordmask.collection.embedding import EmbeddingSettings, VanishedError, embed
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.piles import open_pile
from wordmask.collection.references import CollectionError
from wordmask.collection.tars import pictures_in
from wordmask.pictures.images import centre_crop, read_image
from wordmask.pictures.left_out import read_left_out


def names_in(folder: EmbeddingFolder) -> list[str]:
    return [row["image_path"] for row in folder.told(np.arange(len(folder)))]


def bad_in(folder: EmbeddingFolder) -> dict[str, str]:
    lines = (folder.folder / "bad_images.jsonl").read_text().splitlines()
    return {line["image"]: line["reason"] for line in map(json.loads, lines)}


def test_every_picture_of_a_tree_is_embedded_in_the_order_of_its_path(tmp_path):
    write_pictures(tmp_path / "pictures" / "b", 3)
    write_pictures(tmp_path / "pictures" / "a", 2)
    folder = embed(open_pile(tmp_path / "pictures"), ColourClip(), tmp_path / "out")
    assert names_in(folder) == [
        "a/000 red.png",
        "a/001 green.png",
        *(f"b/{n}.png" for n in ("000 red", "001 green", "002 blue")),
    ]
    expected = []
    for name in names_in(folder):
        image = read_image(tmp_path / "pictures" / name)
        mean = centre_crop(image, (8, 8)).numpy().astype(np.float64).mean(axis=(1, 2))
        expected.append(mean / np.linalg.norm(mean))
    assert np.abs(folder.vectors(np.arange(5)) - expected).max() < 1e-3  # half floats
    assert np.load(folder.shards[0].embeddings).dtype == np.float16


def test_like_names_in_different_folders_and_letters_of_any_script_are_kept_apart(tmp_path):
    for place in ("x", "y", "жук", "犬"):
        write_pictures(tmp_path / "pictures" / place, 1)
    folder = embed(open_pile(tmp_path / "pictures"), ColourClip(), tmp_path / "out")
    assert sorted(names_in(folder)) == ["x/000 red.png", "y/000 red.png", "жук/000 red.png", "犬/000 red.png"]
    refs = folder.references(folder.told([2]))
    assert np.array_equal(refs[0].open(folder.root), picture(0))


def test_films_and_the_like_are_listed_and_change_no_embeddings(tmp_path, counted_notices):
    write_pictures(tmp_path / "pictures", 2)
    before = open_pile(tmp_path / "pictures").survey().digest
    (tmp_path / "pictures" / "deep").mkdir()
    for name in ("clip.mp4", "deep/art.psd"):
        (tmp_path / "pictures" / name).write_bytes(b"something")
    (tmp_path / "pictures" / "bad.png").write_bytes(b"no picture")
    pile = open_pile(tmp_path / "pictures")
    folder = embed(pile, ColourClip(), tmp_path / "out")
    assert [name for name, _ in read_left_out(tmp_path / "out" / "left-out.txt")] == [
        "bad.png",
        "clip.mp4",
        "deep/art.psd",
    ]
    assert (len(folder), folder.about["bad_pictures"], set(bad_in(folder))) == (2, 1, {"bad.png"})
    (tmp_path / "pictures" / "bad.png").unlink()
    assert pile.survey().digest == before
    assert sum(counted_notices.passed_over().values()) == 2


def test_broken_pictures_are_counted_and_listed_and_cost_nothing_else(tmp_path):
    paths = write_pictures(tmp_path / "pictures", 20)
    paths[3].write_bytes(b"no picture")
    paths[7].write_bytes(paths[7].read_bytes()[:60])
    strange = os.fsencode(tmp_path / "pictures") + b"/\xff.png"
    with open(strange, "wb") as file:  # noqa: PTH123 (a name that is no text)
        file.write(encoded(picture(0)))
    folder = embed(open_pile(tmp_path / "pictures"), ColourClip(), tmp_path / "out")
    assert len(folder) == 18
    bad = bad_in(folder)
    assert set(bad) == {"003 red.png", "007 green.png", "\\xff.png"}
    assert "not UTF-8" in bad["\\xff.png"]
    assert folder.about["bad_pictures"] == 3


def test_a_pile_of_nothing_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CollectionError, match="no pictures found"):
        open_pile(tmp_path / "empty").survey()
    with pytest.raises(CollectionError, match="there is no"):
        open_pile(tmp_path / "nowhere")
    (tmp_path / "empty" / "a.jpg").write_bytes(b"")
    with pytest.raises(CollectionError, match="none of the 1 pictures"):
        embed(open_pile(tmp_path / "empty"), ColourClip(), tmp_path / "out")


def test_a_list_names_pictures_relative_to_itself_or_to_a_root(tmp_path):
    write_pictures(tmp_path / "pictures", 3)
    (tmp_path / "some.txt").write_text("pictures/002 blue.png\r\n\npictures/000 red.png\nmissing.png\n")
    folder = embed(open_pile(tmp_path / "some.txt"), ColourClip(), tmp_path / "out")
    assert names_in(folder) == ["pictures/002 blue.png", "pictures/000 red.png"]
    assert "no such file" in bad_in(folder)["missing.png"]
    (tmp_path / "other.txt").write_text("001 green.png\n")
    folder = embed(open_pile(tmp_path / "other.txt", root=tmp_path / "pictures"), ColourClip(), tmp_path / "out2")
    assert folder.references(folder.told([0]))[0].open(folder.root).shape == (12, 16, 3)


def test_a_tar_beside_pictures_is_not_taken_for_the_collection(tmp_path):
    write_pictures(tmp_path, 2)
    (tmp_path / "backup.tar").write_bytes(b"")
    with pytest.raises(CollectionError, match=r"holds a tar \(backup.tar\) and pictures beside it"):
        open_pile(tmp_path)


def test_tars_are_read_without_extracting_anything(tmp_path):
    members = {
        f"{n:04d}.{kind}": content
        for n in range(3)
        for kind, content in (
            ("png", encoded(picture(n))),
            ("json", json.dumps({"punsafe": n / 10, "caption": f"c{n}", "key": 7}).encode()),
        )
    }
    members["0002.labels.png"] = encoded(picture(9))
    members["../../escape.png"] = encoded(picture(3))
    members["notes.md"] = b"text"
    write_tar(tmp_path / "shards" / "00000.tar", members)
    folder = embed(open_pile(tmp_path / "shards"), ColourClip(), tmp_path / "out")
    assert names_in(folder) == ["0000.png", "0001.png", "0002.png", "../../escape.png"]
    assert [row["punsafe"] for row in folder.told([0, 1, 2])] == [0.0, 0.1, 0.2]
    for row, ref in enumerate(folder.references(folder.told(np.arange(4)))):
        assert np.array_equal(ref.open(folder.root), picture(row))
    assert not list(tmp_path.rglob("escape.png"))


def test_a_damaged_tar_gives_what_lies_before_the_damage(tmp_path):
    write_tar(tmp_path / "t" / "0.tar", {f"{n}.png": encoded(picture(n)) for n in range(4)})
    tar = tmp_path / "t" / "0.tar"
    places = [picture.ref.offset for picture in pictures_in(tar, "0.tar")]
    content = bytearray(tar.read_bytes())
    content[places[2] - 512 : places[2] - 400] = b"\x07" * 112
    tar.write_bytes(content)
    folder = embed(open_pile(tmp_path / "t"), ColourClip(), tmp_path / "out")
    assert names_in(folder) == ["0.png", "1.png"]
    assert "damaged" in bad_in(folder)["0.tar"]


def test_links_and_absurd_headers_in_tars_are_refused(tmp_path):
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert "no plain file" in next(pictures_in(path, "0.tar")).trouble
    huge = tarfile.TarInfo("././@LongLink")
    huge.type, huge.size = tarfile.GNUTYPE_LONGNAME, 2**30
    path.write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048)
    with pytest.raises(CollectionError.__base__, match="a header of"):
        list(pictures_in(path, "0.tar"))


def test_work_that_stopped_goes_on_at_its_shard_and_ends_the_same(tmp_path, monkeypatch):
    write_pictures(tmp_path / "pictures", 10)
    settings = EmbeddingSettings(batch=2, per_part=3)
    whole = embed(open_pile(tmp_path / "pictures", per_part=3), ColourClip(), tmp_path / "whole", settings)
    written = embedding_module.write_part
    calls = []

    def full_disk(path):
        calls.append(path)
        if len(calls) == 5:
            raise OSError(28, "No space left on device", str(path))
        return written(path)

    monkeypatch.setattr(embedding_module, "write_part", full_disk)
    clip = ColourClip()
    with pytest.raises(OSError, match="No space left"):
        embed(open_pile(tmp_path / "pictures", per_part=3), clip, tmp_path / "out", settings)
    with pytest.raises(CollectionError, match="not finished"):
        EmbeddingFolder(tmp_path / "out")
    monkeypatch.setattr(embedding_module, "write_part", written)
    before = clip.pictures
    again = embed(open_pile(tmp_path / "pictures", per_part=3), clip, tmp_path / "out", settings)
    assert clip.pictures - before == 7  # of 10: the first shard of three was whole
    assert np.array_equal(again.vectors(np.arange(10)), whole.vectors(np.arange(10)))
    assert names_in(again) == names_in(whole)


def test_only_shards_whose_pictures_changed_are_made_anew(tmp_path):
    paths = write_pictures(tmp_path / "pictures", 9)
    settings = EmbeddingSettings(per_part=3)

    def again(clip, **options):
        return embed(open_pile(tmp_path / "pictures", per_part=3), clip, tmp_path / "out", settings, **options)

    again(ColourClip())
    paths[4].write_bytes(encoded(picture(77, "grey")))
    clip = ColourClip()
    again(clip)
    assert clip.pictures == 3
    for path in paths[6:]:
        path.unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    with pytest.raises(VanishedError, match=r"3 pictures of .* are no longer there, as 006 red.png"):
        again(ColourClip())
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before
    assert len(again(ColourClip(), prune=True)) == 6
    other = ColourClip(2.0)
    again(other)
    assert other.pictures == 6  # another network, so every shard


@pytest.mark.parametrize("kind", ["list", "tars"])
def test_a_list_or_tars_of_which_one_is_away_lose_no_embedding(tmp_path, kind):
    source = tmp_path / "pile"
    if kind == "list":
        files = write_pictures(source, 3)
        (source / "some.txt").write_text("".join(f"{file.name}\n" for file in files))
        source = source / "some.txt"
    else:
        files = [source / f"{n:05d}.tar" for n in range(3)]
        for n, file in enumerate(files):
            write_tar(file, {"a.png": encoded(picture(n))})
    embed(open_pile(source), ColourClip(), tmp_path / "out")
    files[2].rename(tmp_path / "away")
    with pytest.raises(VanishedError, match=rf"1 (pictures|tars) of .* are no longer there, as {files[2].name}"):
        embed(open_pile(source), ColourClip(), tmp_path / "out")
    (tmp_path / "away").rename(files[2])
    clip = ColourClip()
    assert len(embed(open_pile(source), clip, tmp_path / "out")) == 3
    assert clip.pictures == 0


def test_a_search_of_pictures_of_which_some_are_away_goes_by_what_was_embedded(tmp_path, command, monkeypatch):
    monkeypatch.setattr("wordmask.encoders.clip_building.clip_at", lambda *_: ColourClip())
    paths = write_pictures(tmp_path / "pictures", 6)
    arguments = ("search", "green", "--collection", tmp_path / "pictures", "--top", 1)
    first = command(*arguments)
    next(path for path in paths if "red" in path.name).unlink()
    status, out, err = command(*arguments)
    assert (status, out) == first[:2]
    assert "searched as it was embedded before: 1 pictures" in err
    assert "embedded before" not in command(*arguments, "--prune")[2]
    assert "embedded before" not in command(*arguments)[2]


def test_embeddings_of_others_lead_nowhere_but_to_pictures_below_the_root(tmp_path):
    write_pictures(tmp_path / "root", 2)
    (tmp_path / "secret.png").write_bytes(encoded(picture(5)))
    paths = [
        "000 red.png",
        "../secret.png",
        str(tmp_path / "secret.png"),
        str(tmp_path / "root" / "001 green.png"),
        "gone.png",
    ]
    write_embeddings(tmp_path / "emb", [np.eye(5, dtype=np.float16)], {"image_path": paths})
    folder = EmbeddingFolder(tmp_path / "emb", root=tmp_path / "root")
    refs = folder.references(folder.told(np.arange(5)))
    assert [ref and ref.path for ref in refs] == ["000 red.png", None, None, "001 green.png", None]


def test_keys_of_webdataset_samples_are_found_in_their_tars(tmp_path):
    write_tar(
        tmp_path / "tars" / "00000.tar", {"000000000.png": encoded(picture(0)), "000000001.png": encoded(picture(1))}
    )
    write_tar(tmp_path / "tars" / "00001.tar", {"000010000.png": encoded(picture(2))})
    keys = ["000010000", "000000001", "000000009"]
    write_embeddings(tmp_path / "emb", [np.eye(3, dtype=np.float32)], {"image_path": keys})
    folder = EmbeddingFolder(tmp_path / "emb", root=tmp_path / "tars")
    refs = folder.references(folder.told(np.arange(3)))
    assert [str(ref) for ref in refs] == ["00001.tar::000010000.png", "00000.tar::000000001.png", "None"]
    assert np.array_equal(refs[0].open(folder.root), picture(2))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "metadata/metadata_0.parquet").unlink(), "embeddings or metadata, but not both"),
        (lambda f: np.save(f / "img_emb/img_emb_0.npy", np.zeros((2, 4), np.float16)), "2 rows, and .* 4"),
        (lambda f: np.save(f / "img_emb/img_emb_0.npy", np.zeros((4, 4), np.int8)), "int8"),
        (lambda f: np.save(f / "img_emb/img_emb_0.npy", np.array([{}] * 4), allow_pickle=True), "cannot be read"),
        (lambda f: (f / "img_emb/img_emb_0.npy").write_bytes(b"\x93NUMPY"), "cannot be read"),
    ],
)
def test_damaged_embedding_folders_are_explained(tmp_path, harm, message):
    write_embeddings(tmp_path / "emb", [np.zeros((4, 4), np.float16)])
    harm(tmp_path / "emb")
    with pytest.raises(CollectionError, match=message):
        EmbeddingFolder(tmp_path / "emb")


def test_embeddings_that_are_cut_while_they_are_read_are_explained(tmp_path):
    write_embeddings(tmp_path / "emb", [np.ones((5000, 512), np.float32)])
    folder = EmbeddingFolder(tmp_path / "emb")
    blocks = folder.blocks(1000)
    next(blocks)
    os.truncate(tmp_path / "emb/img_emb/img_emb_0.npy", 2_500_000)
    with pytest.raises(CollectionError, match="cut short since it was opened"):
        next(blocks)
    with pytest.raises(CollectionError, match="cannot be read|cut short"):
        EmbeddingFolder(tmp_path / "emb")


def test_metadata_say_how_large_pictures_are(tmp_path):
    write_pictures(tmp_path / "pictures", 1)
    folder = embed(open_pile(tmp_path / "pictures"), ColourClip(), tmp_path / "out")
    row = pq.read_table(folder.shards[0].metadata).to_pylist()[0]
    assert (row["height"], row["width"]) == (12, 16)
