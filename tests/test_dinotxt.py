"""dino.txt against slow loops written from its equations, on random weights; the layout of its published file."""

import numpy as np
import open_clip
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from support import plain_text
from support.plain_vit import arrays_of
from support.plain_windows import TOLERANCE, bilinear, picture
from support.small_dino import stirred
from wordmask.compute import PLAIN
from wordmask.encoders import dinotxt
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.dinotxt import DinoText, DinoTextError, TextBackbone, TextTower, VisionHead, dinotxt_at
from wordmask.methods import settings_of
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.pictures.windows import SlidingWindows
from wordmask.segmenters.base import MissingWeightsError, SegmenterError
from wordmask.segmenters.dinotxt import DinoTxt, DinoTxtSettings

PATCH, WIDTH, HEADS, TEXT_WIDTH, TEXT_HEADS = 8, 32, 2, 24, 3
NAMES = ["dog", "grass", "sky"]


@pytest.fixture(scope="module")
def dino():
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=32, patch_size=PATCH, embed_dim=WIDTH, depth=2, num_heads=HEADS, num_classes=0, reg_tokens=4,
        no_embed_class=True, init_values=1.0, dynamic_img_size=True,
    )  # fmt: skip
    model.pretrained_cfg = {}
    return DinoEncoder(stirred(model), name="small")


@pytest.fixture(scope="module")
def head():
    torch.manual_seed(1)
    return stirred(VisionHead(WIDTH, 2, HEADS, 44, biased=False))


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(2)
    return stirred(TextTower(TextBackbone(49408, 77, TEXT_WIDTH, 2, TEXT_HEADS, 40, biased=False), 2 * WIDTH), 0.3)


@pytest.fixture(scope="module")
def text(tower):
    return DinoText(tower, open_clip.SimpleTokenizer(context_length=77), name="small")


def settings(**changes):
    return DinoTxtSettings(**{"shorter_side": None, "window": 32, "stride": 24, "templates": "photo-a", **changes})


def plain_patches(dino, head, image):
    """A picture (3, H, W) in [0, 1] -> patches (C, h, w): CLS, registers and patches go through the blocks."""
    features = dino(image[None])
    tokens = torch.cat([features.cls, features.registers[0], features.tokens[0].flatten(1).T]).double().numpy()
    assert len(features.registers[0]) == 4
    read = plain_text.dinotxt_head(arrays_of(head), tokens, HEADS)
    return read[5:].T.reshape(-1, *features.grid)


@pytest.mark.parametrize("size", [(32, 32), (40, 64)])
def test_patches_equal_the_equations(dino, head, size):
    image = to_tensor(picture(*size))
    ours = head.patches(dino(image[None]))[0].detach().numpy()
    assert np.abs(ours - plain_patches(dino, head, image)).max() < TOLERANCE


def test_registers_are_dinos_own_behind_the_norm(dino):
    image = to_tensor(picture(32, 32))
    x = dino.model.forward_features(dino.statistics.normalise(image[None]))
    assert torch.allclose(dino(image[None]).registers, x[:, 1:5], atol=1e-5)


def test_words_equal_the_equations(text, tower):
    """Each token sees those before it; the end token speaks; the second half of what it says is for patches."""
    prompts = ["a photo of a dog", "sky"]
    ours, p = text.encode_text(prompts).numpy(), arrays_of(tower)
    for row, tokens in zip(ours, text.tokenizer(prompts).numpy(), strict=True):
        read = plain_text.dinotxt_text(p, tokens[: tokens.argmax() + 1], TEXT_HEADS)
        expected = read[WIDTH:] / np.linalg.norm(read[WIDTH:])
        assert np.abs(row - expected).max() < TOLERANCE
    assert np.abs(ours[1] - text.encode_text(["sky"])[0].numpy()).max() < 1e-5


def test_pictures_equal_the_equations(dino, head, text):
    image, plan = picture(41, 60), SlidingWindows(41, 60, 32, 24)
    segmenter = DinoTxt(dino, head, text, settings())
    words = text.encode_text([f"a photo of a {name}" for name in NAMES]).double().numpy()

    def cosines(piece):
        patches = plain_patches(dino, head, to_tensor(piece))
        return np.einsum("kc,chw->hwk", words, patches / np.linalg.norm(patches, axis=0))

    expected = plain_text.soft_choice(cosines, plan.boxes, len(NAMES), image, bilinear)
    result = segmenter.segment(image, NAMES, fill=True)
    assert (result.labels == expected.argmax(axis=2)).mean() > 0.999
    assert np.abs(result.scores - expected.max(axis=2)).max() < TOLERANCE


def test_the_names_go_through_in_turns(dino, head, text, monkeypatch):
    from wordmask.segmenters import text_aligned

    segmenter, names = DinoTxt(dino, head, text, settings()), [*NAMES, "cat", "sofa"]
    at_once = segmenter.segment(picture(32, 32), names, fill=True)
    monkeypatch.setattr(text_aligned, "MAPS_BYTES", 2 * 4 * 32 * 32)
    in_turns = segmenter.segment(picture(32, 32), names, fill=True)
    assert np.array_equal(at_once.labels, in_turns.labels)
    np.testing.assert_allclose(at_once.scores, in_turns.scores, atol=1e-6)


def test_pictures_do_not_hang_on_the_others_of_a_batch(dino, head, text):
    segmenter = DinoTxt(dino, head, text, settings())
    images = [picture(41, 60), picture(32, 32, seed=1), picture(50, 33, seed=2)]
    for image, seen in zip(images, segmenter.look_many(images, ["a", "b", "c"]), strict=True):
        alone = segmenter.segment(image, Vocabulary.of(NAMES), fill=True)
        assert np.abs(seen.segment(NAMES, fill=True).scores - alone.scores).max() < 1e-5


def published(width=64, hidden=44, text_width=64, text_hidden=40, blocks=2, biased=False):
    v, t = "visual_model.head.", "text_model.backbone."
    sides = {"weight", "bias"}
    state = {
        "logit_scale": (), f"{t}token_embedding.weight": (49408, text_width),
        f"{t}positional_embedding": (77, text_width),
        "text_model.head.linear_projection.weight": (2 * width, text_width),
        **{f"{t}ln_final.{side}": (text_width,) for side in sides},
        **{f"{v}ln_final.{side}": (width,) for side in sides},
    }  # fmt: skip
    for n in range(blocks):
        for at, out, into in [
            (f"{v}blocks.{n}.attn.qkv", 3 * width, width), (f"{v}blocks.{n}.attn.proj", width, width),
            (f"{v}blocks.{n}.mlp.w1", hidden, width), (f"{v}blocks.{n}.mlp.w2", hidden, width),
            (f"{v}blocks.{n}.mlp.w3", width, hidden), (f"{t}blocks.{n}.attention.qkv", 3 * text_width, text_width),
            (f"{t}blocks.{n}.attention.proj", text_width, text_width),
            (f"{t}blocks.{n}.feed_forward.fc1", text_hidden, text_width),
            (f"{t}blocks.{n}.feed_forward.fc2", text_width, text_hidden),
        ]:  # fmt: skip
            state[f"{at}.weight"] = (out, into)
            if biased or not at.endswith("qkv"):
                state[f"{at}.bias"] = (out,)
        for name, size in [("norm1", width), ("norm2", width)]:
            state |= {f"{v}blocks.{n}.{name}.{side}": (size,) for side in sides}
        state |= {f"{v}blocks.{n}.ls{i}.gamma": (width,) for i in (1, 2)}
        for name in ("attention_norm", "ffn_norm"):
            state |= {f"{t}blocks.{n}.{name}.{side}": (text_width,) for side in sides}
    return {name: torch.randn(shape) for name, shape in state.items()}


@pytest.mark.parametrize("biased", [False, True])
def test_the_published_layout_loads(tmp_path, biased):
    state = published(biased=biased)
    torch.save(state, tmp_path / "dinotxt.pth")
    head, text = dinotxt_at(tmp_path / "dinotxt.pth", 64, PLAIN)
    loaded = {f"visual_model.head.{name}": value for name, value in head.state_dict().items()}
    loaded |= {f"text_model.{name}": value for name, value in text.model.state_dict().items()}
    assert set(loaded) == set(state) - {"logit_scale"}
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())
    assert (text.embedding_size, head.blocks[0].attn.heads) == (64, 1)


def test_a_dino_in_the_file_is_passed_over(tmp_path):
    torch.save(published() | {"visual_model.backbone.cls_token": torch.zeros(1, 1, 64)}, tmp_path / "whole.pth")
    dinotxt_at(tmp_path / "whole.pth", 64, PLAIN)


def test_what_is_no_such_file_or_for_another_dino_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(DinoTextError, match="no file of dino"):
        dinotxt_at(tmp_path / "other.pth", 64, PLAIN)
    torch.save(published(), tmp_path / "dinotxt.pth")
    with pytest.raises(DinoTextError, match="for a DINO of 64 numbers a patch, and this one has 32"):
        dinotxt_at(tmp_path / "dinotxt.pth", 32, PLAIN)


def test_the_published_sizes_are_those_of_the_facts():
    """Two blocks whose hidden layers are a multiple of 64, 20 heads of 64 in the text tower."""
    with torch.device("meta"):
        head = VisionHead(1024, 2, 1024 // dinotxt.HEAD_WIDTH, 2752, biased=False)
        tower = TextTower(TextBackbone(49408, 77, 1280, 24, 1280 // dinotxt.HEAD_WIDTH, 5120, biased=False), 2048)
    assert (head.blocks[0].attn.heads, tower.backbone.blocks[0].attention.heads) == (16, 20)
    assert tuple(tower.head["linear_projection"].weight.shape) == (2048, 1280)
    assert -(-int(4 * 1024 * 2 / 3) // 64) * 64 == 2752


def test_the_papers_settings_and_where_its_file_is():
    usual = settings_of("segmenter", "dinotxt")
    assert (usual.shorter_side, usual.window, usual.stride, usual.templates) == (512, 384, 192, "imagenet-80")
    with pytest.raises(MissingWeightsError, match="licence"):
        DinoTxt.build(usual, PLAIN)


def test_words_for_another_dino_are_refused(dino, head):
    narrow = TextTower(TextBackbone(49408, 77, TEXT_WIDTH, 1, TEXT_HEADS, 8, biased=False), 30)
    with pytest.raises(SegmenterError, match="words of 15 numbers"):
        DinoTxt(dino, head, DinoText(narrow, open_clip.SimpleTokenizer(), name="narrow"))


def test_it_names_its_networks(dino, head, text):
    assert set(DinoTxt(dino, head, text, settings()).networks) == {"dino", "head", "text"}
