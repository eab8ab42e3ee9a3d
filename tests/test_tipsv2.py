"""TIPSv2 against slow loops written from its equations, on random weights; the layout of its published files."""

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from support import plain_text
from support.plain_vit import arrays_of, bicubic
from support.plain_windows import TOLERANCE, bilinear, picture
from support.small_dino import stirred
from wordmask.compute import PLAIN
from wordmask.encoders import tips_text
from wordmask.encoders.dino import DinoEncoder, DinoError
from wordmask.encoders.tips_text import TipsText, TipsTextError, TipsTextTower, tips_text_at
from wordmask.extras import MissingExtraError, is_installed
from wordmask.methods import settings_of
from wordmask.names.prompts import templates
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.pictures.windows import SlidingWindows
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.tipsv2 import TipsV2, TipsV2Settings
from wordmask.weights.loading import WeightsError, read_state_dict

PATCH, GRID, WIDTH, HEADS, LAYERS = 8, (4, 6), 32, 2, 3
NAMES = ["dog", "grass", "sky"]


def pieces(texts):
    """A tokenizer whose pieces are words, of a vocabulary of 50."""
    return [[3 + sum(map(ord, word)) % 47 for word in text.lower().split()] for text in texts]


@pytest.fixture(scope="module")
def vision():
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=(GRID[0] * PATCH, GRID[1] * PATCH), patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS,
        num_classes=0, reg_tokens=1, no_embed_class=True, init_values=1.0, dynamic_img_size=True,
    )  # fmt: skip
    model.pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return DinoEncoder(stirred(model), name="small")


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(1)
    return stirred(TipsTextTower(50, WIDTH, 2, HEADS, 48))


@pytest.fixture(scope="module")
def text(tower):
    return TipsText(tower, pieces, name="small")


def settings(**changes):
    return TipsV2Settings(**{"shorter_side": None, "window": None, **changes})


def plain_words(tower, prompts):
    p = arrays_of(tower)
    found = [plain_text.tips_text(p, own[:64], HEADS) for own in pieces(prompts)]
    return np.array([vector / np.linalg.norm(vector) for vector in found])


def test_words_equal_the_equations(text, tower):
    """Texts of different lengths, so that what is padded is nothing to any of them; one that is cut at 64 pieces."""
    prompts = ["a photo of a dog", "sky", "itap of the very large grass .", "dog " * 70]
    assert np.abs(text.encode_text(prompts).numpy() - plain_words(tower, prompts)).max() < TOLERANCE
    assert torch.allclose(text.encode_text(prompts)[1], text.encode_text(["sky"])[0], atol=1e-6)


def test_a_name_is_the_mean_of_nine_unit_prompts(text, tower, vision):
    sentences = ["itap of a {}.", "a bad photo of a {}.", "a origami {}.", "a photo of the large {}.",
                 "a {} in a video game.", "art of the {}.", "a photo of the small {}.", "a photo of many {}.",
                 "a photo of {}s."]  # fmt: skip
    assert list(templates(settings().templates).sentences) == sentences
    found = TipsV2(vision, text, settings()).embed(Vocabulary.of(["dog"])).vectors[0]
    mean = plain_words(tower, [s.format("dog") for s in sentences]).mean(axis=0)
    assert np.abs(found.numpy() - mean / np.linalg.norm(mean)).max() < TOLERANCE


def plain_patches(vision, piece):
    """A window (h, w, 3) uint8 of any size, stretched to the tower's own -> (C, gh, gw)."""
    pixels = piece.astype(float) / 255
    if pixels.shape[:2] != (GRID[0] * PATCH, GRID[1] * PATCH):
        pixels = bicubic(pixels, (GRID[0] * PATCH, GRID[1] * PATCH))
    shape = {"patch": PATCH, "heads": HEADS, "layers": LAYERS}
    return plain_text.read_by_values(arrays_of(vision.model), pixels.transpose(2, 0, 1), **shape)


def test_patches_are_read_by_their_values(vision):
    image = picture(32, 48)
    ours = vision.read_values(to_tensor(image)[None])[0].numpy()
    assert np.abs(ours - plain_patches(vision, image)).max() < TOLERANCE
    assert np.abs(ours - vision(to_tensor(image)[None]).tokens[0].numpy()).max() > 0.01


def test_patches_do_not_hang_on_the_others_of_the_batch(vision):
    batch = torch.stack([to_tensor(picture(32, 48, seed=seed)) for seed in range(3)])
    alone = torch.cat([vision.read_values(one[None]) for one in batch])
    assert torch.allclose(vision.read_values(batch), alone, atol=1e-5)


@pytest.mark.parametrize(("size", "window", "stride"), [((32, 48), None, 9), ((29, 45), None, 9)])
def test_whole_pictures_equal_the_equations(vision, text, tower, size, window, stride):
    check_scores(vision, text, tower, picture(*size), SlidingWindows(*size, size, size), settings())


def test_windows_equal_the_equations(text, tower):
    """Square windows of a tower for squares."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=32, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS, num_classes=0, reg_tokens=1,
        no_embed_class=True, init_values=1.0, dynamic_img_size=True,
    )  # fmt: skip
    model.pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    vision = DinoEncoder(stirred(model), name="square")
    chosen = settings(window=32, stride=24)
    check_scores(vision, text, tower, picture(41, 60), SlidingWindows(41, 60, 32, 24), chosen)


def check_scores(vision, text, tower, image, plan, chosen):
    segmenter = TipsV2(vision, text, chosen)
    words = segmenter.embed(Vocabulary.of(NAMES)).vectors.double().numpy()
    grid = vision.model.patch_embed.grid_size

    def cosines(piece):
        pixels = piece.astype(float) / 255
        size = (grid[0] * PATCH, grid[1] * PATCH)
        pixels = pixels if pixels.shape[:2] == size else bicubic(pixels, size)
        shape = {"patch": PATCH, "heads": HEADS, "layers": LAYERS}
        patches = plain_text.read_by_values(arrays_of(vision.model), pixels.transpose(2, 0, 1), **shape)
        unit = patches / np.linalg.norm(patches, axis=0)
        return np.einsum("kc,chw->hwk", words, unit)

    expected = plain_text.soft_choice(cosines, plan.boxes, len(NAMES), image, bilinear)
    [seen] = segmenter.look_many([image], ["picture"])
    text = segmenter.embed(Vocabulary.of(NAMES))
    scores = segmenter.merge(seen._plan, seen._score(text), segmenter.lie(seen._plan), text, seen._guide)
    ours = scores.of(range(len(NAMES)), image.shape[:2]).numpy()
    assert np.abs(ours - expected.transpose(2, 0, 1)).max() < TOLERANCE
    result = seen.segment(NAMES, fill=True)
    assert (result.labels == expected.argmax(axis=2)).mean() > 0.999
    assert np.abs(result.scores - expected.max(axis=2)).max() < TOLERANCE


def test_the_paper_is_the_large_tower_with_its_windows():
    usual = settings_of("segmenter", "tipsv2")
    assert (usual.shorter_side, usual.window, usual.stride) == (448, 448, 336)
    for size in ("base", "large", "so400m", "giant"):
        assert timm.is_model(f"vit_{size}_patch14_reg1_tipsv2.webli")


def published(width=8, blocks=2, hidden=12):
    at = "transformer.resblocks."
    state = {"token_embedding.weight": (50, width), "ln_final.weight": (width,), "ln_final.bias": (width,)}
    for n in range(blocks):
        state |= {
            f"{at}{n}.attn.in_proj_weight": (3 * width, width), f"{at}{n}.attn.in_proj_bias": (3 * width,),
            f"{at}{n}.attn.out_proj.weight": (width, width), f"{at}{n}.attn.out_proj.bias": (width,),
            f"{at}{n}.ln_1.weight": (width,), f"{at}{n}.ln_1.bias": (width,),
            f"{at}{n}.ln_2.weight": (width,), f"{at}{n}.ln_2.bias": (width,),
            f"{at}{n}.mlp.c_fc.weight": (hidden, width), f"{at}{n}.mlp.c_fc.bias": (hidden,),
            f"{at}{n}.mlp.c_proj.weight": (width, hidden), f"{at}{n}.mlp.c_proj.bias": (width,),
        }  # fmt: skip
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in state.items()}
    return arrays | {"temperature": np.array(0.01, np.float32)}


@pytest.fixture
def without_pieces(monkeypatch):
    """Neither the package nor its file: what is checked here is the tower."""
    monkeypatch.setattr(tips_text, "need", lambda *_: None)
    monkeypatch.setattr(tips_text, "_pieces_of", lambda path: pieces)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_published_layout_loads(tmp_path, without_pieces, save):
    arrays = published()
    save(tmp_path / "text.npz", **arrays)
    (tmp_path / "tokenizer.model").write_bytes(b"pieces")
    text = tips_text_at(tmp_path / "text.npz", tmp_path / "tokenizer.model", PLAIN)
    state = text.model.state_dict()
    assert set(state) == set(arrays) - {"temperature"}
    assert all(np.array_equal(state[name].numpy(), arrays[name]) for name in state)
    assert text.embedding_size == 8
    assert torch.isfinite(text.encode_text(["a dog", "the sky above"])).all()


def test_a_file_of_something_else_is_refused(tmp_path, without_pieces):
    (tmp_path / "tokenizer.model").write_bytes(b"pieces")
    np.savez(tmp_path / "text.npz", weights=np.zeros(3))
    with pytest.raises(TipsTextError, match="no text tower of TIPS"):
        tips_text_at(tmp_path / "text.npz", tmp_path / "tokenizer.model", PLAIN)
    short = published()
    del short["ln_final.bias"]
    np.savez(tmp_path / "short.npz", **short)
    with pytest.raises(WeightsError, match=r"1 missing \(ln_final\.bias\)"):
        tips_text_at(tmp_path / "short.npz", tmp_path / "tokenizer.model", PLAIN)


def test_arrays_of_objects_or_that_swell_are_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", weights=np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match="Python's objects"):
        read_state_dict(tmp_path / "objects.npz")
    np.savez_compressed(tmp_path / "bomb.npz", weights=np.zeros(10**6, np.float32))
    with pytest.raises(WeightsError, match="swell"):
        read_state_dict(tmp_path / "bomb.npz")
    np.savez(tmp_path / "plain.npz", a=np.asfortranarray(np.arange(6.0).reshape(2, 3)), b=np.array(7))
    found = read_state_dict(tmp_path / "plain.npz")
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found["b"].shape, found["b"].item()) == ((), 7)


def test_towers_of_two_sizes_are_refused(vision):
    other = TipsText(TipsTextTower(50, 16, 1, 2, 8), pieces, name="narrow")
    with pytest.raises(SegmenterError, match="words of 16 numbers"):
        TipsV2(vision, other)


def test_a_text_without_pieces_is_refused(text):
    with pytest.raises(TipsTextError, match="reads nothing"):
        text.encode_text(["dog", " "])


def test_a_tower_with_rotary_code_is_not_read_so():
    model = timm.create_model("vit_small_patch16_dinov3", pretrained=False, num_classes=0, depth=2, embed_dim=64,
                              num_heads=2, img_size=32, dynamic_img_size=True)  # fmt: skip
    with pytest.raises(DinoError, match="values are not read"):
        DinoEncoder(model, name="rotary").read_values(torch.rand(1, 3, 32, 32))


@pytest.mark.skipif(is_installed("sentencepiece"), reason="sentencepiece is here")
def test_without_sentencepiece_the_extra_is_named(tmp_path):
    with pytest.raises(MissingExtraError, match=r"wordmask\[tips\]"):
        tips_text_at("tipsv2-b-14-text", "tips-tokenizer", PLAIN)


def test_pieces_are_of_small_letters(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a dog", "the sky", "grass and a cup"] * 50),
        model_prefix=str(tmp_path / "tokenizer"), vocab_size=40, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    read = tips_text._pieces_of(tmp_path / "tokenizer.model")
    upper, lower = read(["A Photo of the SKY", "a photo of the sky"])
    assert upper == lower
    assert all(isinstance(piece, int) for piece in upper)
    (tmp_path / "damaged.model").write_bytes(b"no pieces")
    with pytest.raises(TipsTextError, match="no file of SentencePiece"):
        tips_text._pieces_of(tmp_path / "damaged.model")


def test_it_names_its_networks(vision, text):
    assert set(TipsV2(vision, text, settings()).networks) == {"vision", "text"}
