"""ReCo against its formulas: retrieval, co-segmentation, prototypes that are kept, inference."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from support.plain_windows import bilinear, picture, text_vectors
from support.small_clip import PATCH, small_clip
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import centre_view, pad_to_multiple, to_tensor
from wordmask.segmenters import load
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.reco import ReCo, ReCoSettings, patch_encoder
from wordmask.segmenters.reco_archive import FolderArchive
from wordmask.segmenters.reco_prototypes import PatchEncoder, Prototypes, Recipe, co_segment, on_grid

NAMES = ["dog", "traffic light", "grass"]
FINE = 4  # the encoder's patches, half as large as CLIP's


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def colours(pictures):
    """Features that anybody can compute: every patch's mean colour and its contrast, off centre."""
    pictures = pad_to_multiple(pictures, FINE)
    mean = F.avg_pool2d(pictures, FINE)
    spread = F.avg_pool2d(pictures.square(), FINE) - mean.square()
    return torch.cat([mean - 0.5, 8 * spread - 0.7], dim=1)


def encoder(fingerprint="colours"):
    return PatchEncoder(colours, FINE, fingerprint)


def best(clip, folder, name="dog", phrases=("dog",), count=7, **options):
    return FolderArchive(folder, clip, TextEmbedder(clip, templates("photo")), **options).best(name, phrases, count)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pile" / "deeper").mkdir(parents=True)
    for i in range(7):
        where = tmp_path / "pile" / ("deeper" if i % 2 else "") / f"{i}.png"
        Image.fromarray(picture(40 + i, 50 - i, seed=i)).save(where)
    return tmp_path / "pile"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def unit(x, axis=-1):
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def slowly_co_segmented(features, weights, weighed):
    """(n, h, w, C), (n, h, w) -> (C,), patch by patch."""
    count, height, width = weights.shape
    seeds, units = [], unit(features)
    for i in range(count):
        best, seed = -np.inf, None
        for place in np.ndindex(height, width):
            matches = []
            for j in range(count):
                found = []
                for other in np.ndindex(height, width):
                    likeness = units[i][place] @ units[j][other]
                    found.append(likeness * (weights[j][other] if weighed == "matches" else 1))
                matches.append(max(found))
            support = np.mean(matches) * (weights[i][place] if weighed == "patches" else 1)
            if support > best:
                best, seed = support, features[i][place]
        seeds.append(seed)
    return unit(np.mean(seeds, axis=0))


@pytest.mark.parametrize("weighed", ["patches", "matches"])
def test_co_segmentation_equals_its_formula(weighed):
    generator = np.random.default_rng(0)
    features, weights = generator.normal(size=(4, 3, 5, 6)), generator.random((4, 3, 5))
    found = co_segment(torch.from_numpy(features).permute(0, 3, 1, 2), torch.from_numpy(weights), weighed)
    assert np.abs(found.numpy() - slowly_co_segmented(features, weights, weighed)).max() < 1e-10


def test_co_segmentation_finds_what_pictures_share():
    features = torch.randn(6, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    shared = torch.randn(16, generator=torch.Generator().manual_seed(1))
    for i in range(6):
        features[i, :, i % 4, i // 2] = (1 + i) * shared
    assert torch.allclose(co_segment(features, torch.ones(6, 4, 4)), F.normalize(shared, dim=0), atol=1e-6)


def test_an_unwanted_thing_that_pictures_share_is_weighed_down():
    features, weights = torch.zeros(3, 4, 1, 4), torch.ones(3, 1, 4)
    features[:, 0, 0, 0] = 1  # in all three, and unwanted
    features[:, 1, 0, 1] = 1  # in all three
    for i in range(3):
        features[i, 2, 0, 2:] = 0.1 * i
        features[i, 3, 0, 2:] = 1 - i
    weights[:, 0, 0] = 0.3
    assert co_segment(features, weights).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(("grid", "patch"), [((8, 10), 4), ((2, 3), 14), ((3, 4), 8)])
def test_another_grid_is_read_at_its_patches_centres(grid, patch):
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    read = on_grid(maps.float(), 8, grid, patch).double()
    for i, j in np.ndindex(*grid):
        y, x = ((at + 0.5) * patch / 8 - 0.5 for at in (i, j))
        y, x = min(max(y, 0), 3), min(max(x, 0), 4)
        top, left = min(int(y), 2), min(int(x), 3)
        down, across = y - top, x - left
        rows = [(1 - across) * maps[..., row, left] + across * maps[..., row, left + 1] for row in (top, top + 1)]
        assert (read[..., i, j] - (1 - down) * rows[0] - down * rows[1]).abs().max() < 1e-5


def test_a_folder_is_ranked_by_clip_s_cosines(clip, folder):
    files = sorted(folder.rglob("*.png"))
    views = torch.stack([centre_view(np.array(Image.open(file)), (32, 32)) for file in files])
    cosines = clip.encode_image(views).double().numpy() @ text_vectors(clip, ["dog", "cat"]).T
    ranked = [files[i] for i in np.argsort(-cosines[:, 0])]
    assert best(clip, folder, count=4) == ranked[:4]
    assert best(clip, folder, count=100) == ranked
    assert best(clip, folder, "pet", ("dog", "cat")) == [files[i] for i in np.argsort(-cosines.max(axis=1))]


def test_a_folder_is_embedded_once_and_what_changed_again(clip, folder, monkeypatch):
    first = best(clip, folder)
    looked_at, encode = [], clip.encode_image
    monkeypatch.setattr(clip, "encode_image", lambda views: looked_at.append(len(views)) or encode(views))
    assert best(clip, folder) == first
    assert looked_at == []
    Image.fromarray(picture(30, 31, seed=99)).save(folder / "0.png")
    (folder / "2.png").unlink()
    Image.fromarray(picture(30, 30, seed=98)).save(folder / "new.png")
    again = best(clip, folder, count=20)
    assert sum(looked_at) == 2
    assert {path.name for path in again} == {"0.png", "1.png", "3.png", "4.png", "5.png", "6.png", "new.png"}


def test_embeddings_of_pictures_that_are_away_are_kept(clip, folder, monkeypatch):
    first = best(clip, folder)
    away = folder.rename(folder.parent / "away")
    folder.mkdir()
    with pytest.raises(SegmenterError, match="no pictures that can be read"):
        best(clip, folder)
    folder.rmdir()
    away.rename(folder)
    monkeypatch.setattr(clip, "encode_image", lambda views: pytest.fail("embedded again"))
    assert best(clip, folder) == first


def test_a_search_that_was_stopped_goes_on_where_it_was(clip, folder, monkeypatch):
    monkeypatch.setattr("wordmask.segmenters.reco_archive.PICTURES_PER_PASS", 2)
    encode, passes = clip.encode_image, []

    def stopped(views):
        passes.append(len(views))
        if len(passes) == 3:
            raise KeyboardInterrupt
        return encode(views)

    monkeypatch.setattr(clip, "encode_image", stopped)
    with pytest.raises(KeyboardInterrupt):
        best(clip, folder)
    assert passes == [2, 2, 2]
    assert len(best(clip, folder)) == 7
    assert sum(passes[3:]) == 3


def test_folders_and_caches_that_cannot_serve_are_named(clip, folder, tmp_path):
    with pytest.raises(SegmenterError, match=r"archive=.*gone is no folder"):
        best(clip, tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SegmenterError, match=r"archive=.*empty holds no pictures"):
        best(clip, tmp_path / "empty")
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with pytest.warns(UserWarning, match=r"left out: .*damaged\.jpg"):
        assert len(best(clip, folder, count=20)) == 7
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as db:
        db.execute("CREATE TABLE pictures (something TEXT)")
    with pytest.raises(SegmenterError, match=r"a\.sqlite: embeddings of .* cannot be kept there \(no such column"):
        best(clip, folder, cache=tmp_path / "a.sqlite")


class Pile:
    """An archive that has the same pictures for every name, a different one first."""

    def __init__(self, files):
        self.files, self.asked = files, []

    def best(self, name, phrases, count):
        self.asked.append(name)
        start = len(name) % len(self.files)
        return (self.files[start:] + self.files[:start])[:count]


@pytest.fixture
def pile(folder):
    return Pile(sorted(folder.rglob("*.png")))


@pytest.fixture
def made(monkeypatch):
    """The names whose prototypes are made."""
    names, make = [], Prototypes._make
    monkeypatch.setattr(Prototypes, "_make", lambda self, name, *rest: names.append(name) or make(self, name, *rest))
    return names


def prototypes(clip, pile, pictures, fingerprint="colours", **recipe):
    chosen = Recipe(**{"pictures": pictures, "side": 24, "context": (), **recipe})
    return Prototypes(pile, encoder(fingerprint), clip, TextEmbedder(clip, templates("photo")), chosen)


DOGS = Vocabulary.of(["dog"])


def by_the_book(clip, pile, name, recipe, known):
    """A prototype by ReCo's formulas; `known` are those of the context, by name."""
    place = recipe.context.index(name) if name in recipe.context else len(recipe.context)
    features, weights = [], []
    for file in pile.best(name, (name,), recipe.pictures):
        view = centre_view(np.array(Image.open(file)), (recipe.side, recipe.side))[None]
        own = colours(view)[0].permute(1, 2, 0).double().numpy()
        values = clip.dense(view).values[0].permute(1, 2, 0).double().numpy()
        attention = sigmoid(10 * unit(values) @ text_vectors(clip, [name])[0])
        weight = bilinear(attention[..., None], own.shape[:2])[..., 0] if recipe.text_attention else 1
        for other in recipe.context[:place]:
            weight = weight * (1 - sigmoid(unit(own) @ known[other]))
        features.append(own)
        weights.append(np.broadcast_to(weight, own.shape[:2]))
    return slowly_co_segmented(np.array(features), np.array(weights), recipe.weighed)


@pytest.mark.parametrize("text_attention", [True, False])
@pytest.mark.parametrize("weighed", ["patches", "matches"])
def test_prototypes_equal_the_method_by_the_book(clip, pile, text_attention, weighed):
    own = prototypes(clip, pile, 3, context=("sky", "road"), text_attention=text_attention, weighed=weighed)
    found, known = own.of(Vocabulary.of(["dog", "road"])), {}
    for name in ("sky", "road", "dog"):
        known[name] = by_the_book(clip, pile, name, own.recipe, known)
    assert np.abs(found.numpy() - np.stack([known["dog"], known["road"]])).max() < 1e-5


@pytest.mark.parametrize(("name", "phrase"), [("road", "street"), ("Road", "Road"), ("way", "road")])
def test_a_name_of_the_context_is_not_held_against_itself_whatever_it_is_called(clip, pile, made, name, phrase):
    prototypes(clip, pile, 2, context=("sky", "road", "tree")).of(Vocabulary((name,), ((phrase,),)))
    assert made == ["sky", name]


def test_one_wording_under_two_names_has_the_pictures_of_each(clip, pile):
    pile.best = lambda name, phrases, count: pile.files[:1] if name == "crane" else pile.files[1:2]
    found = prototypes(clip, pile, 1)
    bird = found.of(Vocabulary(("crane",), (("crane bird",),)))
    assert not torch.equal(bird, found.of(Vocabulary.of(["crane bird"])))


def test_prototypes_are_kept_by_what_they_were_made_of(clip, pile, made):
    def made_anew(**changes):
        made.clear()
        kept = prototypes(clip, pile, 3, **{"context": ("sky",), **changes})
        first = kept.of(DOGS)
        assert torch.equal(kept.of(DOGS), first)
        return first, made.copy()

    first, names = made_anew()
    assert names == ["sky", "dog"]
    same, names = made_anew()
    assert torch.equal(same, first)
    assert names == []  # nothing is made again, in the same process or the next
    for change in ({"side": 28}, {"weighed": "matches"}, {"text_attention": False}, {"fingerprint": "others"}):
        assert made_anew(**change)[1] == ["sky", "dog"], change
    assert made_anew(context=())[1] == ["dog"]
    Image.fromarray(picture(40, 40, seed=50)).save(pile.best("sky", (), 3)[0])
    assert made_anew()[1] == ["sky", "dog"]  # as what is eliminated is another


def test_a_damaged_prototype_is_made_again(clip, pile):
    first = prototypes(clip, pile, 2)
    kept = first.of(DOGS)
    [file] = first.cache.glob("*.npy")
    for damage in (b"", file.read_bytes()[:-4], b"not an array"):
        file.write_bytes(damage)
        assert torch.equal(prototypes(clip, pile, 2).of(DOGS), kept)


def test_archives_may_hand_out_bytes(clip, pile):
    from_paths = prototypes(clip, pile, 3)
    from_bytes = prototypes(clip, Pile([file.read_bytes() for file in pile.files]), 3)
    assert torch.equal(from_paths.of(DOGS), from_bytes.of(DOGS))
    assert len(list(from_bytes.cache.glob("*.npy"))) == 1  # the same contents, the same key


def segmenter(clip, pile, **changes):
    base = {"templates": "photo", "shorter_side": None, "window": 32, "stride": 16, "pictures": 3, "archive_side": 24}
    return ReCo(clip, encoder(), pile, ReCoSettings(**{**base, "context": (), **changes}))


def scores_by_the_book(method, clip, image, names, with_clip=True):
    """One window's scores (H, W, K): both factors on the encoder's patches, upsampled."""
    window = to_tensor(image)[None]
    own = unit(colours(window)[0].permute(1, 2, 0).double().numpy())
    likeness = sigmoid(own @ method.prototypes.of(Vocabulary.of(names)).double().numpy().T)
    if with_clip:
        values = unit(clip.dense(window).values[0].permute(1, 2, 0).double().numpy())
        attention = sigmoid(10 * values @ text_vectors(clip, names).T)
        likeness = likeness * bilinear(attention, likeness.shape[:2])
    return bilinear(likeness, image.shape[:2])


@pytest.mark.parametrize("with_clip", [True, False])
def test_scores_are_the_product_of_both_factors(clip, pile, with_clip):
    method = segmenter(clip, pile, clip_at_inference=with_clip)
    image = picture(32, 24)
    result = method.segment(image, NAMES, fill=True)
    expected = scores_by_the_book(method, clip, image, NAMES, with_clip)
    assert np.abs(result.scores - expected.max(axis=-1)).max() < 1e-5
    ordered = np.sort(expected, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-5
    assert clear.mean() > 0.9
    assert np.array_equal(result.labels[clear], expected.argmax(axis=-1)[clear])


@pytest.mark.parametrize(("of", "threshold"), [("picture", 0.9), ("score", 0.42)])
def test_background_is_where_the_best_score_falls_short(clip, pile, of, threshold):
    method = segmenter(clip, pile, background_threshold=threshold, threshold_of=of)
    image = picture(32, 32)
    result = method.segment(image, ["dog", "background", "grass"], fill=True)
    scores = scores_by_the_book(method, clip, image, ["dog", "grass"])
    best = scores.max(axis=-1)
    line = threshold * best.max() if of == "picture" else threshold
    expected = np.where(best < line, 1, np.where(scores.argmax(axis=-1) == 1, 2, 0))
    clear = (np.abs(best - line) > 1e-5) & (np.abs(scores[..., 0] - scores[..., 1]) > 1e-5)
    assert 0 < (expected == 1).mean() < 1
    assert np.array_equal(result.labels[clear], expected[clear])
    assert "background" not in pile.asked
    assert (method.segment(image, ["background"], fill=True).labels == 0).all()


def test_new_names_cost_no_look_at_the_picture(clip, pile):
    method = segmenter(clip, pile)
    seen = method.look(picture(48, 64))
    method.prototypes.of(Vocabulary.of(["cat", "sofa"]))
    method.read = None
    assert seen.segment(["cat", "sofa"], fill=True).names == ["cat", "sofa"]


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (10, 200)])
def test_odd_sizes_have_answers(clip, pile, size):
    method = segmenter(clip, pile, shorter_side=32, longest_side=64, refine="pamr")
    result = method.segment(picture(*size), NAMES, fill=True)
    assert result.labels.shape == size
    assert np.isfinite(result.scores).all()


def test_clip_s_own_patches_may_be_co_segmented(clip):
    pictures = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    both = {features: patch_encoder("clip", features, clip, "fp32") for features in ("keys", "values")}
    for features, own in both.items():
        assert own.patch_size == PATCH
        assert torch.equal(own.read(pictures), getattr(clip.dense(pictures, keys=True), features))
    assert both["keys"].fingerprint != both["values"].fingerprint
    with pytest.raises(SegmenterError, match="give features='keys' or 'values'"):
        patch_encoder("clip", "tokens", clip, "fp32")


def test_the_world_s_clip_finds_and_names_by_itself(folder):
    chosen = {"encoder": "clip", "features": "keys", "archive": folder, "pictures": 2, "context": ()}
    method = load("reco", preset="world", device="cpu", **chosen)
    result = method.segment(picture(40, 60), ["dog", "grass", "background"], fill=True)
    assert result.labels.shape == (40, 60)
    assert np.isfinite(result.scores).all()
    with pytest.raises(SegmenterError, match="give archive=FOLDER"):
        load("reco", preset="world")
