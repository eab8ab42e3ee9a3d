"""Banks of regions: against their definition in loops, and killed, damaged, grown and mistaken."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from support import plain_corrclip, plain_patch_cosines, plain_vit
from support.own_regions import halves
from support.plain_saliency import tiny_dino
from support.plain_vit import softmax
from support.plain_windows import TOLERANCE, bilinear, picture, starts, text_vectors
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, small_clip
from wordmask.collection.piles import open_pile
from wordmask.collection.references import CollectionError
from wordmask.compute import PLAIN
from wordmask.encoders.upsampled import Upsampled
from wordmask.extras import MissingExtraError
from wordmask.methods import settings_of
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.regions import bank as banks
from wordmask.regions.bank import BankError, RegionBank
from wordmask.segmenters import bank_building
from wordmask.segmenters.bank_building import BankReaders, build_bank
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.corrclip import CorrClip, CorrClipSettings, whole_picture

SMALL = {"templates": "photo", "shorter_side": None, "window": 32, "stride": 16, "pad_multiple": 8}
NAMES = Vocabulary.of({"background": {"instead": ["sky", "wall"]}, "dog": None, "person": ["bus"]})
PHRASES, OWNER = ["sky", "wall", "dog", "person", "bus"], [0, 0, 1, 2, 2]


def some_regions(image):
    """Two regions and a border of none."""
    found = halves(image).copy()
    found[:4], found[:, -5:] = 0, 0
    return found


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def second():
    return small_clip(seed=5)


@pytest.fixture(scope="module")
def dino():
    return tiny_dino()


@pytest.fixture(scope="module")
def vfm():
    return tiny_dino(seed=3)


@pytest.fixture(scope="module")
def readers(clip, second, dino, vfm):
    settings = CorrClipSettings(**SMALL)
    main, auxiliary = (CorrClip(own, some_regions, settings, dino=dino) for own in (clip, second))
    return BankReaders(main, vfm, auxiliary)


@pytest.fixture
def pile(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(40, 32), (32, 48), (37, 41), (32, 32), (36, 50)]):
        Image.fromarray(picture(*size, seed=number)).save(folder / f"{number}.png")
    return open_pile(folder)


def plain_looks(vfm, image, size):
    """A vision model's features at a size (H, W, C), each pixel's of length 1."""
    maps = whole_picture(vfm, image).permute(1, 2, 0).double().numpy()
    return plain_corrclip.unit(bilinear(maps, size))


# What is built


def test_keys_and_values_are_mean_features_of_length_1(readers, vfm):
    image = picture(37, 41)
    keys, values, second = readers.read(image)
    regions = some_regions(image)
    looks = plain_looks(vfm, image, image.shape[:2])
    for number, key in enumerate(keys, start=1):
        expected = plain_corrclip.unit(looks[regions == number].mean(axis=0))
        assert np.abs(key - expected).max() < 1e-3  # a half float's
    assert (keys.dtype, len(keys), len(values), len(second)) == (np.float16, 2, 2, 2)
    for reader, found in ((readers.main, values), (readers.auxiliary, second)):
        plan = reader.sliding.plan(37, 41)
        tensor = to_tensor(image)
        windows = reader.window_features(plan, tensor, torch.from_numpy(regions)).double().numpy()
        total, count = np.zeros((37, 41, windows.shape[1])), np.zeros((37, 41, 1))
        for box, own in zip(plan.boxes, windows, strict=True):
            place = slice(box.top, box.bottom), slice(box.left, box.right)
            total[place] += bilinear(np.moveaxis(own, 0, -1), (32, 32))
            count[place] += 1
        for number, value in enumerate(found, start=1):
            expected = plain_corrclip.unit((total / count)[regions == number].mean(axis=0))
            assert np.abs(value - expected).max() < 1e-3


def test_pixels_of_a_window_are_cut_padded_and_resized_as_maps_would_be(vfm):
    maps = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0))
    looks = Upsampled(maps, (40, 50))
    whole = F.normalize(F.interpolate(maps[None], size=(40, 50), mode="bilinear"), dim=1)
    cut = F.pad(whole[:, :, 8:32, 18:50], (2, 3, 1, 0), mode="replicate")
    expected = F.normalize(F.interpolate(cut, size=(12, 9), mode="bilinear"), dim=1)[0]
    found = looks.window(8, 18, (24, 32), (2, 1, 3, 0), (12, 9))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    places = torch.randint(0, 4, (40, 50), generator=torch.Generator().manual_seed(1))
    means = torch.stack([F.normalize(whole[0][:, places == number].mean(dim=1), dim=0) for number in range(4)])
    torch.testing.assert_close(looks.means(places, 4), means, atol=1e-5, rtol=0)


def test_a_bank_is_the_same_however_often_it_was_stopped_and_grows_by_new_parts(pile, readers, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    built = build_bank(pile, readers, whole, per_part=2)
    assert (built.pictures, built.regions, built.unreadable) == (5, 10, 0)
    assert len(RegionBank(whole)) == 10
    stopped, read, count = tmp_path / "stopped", readers.read, [0]

    def stop(image):
        count[0] += 1
        if count[0] in (4, 6):
            raise KeyboardInterrupt
        return read(image)

    monkeypatch.setattr(readers, "read", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            build_bank(pile, readers, stopped, per_part=2)
        with pytest.raises(BankError, match="is not finished"):
            RegionBank(stopped)
    build_bank(pile, readers, stopped, per_part=2)
    assert count[0] == 3 + 1 + 1 + 1 + 3  # two of a part that is whole are not read again
    files = sorted(path.relative_to(whole) for path in whole.rglob("0*"))
    assert files == sorted(path.relative_to(stopped) for path in stopped.rglob("0*"))
    assert all((whole / file).read_bytes() == (stopped / file).read_bytes() for file in files)

    before = {file: (whole / file).read_bytes() for file in files}
    Image.fromarray(picture(33, 44, seed=9)).save(pile.root / "00-first.png")
    (pile.root / "bad.png").write_bytes(b"none")
    grown = build_bank(open_pile(pile.root), readers, whole, per_part=2)
    assert (grown.pictures, grown.regions, grown.unreadable) == (6, 12, 1)
    assert all((whole / file).read_bytes() == content for file, content in before.items())
    assert "trouble" in (whole / "manifest" / "000003.jsonl").read_text()
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(CollectionError, match="no pictures"):
        build_bank(open_pile(other), readers, whole)
    Image.fromarray(picture(30, 34)).save(other / "1.png")  # a name that is there already, of another folder
    assert build_bank(open_pile(other), readers, whole).pictures == 7


def test_a_damaged_part_is_made_again(pile, readers, tmp_path):
    out, said = tmp_path / "bank", []
    build_bank(pile, readers, out, per_part=2)
    file = out / "values" / "000001.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-2] + b"??")
    build_bank(pile, readers, out, per_part=2, say=said.append)
    assert file.read_bytes() == content
    assert any("000001.npy is damaged" in line for line in said)
    file.write_bytes(content[:-300])
    with pytest.raises(BankError, match="build"):
        RegionBank(out)


def test_banks_of_other_networks_and_settings_are_refused_in_one_line(pile, readers, clip, dino, vfm, second, tmp_path):
    out = tmp_path / "bank"
    build_bank(pile, readers, out)
    settings = CorrClipSettings(**SMALL, bank=out)
    with pytest.raises(BankError, match="was built with clip .*small") as caught:
        CorrClip(second, some_regions, settings, vfm=vfm)
    assert "\n" not in str(caught.value)
    with pytest.raises(BankError, match="was built with vfm"):
        CorrClip(clip, some_regions, settings, vfm=dino)
    with pytest.raises(BankError, match="was built with auxiliary"):
        CorrClip(clip, some_regions, settings, vfm=vfm, auxiliary=clip)
    with pytest.raises(SegmenterError, match="leave out pamr or bank"):
        CorrClip(clip, some_regions, CorrClipSettings(**SMALL, bank=out, pamr=True), vfm=vfm)
    other = CorrClip(clip, halves, CorrClipSettings(**SMALL), dino=dino)
    with pytest.raises(BankError, match="maker.function"):
        build_bank(pile, BankReaders(other, vfm, readers.auxiliary), out)
    with pytest.raises(BankError, match="is no bank"):
        RegionBank(tmp_path)
    told = json.loads((out / "bank.json").read_text())
    (out / "bank.json").write_text(json.dumps(told | {"format": 99}))
    with pytest.raises(BankError, match="another version"):
        RegionBank(out)


# What is asked of it


def stored(folder, keys, values, per_part=7):
    """A bank on disk of these features."""
    for kind in ("keys", "values", "manifest"):
        (folder / kind).mkdir(parents=True)
    for number, start in enumerate(range(0, len(keys), per_part)):
        part = slice(start, start + per_part)
        np.save(folder / "keys" / f"{number:06}.npy", keys[part])
        np.save(folder / "values" / f"{number:06}.npy", values[part])
        line = {"image": f"{number}.png", "regions": len(keys[part])}
        (folder / "manifest" / f"{number:06}.jsonl").write_text(json.dumps(line) + "\n")
    (folder / "bank.json").write_text(json.dumps({"format": 1, "networks": {}, "finished": True}))
    return RegionBank(folder)


@pytest.mark.parametrize("block", [banks.BLOCK_BYTES, 4 * 6 * 3])
def test_the_nearest_regions_are_those_of_all_inner_products(tmp_path, monkeypatch, block):
    monkeypatch.setattr(banks, "BLOCK_BYTES", block)
    rng = np.random.default_rng(0)
    keys = plain_corrclip.unit(rng.normal(size=(40, 6))).astype(np.float16)
    keys[30] = keys[2]  # equals come in their order
    values = rng.normal(size=(40, 5)).astype(np.float16)
    bank = stored(tmp_path / "bank", keys, values)
    queries = np.concatenate([rng.normal(size=(3, 6)), keys[2:3]])
    found = bank.nearest(queries, 6)
    for query, rows in zip(queries, found, strict=True):
        similar = [float(key.astype(np.float32) @ query.astype(np.float32)) for key in keys]
        assert rows.tolist() == sorted(range(40), key=lambda row: (-round(similar[row], 6), row))[:6]
    assert np.array_equal(bank.values(found), values[found].astype(np.float32))
    assert bank.nearest(queries, 100).shape == (4, 40)
    some = np.array([[3, 7, -1], [5, -1, -1], [-1, -1, -1]])
    expected = [values[[3, 7]].astype(np.float32).mean(axis=0), values[5], np.zeros(5)]
    np.testing.assert_allclose(bank.means(some), expected, atol=1e-6)


def test_faiss_is_asked_for_by_its_extra_and_by_an_index(tmp_path, monkeypatch):
    bank = stored(tmp_path / "bank", np.eye(4, dtype=np.float16), np.eye(4, dtype=np.float16))
    monkeypatch.setattr("wordmask.extras.is_installed", lambda package: package != "faiss")
    with pytest.raises(MissingExtraError, match=r"wordmask\[faiss\]"):
        bank.nearest(np.eye(4), 2, index="faiss")
    with pytest.raises(MissingExtraError):
        bank.build_index()
    with pytest.raises(MissingExtraError):  # before a network is fetched
        CorrClip.build(settings_of("segmenter", "corrclip", bank=tmp_path / "bank", index="faiss"), PLAIN)
    monkeypatch.setattr("wordmask.extras.is_installed", lambda package: True)
    monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace(read_index=lambda path: SimpleNamespace(ntotal=3)))
    with pytest.raises(BankError, match="has no index"):
        bank.nearest(np.eye(4), 2, index="faiss")
    (tmp_path / "bank" / "keys.faiss").write_bytes(b"")
    with pytest.raises(BankError, match="of 3 regions, the bank has 4"):
        bank.nearest(np.eye(4), 2, index="faiss")


@pytest.mark.parametrize("with_second", [False, True])
def test_answers_equal_the_second_versions_by_the_book(pile, readers, clip, second, vfm, tmp_path, with_second):
    out, image = tmp_path / "bank", picture(48, 40, seed=8)
    build_bank(pile, readers, out, per_part=3)
    settings = CorrClipSettings(**SMALL, bank=out, neighbours=4, own=0.3, map_correction=False)
    assert (settings.guides, settings.merge_distance) == ("vfm", None)
    segmenter = CorrClip(clip, some_regions, settings, vfm=vfm, auxiliary=second if with_second else None)
    result = segmenter.segment(image, NAMES)
    regions = some_regions(image)
    looks = plain_looks(vfm, image, (48, 40))
    towers = [(clip, "values"), (second, "auxiliary")][: 2 if with_second else 1]
    keys = np.concatenate([np.load(file) for file in sorted((out / "keys").glob("*.npy"))]).astype(float)
    support = np.zeros((48, 40, len(PHRASES)))
    for number in np.unique(regions):
        query = looks[regions == number].mean(axis=0)
        rows = np.argsort(-keys @ query, kind="stable")[:4]
        for tower, kind in towers:
            values = np.concatenate([np.load(file) for file in sorted((out / kind).glob("*.npy"))]).astype(float)
            answer = plain_corrclip.unit(values[rows].mean(axis=0)) @ text_vectors(tower, PHRASES).T
            support[regions == number] += answer / len(towers)

    places = iter([(top, left) for top in starts(48, 32, 16) for left in starts(40, 32, 16)])

    def read(normal):
        top, left = next(places)
        cut = looks[top : top + 32, left : left + 32]
        guides = plain_corrclip.unit(bilinear(cut, (8, 8))).reshape(64, -1)
        return plain_corrclip.features(
            plain_vit.arrays_of(clip.model.visual),
            normal,
            guides,
            (8, 8),
            regions[top : top + 32, left : left + 32],
            **{"patch": PATCH, "native": NATIVE, "heads": HEADS, "layers": LAYERS, "lower": [1], "distance": None},
        )

    own = plain_patch_cosines.cosines(clip, image, PHRASES, read, multiple=8)
    _, names = plain_patch_cosines.decide(0.3 * own + 0.7 * support, OWNER)
    ordered = np.sort(names, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-4
    assert clear.mean() > 0.5
    assert np.array_equal(result.labels[clear], names.argmax(axis=-1)[clear])
    assert np.abs(result.scores - ordered[..., -1]).max() < TOLERANCE * 5
    assert np.abs(softmax(40 * own) - softmax(40 * (0.3 * own + 0.7 * support))).max() > 0.01


def test_the_world_builds_a_bank_from_the_command_line_and_asks_it(tmp_path, capsys, monkeypatch, pile):
    import wordmask
    from wordmask.cli import main

    out = tmp_path / "bank"
    regions = ["--set", "regions=support.own_regions:halves"]
    for expected in (10, 10):
        monkeypatch.setattr(
            sys,
            "argv",
            ["wordmask", "bank", "build", str(pile.root), "-o", str(out), "--preset", "world", *regions, "--json"],
        )
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0
        assert json.loads(capsys.readouterr().out)["regions"] == expected
    segmenter = wordmask.load("corrclip", preset="world", bank=str(out), device="cpu", precision="fp32")
    assert segmenter.segment(picture(64, 64), ["dog", "car"]).labels.shape == (64, 64)
    assert segmenter.dino is None
    assert settings_of("segmenter", "corrclip", "world").bank_shorter_side == 128
    assert bank_building.VERB == "bank build"


@pytest.mark.slow
def test_processes_build_the_very_same_bank(tmp_path, command, pile):
    line = (
        "bank",
        "build",
        pile.root,
        "--preset",
        "world",
        "--device",
        "cpu",
        "--set",
        "regions=support.own_regions:halves",
    )
    for out, more in (("one", ()), ("out", ("--workers", 2))):
        status, _, err = command(*line, "-o", tmp_path / out, *more)
        assert status == 0, err
    files = {
        out: {
            str(path.relative_to(tmp_path / out)): path.read_bytes()
            for path in sorted((tmp_path / out).rglob("*.*"))
            if path.is_file() and ".wordmask" not in path.parts
        }
        for out in ("one", "out")
    }
    assert files["one"] == files["out"]
