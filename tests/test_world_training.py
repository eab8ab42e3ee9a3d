"""The recipes of the world's small models: batches, losses, tokenizer, and runs that survive a kill."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from support.stopped_training import Killed, kill_at, log_of
from support.tiny_world import CHANNELS, TINY, student_settings, teacher_settings
from wordmask.encoders.clip_dense import CLIP_DINOISER, MASKCLIP, DenseViT
from wordmask.training.checkpoints import CHECKPOINT, CheckpointError, read_checkpoint
from wordmask.training.logs import CURVES, RunLog, last_figures
from wordmask_world import NAMES, caption_names, draw_scene
from wordmask_world.files.training_file import write_array
from wordmask_world.training import figures, losses
from wordmask_world.training.batches import Batches, Stage, mirrored, random_crops
from wordmask_world.training.clip import ClipSettings, ClipStudent, TrainedViT, train_clip
from wordmask_world.training.clip_teacher import (
    MERGES_FILE,
    STATISTICS,
    ClipTeacher,
    ClipTeacherSettings,
    random_prompts,
    train_clip_teacher,
)
from wordmask_world.training.data import TrainingPictures
from wordmask_world.training.dino import DinoSettings, SelfDistillation, train_dino
from wordmask_world.training.figures import mean_iou
from wordmask_world.training.loop import Recipe, TrainingSettings, learning_rate_at, train
from wordmask_world.training.plans import PLANS
from wordmask_world.training.text import count_words, learn_merges, load_tokenizer, read_text, write_merges

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_array(tmp_path_factory.mktemp("pictures") / "train.npy", 24, size=32)


@pytest.fixture(scope="module")
def drawn(pictures):
    return TrainingPictures(pictures)


@pytest.fixture
def batches(drawn):
    return Batches(drawn, seed=1, device=torch.device("cpu"))


@pytest.fixture(autouse=True, scope="module")
def few_figures():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NAMED_PICTURES", "SOUGHT_PICTURES", "MASKED_PICTURES"):
            patch.setattr(figures, name, 4)
        yield


@pytest.fixture(scope="module")
def teacher_run(few_figures, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    train_clip_teacher(teacher_settings(pictures, out))
    return out


def dino_settings(pictures, out, **changes):
    return DinoSettings(
        pictures=pictures, out=out, width=24, blocks=2, heads=2, prototypes=8, hidden=8, bottleneck=4, **changes
    )


def killed(monkeypatch, recipe, call, train, settings):
    kill_at(monkeypatch, recipe, call)
    with pytest.raises(Killed):
        train(settings)


def assert_same_weights(one, other):
    first, second = read_checkpoint(one / CHECKPOINT), read_checkpoint(other / CHECKPOINT)
    assert first["step"] == second["step"]
    for part in ("recipe", "averaged"):
        assert first[part].keys() == second[part].keys()
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), name


def test_a_killed_teacher_ends_like_one_never_killed(pictures, teacher_run, tmp_path, monkeypatch):
    settings = teacher_settings(pictures, tmp_path, save_every=1)
    killed(monkeypatch, ClipTeacher, 3, train_clip_teacher, settings)
    assert read_checkpoint(tmp_path / CHECKPOINT)["step"] == 2
    train_clip_teacher(settings)
    assert_same_weights(tmp_path, teacher_run)
    assert log_of(tmp_path) == log_of(teacher_run)


def test_a_killed_student_ends_like_one_never_killed(pictures, teacher_run, tmp_path, monkeypatch):
    train_clip(student_settings(pictures, teacher_run, tmp_path / "whole"))
    settings = student_settings(pictures, teacher_run, tmp_path / "killed", save_every=1)
    killed(monkeypatch, ClipStudent, 3, train_clip, settings)
    train_clip(settings)
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("network", ["vit", "resnet"])
def test_a_killed_dino_ends_like_one_never_killed(network, pictures, tmp_path, monkeypatch):
    stages = (Stage(pictures=12, size=32, batch=4),)
    small = {"network": network, "image_size": 32, "channels": CHANNELS, "local_crops": 1, "local_size": 16}
    whole, settings = (
        dino_settings(pictures, tmp_path / out, **small, precision="fp32", stages=stages, save_every=1)
        for out in ("whole", "killed")
    )
    train_dino(whole)
    killed(monkeypatch, SelfDistillation, 2, train_dino, settings)
    train_dino(settings)
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")


def test_a_run_can_begin_where_another_ended(pictures, teacher_run, tmp_path):
    settings = teacher_settings(pictures, tmp_path, start=teacher_run, learning_rate=1e-12, weight_decay=0, average=0)
    teacher = train_clip_teacher(settings)
    before = read_checkpoint(teacher_run / CHECKPOINT)["averaged"]
    for name, value in teacher.named_parameters():
        torch.testing.assert_close(value, before[name], msg=name)


def test_a_checkpoint_that_does_not_serve_is_refused(pictures, teacher_run, tmp_path):
    with pytest.raises(CheckpointError, match="other settings"):
        train_clip_teacher(teacher_settings(pictures, teacher_run, learning_rate=0.5))
    with pytest.raises(CheckpointError, match="another model"):
        train_dino(DinoSettings(pictures=pictures, out=tmp_path / "dino", start=teacher_run, prototypes=16, hidden=16))
    (tmp_path / MERGES_FILE).write_bytes((teacher_run / MERGES_FILE).read_bytes())
    with pytest.raises(CheckpointError, match="train that model first"):
        train_clip(student_settings(pictures, tmp_path, tmp_path / "out"))
    (tmp_path / CHECKPOINT).write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="delete it and start again"):
        read_checkpoint(tmp_path / CHECKPOINT)


def test_a_student_leaves_its_teacher_and_the_words_alone_and_reads_as_the_encoders(pictures, teacher_run, tmp_path):
    student = train_clip(student_settings(pictures, teacher_run, tmp_path))
    taught = read_checkpoint(teacher_run / CHECKPOINT)["averaged"]
    for name, value in student.teacher.state_dict().items():
        assert torch.equal(value, taught[name]), name
    for name, value in student.clip.state_dict().items():
        if not name.startswith("visual."):
            assert torch.equal(value, taught[f"words.clip.{name}"]), name
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(3))
    read, grid = TrainedViT(student.clip.visual).read_all(STATISTICS.normalise(images))
    assert grid == (4, 6)
    expected = student.encoder().encode_image(images)
    torch.testing.assert_close(F.normalize(read.pooled, dim=-1), expected, atol=1e-5, rtol=1e-4)
    for values, reading in ((read.values, CLIP_DINOISER), (read.bare_values, MASKCLIP)):
        expected = DenseViT(student.clip.visual)(STATISTICS.normalise(images), reading=reading).values
        torch.testing.assert_close(values, expected.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("machine", ["cpu", "accelerator"])
def test_every_plan_fits_its_recipe_and_the_next(machine, tmp_path):
    paths = {"pictures": tmp_path / "train.npy", "out": tmp_path}
    teacher = ClipTeacherSettings(**paths, **PLANS["clip-teacher"][machine])
    student = ClipSettings(**paths, **PLANS["clip"][machine])
    assert (student.teacher_channels, student.teacher_depths) == (teacher.channels, teacher.depths)
    assert student.architecture == teacher.architecture
    assert student.architecture.blocks >= 6  # CLIP-DINOiser reads the third block from the end
    assert DinoSettings(**paths, **PLANS["dino"][machine]).network == "vit"
    assert DinoSettings(**paths, **PLANS["resnet"][machine]).network == "resnet"


def test_prompts_are_learnt_with_either_article():
    torch.manual_seed(0)
    articles = {prompts.fill("umbrella")[0].split()[-2] for prompts in (random_prompts() for _ in range(50))}
    assert {"a", "an"} <= articles


def test_a_finished_run_tells_its_held_out_figures(teacher_run):
    assert set(last_figures(teacher_run)) == {"naming", "recall_at_1"}


def test_log_and_curves_forget_what_comes_after_the_checkpoint(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, resume_at=0)
    for step in (1, 2, 3):
        log.write(step, loss=float(step))
    log.write(3, pictures="validation", naming=50.0)
    with log.path.open("a") as file:
        file.write('{"step": 2, "lo')
    again = RunLog(tmp_path, resume_at=2)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2]
    again.write(3, loss=7.0)
    curves = EventAccumulator(str(tmp_path / CURVES)).Reload()
    assert [(event.step, event.value) for event in curves.Scalars("training/loss")] == [(1, 1), (2, 2), (3, 7)]
    assert curves.Scalars("validation/naming") == []  # its step comes again


def test_an_epoch_shows_every_picture_of_the_stage_once(drawn, batches):
    stage = Stage(pictures=100, size=16, batch=2, kinds=("single", "multi"))
    eligible = drawn.of_kinds(stage.kinds)
    shown = np.concatenate([batches.indices(stage, step) for step in range(len(eligible))])
    first, second = shown[: len(eligible)], shown[len(eligible) : 2 * len(eligible)]
    assert sorted(first) == sorted(second) == sorted(eligible)
    assert list(first) != list(second)


def test_names_come_from_the_captions(drawn, batches):
    stage = Stage(pictures=4, size=16, batch=4)
    for row, index in zip(batches.at(stage, 0, 0).named, batches.indices(stage, 0), strict=True):
        told = set().union(*(caption_names(caption) for caption in drawn.captions[index]))
        assert {NAMES[place] for place in row.nonzero().flatten().tolist()} == told


def test_training_pictures_are_the_worlds(drawn):
    scene = draw_scene(5, 32)
    assert torch.equal(drawn.images(np.array([5]))[0], torch.from_numpy(scene.image).permute(2, 0, 1))
    assert drawn.captions[5] == scene.captions
    assert len(drawn.everything()) == len(drawn) == 24


def test_a_flipped_picture_has_left_and_right_exchanged():
    assert mirrored("a dog on the left and a cat on the right") == "a dog on the right and a cat on the left"
    assert mirrored("a dog on the left, a cat and a cow") == "a dog on the right, a cat and a cow"


def test_crops_lie_inside_the_picture_and_may_be_flipped():
    flips = torch.tensor([False, True])
    whole = random_crops(torch.rand(2, 3, 16, 16), 16, (1.0, 1.0), flips, torch.Generator().manual_seed(0))
    assert whole.shape == (2, 3, 16, 16)
    crops = random_crops(torch.linspace(0, 1, 16).expand(2, 3, 16, 16), 8, (0.9, 1.0), flips)
    assert (crops[0].diff(dim=-1) >= 0).all()
    assert (crops[1].diff(dim=-1) <= 0).all()


def test_equal_captions_are_not_told_apart():
    texts = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), dim=-1)
    captions = ["a dog", "a dog", "a cat"]
    loss = losses.contrastive_loss(texts, texts, captions, torch.tensor(50.0))
    assert loss == pytest.approx(2 / 3 * np.log(2), abs=1e-3)  # only which of the two dogs stays open
    swapped = losses.contrastive_loss(texts[[2, 1, 0]], texts, captions, torch.tensor(50.0))
    assert swapped > 10


def test_a_name_may_hold_of_a_part_of_the_picture():
    loss, names = losses.NameLoss(), torch.eye(len(NAMES))
    maps = torch.zeros(1, len(NAMES), 4, 4)
    maps[0, 0, 0, 0] = maps[0, 1, 0, 1:] = 1
    right, wrong = (loss.peak(maps, names, names[[name]], share=1 / 16) for name in (0, 5))
    assert wrong > right


def test_a_thing_counts_however_little_of_the_cosine_it_is():
    teacher, swapped = F.normalize(torch.tensor([[[1.0, 0.6, 0.5]], [[0.6, 1.0, 0.5]]]), dim=-1)
    names = torch.eye(3)
    assert losses.same_names_loss(teacher, teacher, names) + 1 < losses.same_names_loss(swapped, teacher, names)


def test_imitation_ignores_the_teachers_scale_and_offset():
    teacher = torch.randn(2, 6, 3)
    told = F.batch_norm(teacher.flatten(0, 1), None, None, training=True).view_as(teacher)
    assert losses.imitation_loss(told, 7 * teacher + 3) == pytest.approx(0, abs=1e-4)


def test_a_momentum_teacher_follows_slowly(pictures):
    model = SelfDistillation(dino_settings(pictures, Path(), momentum=0.9))
    before = model.teacher["head"].prototypes.weight.clone()
    with torch.no_grad():
        model.student["head"].prototypes.weight.add_(1.0)
    model.after_step(progress=0.0)
    torch.testing.assert_close(model.teacher["head"].prototypes.weight, before + 0.1)


def rates_of(*stages):
    settings = TrainingSettings(pictures=Path(), out=Path(), stages=stages, warm_up=0.1)
    return [learning_rate_at(step, settings) for step in range(settings.steps)], settings.learning_rate


def test_the_rate_rises_then_falls():
    rates, highest = rates_of(Stage(pictures=60, batch=2), Stage(pictures=140, batch=2))
    assert rates[9] == highest == max(rates)
    assert rates[0] == pytest.approx(highest / 10)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0)


def test_a_stage_may_begin_a_rise_and_fall_of_its_own():
    first = Stage(pictures=80, batch=2)
    (rates, _), (alone, _) = rates_of(first, Stage(pictures=40, batch=2, learning_rate=0.5)), rates_of(first)
    assert rates[:40] == alone
    assert rates[40:42] == [pytest.approx(0.25), 0.5]
    assert rates[-1] == pytest.approx(0)


def test_whole_words_are_one_token_and_any_word_can_be_read(tmp_path):
    words = count_words(["a photo of a bicycle", "two bicycles on the grass"])
    for name in ("merges.gz", "again.gz"):
        write_merges(tmp_path / name, learn_merges(words))
    assert (tmp_path / "merges.gz").read_bytes() == (tmp_path / "again.gz").read_bytes()
    tokenizer = load_tokenizer(tmp_path / "merges.gz")
    assert len(tokenizer.encode("a photo of a bicycle")) == 5
    assert tokenizer.decode(tokenizer.encode("zyzzyva été 3")).strip() == "zyzzyva été 3"
    assert tokenizer([" ".join(["unheard"] * 200)]).shape == (1, tokenizer.context_length)


def test_reading_short_texts_skips_positions_and_nothing_else(teacher_run):
    tokenizer = load_tokenizer(teacher_run / MERGES_FILE)
    clip = ClipTeacher(TINY, CHANNELS, (1, 1, 1, 1), tokenizer).words.clip.eval()
    tokens = tokenizer(["a dog", "a photo of two cats on the grass"])
    torch.testing.assert_close(read_text(clip, tokens), clip.encode_text(tokens), atol=1e-5, rtol=1e-4)


def test_mean_iou_counts_all_pictures_together():
    truth = [np.array([[0, 0], [1, 1]]), np.array([[1, 1], [1, 1]])]
    found = [np.array([[0, 1], [1, 1]]), np.array([[1, 1], [1, 1]])]
    assert mean_iou(found, truth, 3) == pytest.approx(100 * (1 / 2 + 6 / 7) / 2)


def test_training_makes_the_loss_small(pictures, tmp_path):
    class Line(Recipe):
        captioned = False

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2, 2))

        def losses(self, batch, progress):
            return {"square": self.weight.square().sum()}

        def figures(self, first_seed):
            return {"size": float(self.weight.norm())}

    stages = (Stage(pictures=200, batch=2),)
    settings = TrainingSettings(pictures, tmp_path, stages=stages, learning_rate=0.05, precision="fp32")
    line = train(Line(), settings)
    assert line.weight.abs().max() < 0.2
    assert last_figures(tmp_path) == {"size": pytest.approx(float(line.weight.norm()), abs=1e-4)}
