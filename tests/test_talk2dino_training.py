"""Talk2DINO's training: its loss against plain NumPy, its recipe, what is read of captions, and runs after a kill."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support import plain_saliency
from support.killing import kill_when
from support.plain_vit import softmax
from support.small_clip import small_clip
from support.stopped_training import Killed, kill_at, log_of
from wordmask.segmenters.talk2dino import Talk2Dino, Talk2DinoSettings, cls_logits, load_mapper
from wordmask.training import talk2dino as talk2dino_training
from wordmask.training.captions import CaptionedPictures
from wordmask.training.checkpoints import BEFORE, CHECKPOINT, CheckpointError
from wordmask.training.errors import TrainingError
from wordmask.training.plans import plan, presets_to_train_by
from wordmask.training.talk2dino import (
    MAPPER_FILE,
    Pairs,
    PairStore,
    Talk2DinoObjective,
    Talk2DinoTraining,
    contrastive_loss,
    head_features,
    nearest_heads,
    pairs_of,
    read_with,
    train_talk2dino,
)

WORDS = ["a red dog", "two boats at sea", "grass", "a man on a horse", "the sky", "a cup", "some bottles"]

pytestmark = pytest.mark.usefixtures("one_thread")


def jpeg(number):
    pixels = np.random.default_rng(number).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """Two shards: captions in the JSON, in the text, in both, and nowhere."""
    folder = tmp_path_factory.mktemp("shards")
    members = [[], []]
    for number, words in enumerate(WORDS):
        key, shard = f"{number:06d}", members[number % 2]
        shard.append((f"{key}.jpg", jpeg(number)))
        if number != 2:
            shard.append((f"{key}.json", json.dumps({"caption": words}).encode()))
        if number in (2, 3):
            shard.append((f"{key}.txt", b"grass\n" if number == 2 else b"not so"))
    members[0].append(("000009.jpg", jpeg(9)))
    for number, found in enumerate(members):
        write_tar(folder / f"{number:05d}.tar", found)
    return folder


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def dino():
    return plain_saliency.tiny_dino()


def settings(tars, out, **changes):
    usual = {"crop": 40, "batch": 4, "epochs": 3, "device": "cpu", "log_every": 1, "learning_rate": 1e-2}
    return Talk2DinoTraining(pictures=tars, out=out, **{**usual, **changes})


def train(clip, dino, tars, out, most=None, **changes):
    chosen = settings(tars, out, **changes)
    return train_talk2dino(chosen, read_with(clip, dino, chosen, CaptionedPictures(tars, most)))


def test_the_papers_recipe_is_the_default(tmp_path):
    recipe = Talk2DinoTraining(pictures=tmp_path, out=tmp_path)
    paper = {
        "clip": "ViT-B-16/openai", "dino": "vit_base_patch14_reg4_dinov2.lvd142m", "crop": 448, "batch": 128,
        "learning_rate": 1e-4, "weight_decay": 0.0, "epochs": 100, "divided": False,
    }  # fmt: skip
    assert {name: getattr(recipe, name) for name in paper} == paper
    assert recipe.steps(1280) == 1000
    assert plan(Talk2DinoTraining, "paper", pictures=tmp_path, out=tmp_path, changes={}) == recipe
    assert set(presets_to_train_by(Talk2DinoTraining)) == {"paper", "world"}


def test_captions_come_of_the_json_and_else_of_the_text(tars, caplog):
    pictures = CaptionedPictures(tars)
    assert sorted(pictures.captions) == sorted(WORDS)
    assert "1 picture without a caption" in caplog.text
    for index, words in enumerate(pictures.captions):
        assert np.array_equal(pictures.read(index), np.asarray(Image.open(io.BytesIO(jpeg(WORDS.index(words))))))
    few = CaptionedPictures(tars, 3, seed=1)
    assert len(few) == len(few.captions) == 3
    assert few.fingerprint != pictures.fingerprint
    assert len(CaptionedPictures(tars / "00001.tar")) == 3


def test_what_holds_no_captions_is_refused(tmp_path, folder):
    with pytest.raises(TrainingError, match="no webdataset tars"):
        CaptionedPictures(folder)
    write_tar(tmp_path / "bare.tar", [("000000.jpg", jpeg(0))])
    with pytest.raises(TrainingError, match="no captions"):
        CaptionedPictures(tmp_path / "bare.tar")


def test_what_a_head_looks_at_is_the_mean_under_its_softmax(dino):
    features = dino(torch.rand(2, 3, 40, 56))
    logits, tokens = cls_logits(features).double().numpy(), features.tokens.double().flatten(2).numpy()
    ours = head_features(features.tokens, cls_logits(features)).numpy()
    for b, h in np.ndindex(ours.shape[:2]):
        weights = softmax(logits[b, h])
        seen = sum(weights[i] * tokens[b, :, i] for i in range(tokens.shape[2]))
        np.testing.assert_allclose(ours[b, h], seen / np.linalg.norm(seen), atol=1e-5)


def plain_loss(words, heads, scale):
    """InfoNCE in loops: a picture is, to all captions, the head that is nearest to its own."""
    count = len(words)
    pictures = [max(heads[i], key=lambda head: head @ words[i]) for i in range(count)]
    scores = scale * np.array([[picture @ word for word in words] for picture in pictures])
    of_pictures = [-np.log(softmax(scores[i])[i]) for i in range(count)]
    of_words = [-np.log(softmax(scores[:, i])[i]) for i in range(count)]
    return (np.mean(of_pictures) + np.mean(of_words)) / 2


@pytest.mark.parametrize("divided", [False, True])
def test_the_loss_is_infonce_with_each_pictures_nearest_head(clip, dino, tars, tmp_path, divided):
    torch.manual_seed(0)
    objective = Talk2DinoObjective(clip, dino, settings(tars, tmp_path, divided=divided))
    heads = torch.nn.functional.normalize(torch.randn(5, plain_saliency.HEADS, plain_saliency.WIDTH), dim=-1)
    texts = torch.randn(5, clip.embedding_size)
    mapped = objective.mapper(texts).detach().double().numpy()
    words = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
    expected = plain_loss(words, heads.double().numpy(), 1 / 0.07) / (25 if divided else 1)
    loss = objective.losses(Pairs(heads, texts), 0)["contrastive"]
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    loss.backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in objective.parameters())


def test_the_best_head_of_another_picture_does_not_count():
    """Of (picture, caption) pairs that do not belong together the head is the one chosen for the picture's own."""
    words = torch.eye(2, 4)
    heads = torch.stack([torch.stack([words[0], words[1]]), torch.stack([words[1], words[0]])])
    assert torch.equal(nearest_heads(words, heads), words)
    alone = contrastive_loss(words, nearest_heads(words, heads), torch.tensor(10.0))
    assert alone.item() == pytest.approx(np.log(1 + np.exp(-10)), abs=1e-5)


def test_what_was_read_is_what_the_networks_say(clip, dino, tars, tmp_path):
    pictures = CaptionedPictures(tars)
    store = PairStore(tmp_path / "read", pictures, clip, dino, 40)
    store.complete()
    pairs = store.everything()
    raw = clip.encode_text(pictures.captions, unit=False)
    np.testing.assert_allclose(pairs.texts, raw, atol=1e-5)
    assert (raw.norm(dim=1) - 1).abs().min() > 0.01  # as CLIP projects them
    assert pairs.heads.shape == (len(WORDS), plain_saliency.HEADS, plain_saliency.WIDTH)
    np.testing.assert_allclose(pairs.heads.float().norm(dim=-1), 1, atol=1e-2)


def test_captions_longer_than_the_tower_reads_are_cut(clip):
    assert torch.isfinite(clip.encode_text(["dog " * 200], unit=False, cut=True)).all()


def test_every_pair_comes_once_an_epoch_in_another_order(tars, tmp_path):
    pairs = Pairs(torch.arange(8.0)[:, None, None], torch.arange(8.0)[:, None])
    chosen = settings(tars, tmp_path)
    found = [batch.texts[:, 0].tolist() for batch in pairs_of(0, 4, slice(None), pairs=pairs, settings=chosen)]
    epochs = found[0] + found[1], found[2] + found[3]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    later = [batch.texts[:, 0].tolist() for batch in pairs_of(2, 4, slice(None), pairs=pairs, settings=chosen)]
    assert later == found[2:]


def test_captions_come_nearer_to_their_pictures(clip, dino, tars, tmp_path):
    train(clip, dino, tars, tmp_path, epochs=100, batch=7)
    told = [line["contrastive"] for line in log_of(tmp_path)]
    assert np.mean(told[-5:]) < 0.5 * np.mean(told[:5])


def test_the_written_file_segments(clip, dino, tars, tmp_path):
    mapper = train(clip, dino, tars, tmp_path)
    loaded = load_mapper(tmp_path / MAPPER_FILE)
    for name, value in mapper.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float()), name
    small = Talk2DinoSettings(shorter_side=40, window=40, stride=20, square=40, pamr=False)
    result = Talk2Dino(clip, dino, loaded, small).segment(np.zeros((40, 48, 3), np.uint8), ["dog", "grass"])
    assert np.isfinite(result.scores).all()


def test_a_killed_training_ends_like_one_never_killed(clip, dino, tars, tmp_path, monkeypatch):
    whole = train(clip, dino, tars, tmp_path / "whole")
    kill_at(monkeypatch, Talk2DinoObjective, 4)
    with pytest.raises(Killed):
        train(clip, dino, tars, tmp_path / "killed", save_every=1)
    resumed = train(clip, dino, tars, tmp_path / "killed", save_every=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "killed")


def test_reading_goes_on_where_it_was_stopped(clip, dino, tars, tmp_path, monkeypatch):
    monkeypatch.setattr(talk2dino_training, "BLOCK", 3)
    train(clip, dino, tars, tmp_path)
    (tmp_path / "read" / "000001.safetensors").unlink()
    read = []
    original = CaptionedPictures.read
    monkeypatch.setattr(CaptionedPictures, "read", lambda self, index: read.append(index) or original(self, index))
    train(clip, dino, tars, tmp_path)
    assert sorted(read) == [3, 4, 5]


def test_other_captions_or_networks_are_not_gone_on_with(clip, dino, tars, tmp_path):
    train(clip, dino, tars, tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train(clip, dino, tars, tmp_path, learning_rate=1e-3)
    with pytest.raises(TrainingError, match="made with pictures"):
        train(clip, dino, tars, tmp_path, most=3)
    with pytest.raises(TrainingError, match="made with clip"):
        train(small_clip(seed=1), dino, tars, tmp_path)


def test_a_crop_must_be_whole_patches(clip, dino, tars, tmp_path):
    with pytest.raises(TrainingError, match="no multiple"):
        train(clip, dino, tars, tmp_path, crop=36)


@pytest.fixture
def wordmask(monkeypatch, command, clip, dino):
    """Runs the command in this process, with tiny networks for all others: (exit status, stdout, stderr)."""
    monkeypatch.setattr(talk2dino_training, "clip_at", lambda *_: clip)
    monkeypatch.setattr(talk2dino_training, "dino_at", lambda *_: dino)
    return command


def test_the_verb_writes_a_mapper_and_says_how_to_use_it(wordmask, tars, tmp_path):
    small = ["--set", "crop=40", "--set", "batch=4", "--set", "epochs=1"]
    status, out, err = wordmask(
        "train-talk2dino", "--captions", tars, "--out", tmp_path, "--device", "cpu", "--json", *small
    )
    assert status == 0, err
    told = json.loads(out)
    assert told == {"method": "talk2dino", "preset": "paper", "weights": str(tmp_path / MAPPER_FILE)}
    assert "--method talk2dino" in err
    load_mapper(told["weights"])


def test_wrong_wishes_are_explained_in_one_line(wordmask, tars, tmp_path):
    for arguments, said in [
        (("--captions", tars, "--set", "epoch=3"), "no setting 'epoch'"),
        (("--captions", tars, "--set", "flip=0.5"), "flip=0.5 cannot be used"),
        (("--captions", tars, "--preset", "moon"), "choose one of paper, world"),
        ((), "--captions is missing"),
    ]:
        status, _, err = wordmask("train-talk2dino", "--out", tmp_path, *arguments)
        assert (status, said in err, len(err.splitlines())) == (1, True, 1), err


TRAIN = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
import torch
from support.plain_saliency import tiny_dino
from support.small_clip import small_clip
from wordmask.training.captions import CaptionedPictures
from wordmask.training.talk2dino import Talk2DinoTraining, read_with, train_talk2dino

torch.set_num_threads(1)
tars, out = Path(sys.argv[1]), Path(sys.argv[2])
settings = Talk2DinoTraining(
    pictures=tars, out=out, crop=40, batch=4, epochs=60, device="cpu", log_every=1, save_every=1
)
train_talk2dino(settings, read_with(small_clip(), tiny_dino(), settings, CaptionedPictures(tars)))
"""


@pytest.mark.slow
def test_a_run_killed_without_warning_goes_on_and_loses_a_step_at_most(tars, tmp_path):
    def start(out):
        return subprocess.Popen(
            [sys.executable, "-c", TRAIN, tars, out], env=os.environ | {"PYTHONPATH": "src"}, stderr=subprocess.PIPE
        )

    out, log = tmp_path / "killed", tmp_path / "killed" / "log.jsonl"
    kill_when(start(out), lambda: log.is_file() and len(log.read_text().splitlines()) > 20)
    before = len(log.read_text().splitlines())
    files = [file for file in (out / CHECKPOINT, out / BEFORE) if file.exists()]
    assert before - max(torch.load(file, weights_only=True)["step"] for file in files) <= 1
    for folder in (out, tmp_path / "whole"):
        process = start(folder)
        assert process.wait() == 0, process.stderr.read()
    whole, killed = (load_mapper(Path(folder) / MAPPER_FILE).state_dict() for folder in (tmp_path / "whole", out))
    assert all(torch.equal(killed[name], value) for name, value in whole.items())
