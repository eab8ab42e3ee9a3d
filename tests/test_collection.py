"""Piles of pictures, and their embeddings."""

import json
import os
import re
import shutil
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


def refs_in(folder: EmbeddingFolder) -> list:
    return folder.references(folder.told(np.arange(len(folder))))


def embedded(source, out=None, clip=None, **options) -> EmbeddingFolder:
    return embed(open_pile(source), clip or ColourClip(), out or source.parent / "out", **options)


def test_every_picture_of_a_tree_is_embedded_in_the_order_of_its_path(tmp_path):
    write_pictures(tmp_path / "pictures" / "b", 3)
    write_pictures(tmp_path / "pictures" / "a", 2)
    folder = embedded(tmp_path / "pictures")
    names = ["a/000 red.png", "a/001 green.png", "b/000 red.png", "b/001 green.png", "b/002 blue.png"]
    assert names_in(folder) == names
    images = [read_image(tmp_path / "pictures" / name) for name in names]
    means = np.stack([centre_crop(image, (8, 8)).numpy().astype(np.float64).mean(axis=(1, 2)) for image in images])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    assert np.abs(folder.vectors(np.arange(5)) - expected).max() < 1e-3  # half floats
    assert np.load(folder.shards[0].embeddings).dtype == np.float16
    row = pq.read_table(folder.shards[0].metadata).to_pylist()[0]
    assert (row["height"], row["width"]) == (12, 16)


def test_like_names_in_different_folders_and_letters_of_any_script_are_kept_apart(tmp_path):
    for place in ("x", "y", "жук", "犬"):
        write_pictures(tmp_path / "pictures" / place, 1)
    folder = embedded(tmp_path / "pictures")
    assert sorted(names_in(folder)) == ["x/000 red.png", "y/000 red.png", "жук/000 red.png", "犬/000 red.png"]
    assert np.array_equal(refs_in(folder)[2].open(folder.root), picture(0))


def test_films_and_the_like_are_listed_and_change_no_embeddings(tmp_path, counted_notices):
    pictures = tmp_path / "pictures"
    write_pictures(pictures, 2)
    before = open_pile(pictures).survey().digest
    (pictures / "deep").mkdir()
    others = ["bad.png", "clip.mp4", "deep/art.psd"]
    for name in others:
        (pictures / name).write_bytes(b"something")
    folder = embedded(pictures)
    assert [name for name, _ in read_left_out(tmp_path / "out" / "left-out.txt")] == others
    assert (len(folder), folder.about["bad_pictures"], set(bad_in(folder))) == (2, 1, {"bad.png"})
    (pictures / "bad.png").unlink()
    assert open_pile(pictures).survey().digest == before
    assert sum(counted_notices.passed_over().values()) == 2


def test_broken_pictures_are_counted_and_listed_and_cost_nothing_else(tmp_path):
    paths = write_pictures(tmp_path / "pictures", 20)
    paths[3].write_bytes(b"no picture")
    paths[7].write_bytes(paths[7].read_bytes()[:60])
    shutil.copy(paths[0], os.fsencode(tmp_path / "pictures") + b"/\xff.png")
    folder = embedded(tmp_path / "pictures")
    bad = bad_in(folder)
    assert (len(folder), folder.about["bad_pictures"]) == (18, 3)
    assert set(bad) == {"003 red.png", "007 green.png", "\\xff.png"}
    assert "not UTF-8" in bad["\\xff.png"]


def test_a_pile_of_nothing_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CollectionError, match="no pictures found"):
        open_pile(tmp_path / "empty").survey()
    with pytest.raises(CollectionError, match="there is no"):
        open_pile(tmp_path / "nowhere")
    (tmp_path / "empty" / "a.jpg").write_bytes(b"")
    with pytest.raises(CollectionError, match="no picture of .* can be read .1 tried"):
        embedded(tmp_path / "empty")


def test_a_list_names_pictures_relative_to_itself_or_to_a_root(tmp_path):
    write_pictures(tmp_path / "pictures", 3)
    (tmp_path / "some.txt").write_text("pictures/002 blue.png\r\n\npictures/000 red.png\nmissing.png\n")
    folder = embedded(tmp_path / "some.txt")
    assert names_in(folder) == ["pictures/002 blue.png", "pictures/000 red.png"]
    assert "no such file" in bad_in(folder)["missing.png"]
    (tmp_path / "other.txt").write_text("001 green.png\n")
    folder = embed(open_pile(tmp_path / "other.txt", root=tmp_path / "pictures"), ColourClip(), tmp_path / "out2")
    assert refs_in(folder)[0].open(folder.root).shape == (12, 16, 3)


def test_a_tar_beside_pictures_is_not_taken_for_the_collection(tmp_path):
    write_pictures(tmp_path, 2)
    (tmp_path / "backup.tar").write_bytes(b"")
    with pytest.raises(CollectionError, match=r"holds a tar \(backup.tar\) and pictures beside it"):
        open_pile(tmp_path)


def test_tars_are_read_without_extracting_anything(tmp_path):
    members = {}
    for n in range(3):
        members[f"{n:04d}.png"] = encoded(picture(n))
        members[f"{n:04d}.json"] = json.dumps({"punsafe": n / 10, "caption": f"c{n}", "key": 7}).encode()
    members |= {"0002.labels.png": encoded(picture(9)), "../../escape.png": encoded(picture(3)), "notes.md": b"text"}
    write_tar(tmp_path / "shards" / "00000.tar", members)
    folder = embedded(tmp_path / "shards")
    assert names_in(folder) == ["0000.png", "0001.png", "0002.png", "../../escape.png"]
    assert [row["punsafe"] for row in folder.told([0, 1, 2])] == [0.0, 0.1, 0.2]
    for row, ref in enumerate(refs_in(folder)):
        assert np.array_equal(ref.open(folder.root), picture(row))
    assert not list(tmp_path.rglob("escape.png"))


def test_a_damaged_tar_gives_what_lies_before_the_damage(tmp_path):
    tar = tmp_path / "t" / "0.tar"
    write_tar(tar, {f"{n}.png": encoded(picture(n)) for n in range(4)})
    place = [picture.ref.offset for picture in pictures_in(tar, "0.tar")][2]
    content = bytearray(tar.read_bytes())
    content[place - 512 : place - 400] = b"\x07" * 112
    tar.write_bytes(content)
    folder = embedded(tmp_path / "t")
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
    written, calls, clip = embedding_module.write_part, [], ColourClip()

    def run(out):
        pile = open_pile(tmp_path / "pictures", per_part=3)
        return embed(pile, clip, tmp_path / out, EmbeddingSettings(batch=2, per_part=3))

    def full_disk(path):
        calls.append(path)
        if len(calls) == 5:
            raise OSError(28, "No space left on device", str(path))
        return written(path)

    whole = run("whole")
    monkeypatch.setattr(embedding_module, "write_part", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run("out")
    with pytest.raises(CollectionError, match="not finished"):
        EmbeddingFolder(tmp_path / "out")
    before = clip.pictures
    again = run("out")
    assert clip.pictures - before == 7  # of 10: the first shard of three was whole
    assert np.array_equal(again.vectors(np.arange(10)), whole.vectors(np.arange(10)))
    assert names_in(again) == names_in(whole)


def test_only_shards_whose_pictures_changed_are_made_anew(tmp_path):
    paths, settings = write_pictures(tmp_path / "pictures", 9), EmbeddingSettings(per_part=3)

    def again(weight=1.0, **options):
        """The folder, and how many pictures were looked at."""
        clip, pile = ColourClip(weight), open_pile(tmp_path / "pictures", per_part=3)
        folder = embed(pile, clip, tmp_path / "out", settings, **options)
        return len(folder), clip.pictures

    assert again() == (9, 9)
    paths[4].write_bytes(encoded(picture(77, "grey")))
    assert again() == (9, 3)
    for path in paths[6:]:
        path.unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    with pytest.raises(VanishedError, match=r"no longer in .*: 3 pictures, as 006 red.png"):
        again()
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before
    assert again(prune=True)[0] == 6
    assert again(2.0) == (6, 6), "another network, so every shard"


@pytest.mark.parametrize("kind", ["list", "tars"])
def test_a_list_or_tars_of_which_one_is_away_lose_no_embedding(tmp_path, kind):
    source, out = tmp_path / "pile", tmp_path / "out"
    if kind == "list":
        files = write_pictures(source, 3)
        (source / "some.txt").write_text("".join(f"{file.name}\n" for file in files))
        source = source / "some.txt"
    else:
        files = [source / f"{n:05d}.tar" for n in range(3)]
        for n, file in enumerate(files):
            write_tar(file, {"a.png": encoded(picture(n))})
    embedded(source, out)
    files[2].rename(tmp_path / "away")
    with pytest.raises(VanishedError, match=rf"no longer in .*: 1 (picture|tar), as {files[2].name}"):
        embedded(source, out)
    (tmp_path / "away").rename(files[2])
    clip = ColourClip()
    assert (len(embedded(source, out, clip)), clip.pictures) == (3, 0)


def test_a_search_of_pictures_of_which_some_are_away_goes_by_what_was_embedded(tmp_path, command, monkeypatch):
    monkeypatch.setattr("wordmask.encoders.clip_building.clip_at", lambda *_: ColourClip())
    paths = write_pictures(tmp_path / "pictures", 6)
    arguments = ("search", "green", "--collection", tmp_path / "pictures", "--top", 1)
    first = command(*arguments)
    next(path for path in paths if "red" in path.name).unlink()
    status, out, err = command(*arguments)
    assert (status, out) == first[:2]
    assert re.search("searched as it was embedded before: no longer in .*: 1 picture,", err)
    assert "embedded before" not in command(*arguments, "--prune")[2]
    assert "embedded before" not in command(*arguments)[2]


def test_embeddings_of_others_lead_nowhere_but_to_pictures_below_the_root(tmp_path):
    write_pictures(tmp_path / "root", 2)
    (tmp_path / "secret.png").write_bytes(encoded(picture(5)))
    secret, inside = tmp_path / "secret.png", tmp_path / "root" / "001 green.png"
    paths = ["000 red.png", "../secret.png", str(secret), str(inside), "gone.png"]
    write_embeddings(tmp_path / "emb", [np.eye(5, dtype=np.float16)], {"image_path": paths})
    refs = refs_in(EmbeddingFolder(tmp_path / "emb", root=tmp_path / "root"))
    assert [ref and ref.path for ref in refs] == ["000 red.png", None, None, "001 green.png", None]


def test_keys_of_webdataset_samples_are_found_in_their_tars(tmp_path):
    for tar, keys in (("00000", ("000000000", "000000001")), ("00001", ("000010000",))):
        write_tar(tmp_path / "tars" / f"{tar}.tar", {f"{key}.png": encoded(picture(int(key))) for key in keys})
    keys = ["000010000", "000000001", "000000009"]
    write_embeddings(tmp_path / "emb", [np.eye(3, dtype=np.float32)], {"image_path": keys})
    folder = EmbeddingFolder(tmp_path / "emb", root=tmp_path / "tars")
    refs = refs_in(folder)
    assert [str(ref) for ref in refs] == ["00001.tar::000010000.png", "00000.tar::000000001.png", "None"]
    assert np.array_equal(refs[0].open(folder.root), picture(10000))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda file: (file.parents[1] / "metadata" / "metadata_0.parquet").unlink(),
            "embeddings or metadata, but not both",
        ),
        (lambda file: np.save(file, np.zeros((2, 4), np.float16)), "2 rows, and .* 4"),
        (lambda file: np.save(file, np.zeros((4, 4), np.int8)), "int8"),
        (lambda file: np.save(file, np.array([{}] * 4), allow_pickle=True), "cannot be read"),
        (lambda file: file.write_bytes(b"\x93NUMPY"), "cannot be read"),
    ],
)
def test_damaged_embedding_folders_are_explained(tmp_path, harm, message):
    write_embeddings(tmp_path / "emb", [np.zeros((4, 4), np.float16)])
    harm(tmp_path / "emb/img_emb/img_emb_0.npy")
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
