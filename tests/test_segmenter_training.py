"""What experts and students learn from, and a loop that survives being killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import wordmask
from support.small_archive import NAMES, QUICK, make_archive, picture
from support.stopped_training import Killed, log_of, stop_at
from wordmask.benchmarks.datasets import Sample
from wordmask.distillation import training
from wordmask.distillation.augmentations import Augmentation, coloured, draw_colours, draw_view, see
from wordmask.distillation.batches import Examples, Samples, stream
from wordmask.distillation.records import DistillationError
from wordmask.distillation.student import PRESETS, StudentSettings, train_student, with_background
from wordmask.distillation.training import ignore_label, new_network, poly_rate
from wordmask.names.vocabulary import Vocabulary
from wordmask.runs.parts import CHECKSUMS
from wordmask.segmenters.student_file import read_student
from wordmask.training.team import Team

LABEL_OF = {name: label for label, name in enumerate(NAMES, start=1)}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def whole(masks, tmp_path_factory):
    """A run that nobody stopped."""
    return learn(masks, tmp_path_factory.mktemp("whole"))


def samples(masks, **changes):
    options = {"most_pasted": 2, "seed": 3, "ignore": 255}
    return Samples(Examples(masks, LABEL_OF), QUICK.augmentation, **{**options, **changes})


def learn(masks, out, settings=QUICK, **options):
    return train_student(masks, NAMES, settings, out, seed=1, device="cpu", **options)


# What is learnt from


def test_every_example_comes_once_an_epoch_and_in_another_order_in_the_next(masks):
    own = samples(masks)
    epochs = [[own.index(place) for place in range(start, start + 12)] for start in (0, 12, 24)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_picture_depends_on_seed_and_place_alone(masks):
    own = samples(masks)
    whole, parts = own.at(range(8)), [samples(masks).at(range(3, 8)), own.at(range(3))]
    assert torch.equal(whole.images, torch.cat([part.images for part in reversed(parts)]))
    assert torch.equal(whole.labels, torch.cat([part.labels for part in reversed(parts)]))
    assert not torch.equal(whole.images, samples(masks, seed=4).at(range(8)).images)


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_threads_and_processes_change_nothing(masks, workers, processes):
    steps = [range(start, start + 4) for start in range(0, 32, 4)]
    alone, together = (list(stream(samples(masks), steps, count, processes=processes)) for count in (0, workers))
    assert len(alone) == 8
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_what_goes_wrong_in_a_process_is_told_as_it_would_be_here(masks, monkeypatch):
    own = samples(masks)

    def ends(place):
        os.kill(os.getpid(), signal.SIGKILL)

    def fails(place):
        raise DistillationError(f"place {place}")

    for one, told in ((fails, "place 0"), (ends, "workers=4")):
        monkeypatch.setattr(own, "one", one)
        with pytest.raises(DistillationError, match=told):
            list(stream(own, [range(2)], 1, processes=True))


def test_threads_leave_torch_its_own(masks):
    torch.set_num_threads(2)
    try:
        list(stream(samples(masks), [range(2)], 2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_without_copy_paste_a_sample_is_its_picture_seen_and_coloured(masks):
    own = samples(masks, most_pasted=1)
    for place in range(6):
        chance = np.random.default_rng((3, place))
        record = masks[int(own.examples.rows[own.index(place)])]
        mask, crop = record.mask(), QUICK.augmentation.crop
        view = draw_view(chance, mask.shape, QUICK.augmentation)
        pixels, labels = see(masks.open_image(record.image), mask, view, crop, label=LABEL_OF[record.name], ignore=255)
        image, found = own.one(place)
        assert torch.equal(found, labels)
        assert torch.equal(image, coloured(pixels, draw_colours(chance, QUICK.augmentation)))


def test_copy_paste_adds_things_and_changes_nothing_beside_them(masks):
    with_paste, without = samples(masks), samples(masks, most_pasted=1)
    pasted = 0
    for place in range(40):
        (image, labels), (own, own_labels) = with_paste.one(place), without.one(place)
        changed = (image != own).any(dim=0)
        assert ((labels[changed] > 0) & (labels[changed] != 255)).all()
        assert (labels[labels != own_labels] > 0).all()
        pasted += bool(changed.any())
    assert 10 < pasted < 30  # every second picture, less the things that lie outside their view


def test_labels_are_those_of_the_names(masks):
    found = [samples(masks, most_pasted=1).one(place)[1].unique().tolist() for place in range(12)]
    assert set().union(*found) - {255} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("spoil", "next_one", "warning"),
    [
        (lambda folder: (folder / "apple-0.png").unlink(), ("apple", 1, (40, 44)), "apple-0.png"),
        (
            lambda folder: (folder / "apple-1.png").replace(folder / "apple-0.png"),
            ("leaf", 0, (40, 48)),
            "another size",
        ),
    ],
    ids=["gone", "of another size than its mask"],
)
def test_a_picture_that_teaches_nothing_is_left_out_with_a_warning(tmp_path, caplog, spoil, next_one, warning):
    masks = make_archive(tmp_path, each=2)
    spoil(tmp_path / "pictures")
    image, mask, label = Examples(masks, LABEL_OF).read(0)
    expected, shape = picture(*next_one)
    assert np.array_equal(image, expected)
    assert np.array_equal(mask, shape)
    assert label == LABEL_OF[next_one[0]]
    assert warning in caplog.text


def test_an_archive_without_a_usable_mask_is_an_error(masks):
    with pytest.raises(DistillationError, match="no masks of 'zebra'"):
        Examples(masks, {"zebra": 1})


# How it is learnt


def test_rates_fall_from_the_paper_s_along_the_poly_schedule_to_the_floor():
    paper = PRESETS["paper"]
    rates = [poly_rate(paper.learning_rate, step, paper) for step in range(paper.steps)]
    assert rates[0] == 5e-4
    assert rates[10_000] == pytest.approx(5e-4 * 0.5**0.9)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 1e-6
    assert poly_rate(paper.backbone_rate, 0, paper) == 5e-5


def test_the_paper_s_figures_are_the_preset_s():
    paper = PRESETS["paper"]
    assert (paper.steps, paper.batch, paper.augmentation.crop) == (20_000, 16, 384)
    assert (paper.weight_decay, paper.power, paper.most_pasted) == (2e-4, 0.9, 2)
    assert paper.network.backbone == "resnet50"
    assert PRESETS["imagenet-s"].steps == 80_000


def test_ignored_pixels_have_a_label_that_no_name_has():
    assert (ignore_label(21), ignore_label(255), ignore_label(300), ignore_label(920)) == (255, 255, 1000, 1000)
    assert ignore_label(5000) >= 5000


def gradient(masks, settings, edit=lambda labels: labels):
    """With batch norm at rest, so that parts of a batch do not know of each other."""
    network = new_network(settings, 4, 0).eval()
    batch = samples(masks).at(range(4))
    batch = replace(batch, labels=edit(batch.labels.clone()))
    loss = training._gradients(network, batch, settings, Team("cpu"), 255)
    return network, batch, loss, [parameter.grad.clone() for parameter in network.parameters()]


def test_the_loss_is_the_mean_cross_entropy_of_the_pixels_that_teach(masks):
    network, batch, loss, _ = gradient(masks, QUICK)
    with torch.inference_mode():
        logits = network(network.statistics.normalise(batch.images)).double().numpy()
    labels = batch.labels.numpy()
    losses = []
    for number, row, column in np.argwhere(labels != 255):
        scores = logits[number, :, row, column]
        losses.append(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[labels[number, row, column]])
    assert len(losses) < labels.size
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (16, 16)])
def test_at_cells_the_loss_is_that_of_the_labels_in_their_middles(size):
    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, *size, generator=chance, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 16, 24), generator=chance)
    losses = []
    for row, column in np.ndindex(size):
        middle = labels[:, int((row + 0.5) * 16 / size[0]), int((column + 0.5) * 24 / size[1])]
        losses.append(-logits[:, :, row, column].log_softmax(dim=1)[torch.arange(2), middle].mean())
    loss = training.cross_entropy(logits, labels, None, ignore=255, counted=torch.tensor(labels.numel()))
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_accumulated_gradients_are_those_of_the_whole_batch(masks):
    def uneven(labels):
        labels[0] = 255  # parts with fewer pixels that teach weigh less
        return labels

    _, _, whole_loss, whole = gradient(masks, QUICK, edit=uneven)
    _, _, loss, parts = gradient(masks, replace(QUICK, accumulate=2), edit=uneven)
    assert loss.item() == pytest.approx(whole_loss.item(), rel=1e-5)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * max(1e-3, one.abs().max().item()) * 10)


def test_ignored_pixels_teach_nothing(masks):
    _, _, loss, grads = gradient(masks, QUICK, edit=lambda labels: torch.full_like(labels, 255))
    assert loss.item() == 0
    assert all((grad == 0).all() for grad in grads)


def test_backbone_and_head_learn_at_their_own_rates(masks, tmp_path):
    frozen = replace(QUICK, backbone_rate=0.0)
    before = new_network(frozen, 4, 1).state_dict()
    after = read_student(learn(masks, tmp_path, frozen)).network.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved
    assert not any(name.startswith("backbone.") for name in moved)


def test_half_precision_learns_as_well(masks, tmp_path):
    path = learn(masks, tmp_path, replace(QUICK, precision="bf16"))
    assert all(torch.isfinite(value).all() for value in read_student(path).network.state_dict().values())


@pytest.mark.parametrize("batch", [4, 6])
def test_a_batch_that_cannot_be_shared_is_an_error(masks, tmp_path, batch):
    with pytest.raises(DistillationError, match="take a multiple of 8"):
        learn(masks, tmp_path, replace(QUICK, batch=batch, accumulate=4))


@pytest.mark.parametrize("unknown", [{"stepz": 3}, {"steps": 0}])
def test_unknown_settings_are_errors_that_name_them(unknown):
    with pytest.raises(ValidationError, match=next(iter(unknown))):
        StudentSettings(**unknown)


# The student


def test_a_student_learns_what_the_archive_shows(masks, tmp_path):
    """Discs of three colours: after a few seconds every pixel of new ones bears its name."""
    calm = Augmentation(crop=40, scale=(0.7, 1.0), jitter=0, grey=0, blur=0)
    rates = {"learning_rate": 1e-2, "backbone_rate": 1e-2}
    settings = replace(QUICK, augmentation=calm, steps=60, batch=8, save_every=100, **rates)
    student = wordmask.load("namedmask", weights=learn(masks, tmp_path, settings), device="cpu")
    assert student.vocabulary.names == ("background", *NAMES)
    for name in NAMES:
        image, mask = picture(name, 100)
        found = student.segment(image, ["background", *NAMES]).mask(name)
        assert (found & mask).sum() / (found | mask).sum() > 0.6


def test_background_is_always_the_first_class():
    assert with_background(["dog", "background", "cat"]).names == ("background", "dog", "cat")
    synonyms = Vocabulary.of({"dog": ["puppy"], "Background": None})
    assert with_background(synonyms).phrases == (("background",), ("dog", "puppy"))


def test_a_finished_run_returns_at_once(masks, whole, monkeypatch):
    before = whole.stat().st_mtime_ns
    (whole.parent / "checkpoint.pt").write_bytes(b"left by a kill just after the last step")
    monkeypatch.setattr(training, "_gradients", None)
    assert learn(masks, whole.parent) == whole
    assert learn(masks, whole.parent, replace(QUICK, save_every=1, workers=1)) == whole  # is free to change
    assert whole.stat().st_mtime_ns == before
    assert not list(whole.parent.glob("*.pt"))
    assert [path.name for path in whole.parent.glob(".*")] == [CHECKSUMS]
    with pytest.raises(DistillationError, match="other settings or masks"):
        learn(masks, whole.parent, replace(QUICK, most_pasted=3))


@pytest.mark.parametrize("stops", [[1, 3], [4, 5, 6]])
def test_a_run_that_is_stopped_anywhere_ends_with_the_same_file_and_log(masks, whole, tmp_path, stops):
    for step in stops:
        with pytest.raises(Killed):
            learn(masks, tmp_path, progress=stop_at(step))
    assert learn(masks, tmp_path).read_bytes() == whole.read_bytes()
    assert log_of(tmp_path) == log_of(whole.parent)


@pytest.mark.parametrize(
    "changed",
    [
        {"crowds": 0.5},
        {"network": replace(QUICK.network, zoom=1.5)},
        {"network": replace(QUICK.network, zoom=1.5), "far_steps": 4},
        {"learn_at": "cells"},
    ],
)
def test_crowds_zoom_and_cells_survive_a_stop_and_are_said_where_they_are_there(masks, whole, tmp_path, changed):
    settings = replace(QUICK, **changed)
    with pytest.raises(Killed):
        learn(masks, tmp_path / "stopped", settings, progress=stop_at(3))
    path = learn(masks, tmp_path / "stopped", settings)
    assert path.read_bytes() == learn(masks, tmp_path / "whole", settings).read_bytes() != whole.read_bytes()
    assert read_student(path).network.settings.zoom == settings.network.zoom
    examples = Examples(masks, LABEL_OF)
    assert settings.identity(1, examples) != QUICK.identity(1, examples)
    assert not any(word in QUICK.identity(1, examples) for word in ("crowds", "zoom", "learn_at", "far_steps"))
    student = wordmask.load("namedmask", weights=path, device="cpu", precision="fp32")
    assert student.segment(picture(NAMES[0], 1)[0], NAMES).labels.shape == picture(NAMES[0], 1)[1].shape


def test_progress_tells_every_step_and_the_user_s_own_random_numbers_stay_his(masks, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    told = []
    learn(masks, tmp_path, progress=lambda done, steps: told.append((done, steps)))
    assert told == [(step, 6) for step in range(1, 7)]
    assert torch.equal(torch.rand(3), expected)


class Validation:
    name, split = "discs", "val"
    vocabulary = Vocabulary.of(["background", *NAMES])
    ignore = 255

    def __len__(self):
        return len(NAMES)

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index):
        image, mask = picture(NAMES[index], 200)
        return Sample(image, mask.astype(np.uint8) * (index + 1), NAMES[index])

    def key(self, index):
        return NAMES[index]


class Fatal(Validation):
    def __iter__(self):
        raise Killed

    def __getitem__(self, index):
        raise Killed


def figures_of(out):
    return [line for line in log_of(out) if line.get("pictures") == "held-out"]


def test_figures_on_a_validation_set_come_early_and_change_nothing(masks, whole, tmp_path):
    watched = learn(masks, tmp_path, replace(QUICK, check_every=2), validation=Validation())
    assert watched.read_bytes() == whole.read_bytes()
    assert [line["step"] for line in figures_of(tmp_path)] == [2, 4, 6]
    assert all(0 <= line["miou"] <= 100 for line in figures_of(tmp_path))


@pytest.mark.parametrize("fatal", [2, 4, 6])
def test_a_run_that_is_stopped_while_it_takes_figures_has_saved_its_step_and_takes_them_again(
    masks, whole, tmp_path, monkeypatch, fatal
):
    watched, stopped = tmp_path / "watched", tmp_path / "stopped"
    learn(masks, watched, replace(QUICK, check_every=2), validation=Validation())
    settings = replace(QUICK, check_every=fatal)
    with pytest.raises(Killed):
        learn(masks, stopped, settings, validation=Fatal())
    taught = []
    gradients = training._gradients
    monkeypatch.setattr(training, "_gradients", lambda *given: taught.append(0) or gradients(*given))
    assert learn(masks, stopped, settings, validation=Validation()).read_bytes() == whole.read_bytes()
    assert len(taught) == QUICK.steps - fatal
    assert [line["step"] for line in figures_of(stopped)] == [s for s in (2, 4, 6) if s % fatal == 0 or s == 6]
    assert all(line in log_of(watched) for line in figures_of(stopped))
    assert not (stopped / "checkpoint.pt").exists()


def test_figures_are_taken_once_though_a_run_goes_on_just_behind_them(masks, tmp_path):
    settings = replace(QUICK, check_every=2)
    with pytest.raises(Killed):
        learn(masks, tmp_path, settings, validation=Validation(), progress=stop_at(4))
    learn(masks, tmp_path, settings, validation=Validation())
    assert [line["step"] for line in figures_of(tmp_path)] == [2, 4, 6]


# By other processes

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from wordmask.distillation.records import MaskTable
from wordmask.distillation.student import train_student
from support.small_archive import NAMES, QUICK
from dataclasses import replace
masks, out, steps = MaskTable(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def progress(done, steps):
    print(done, flush=True)
settings = replace(QUICK, steps=steps, save_every=5, batch=8)
train_student(masks, NAMES, settings, out, seed=1, device="cpu", progress=progress)
"""


def start(masks, out, steps, *launcher):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *(launcher or ("-c", SCRIPT)), str(masks.folder), str(out), str(steps)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_sigkill_at_random_moments_ends_with_the_same_student_and_loses_one_interval_at_most(masks, tmp_path):
    steps = 60
    whole = start(masks, tmp_path / "whole", steps)
    _, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors
    chance, furthest, kills = np.random.default_rng(0), 0, 0
    while not (tmp_path / "killed" / "student.safetensors").exists():
        process = start(masks, tmp_path / "killed", steps)
        first = process.stdout.readline().strip()
        if first:
            assert int(first) > furthest - 5  # checkpoints are five steps apart
            furthest = int(first)
        if kills < 4:
            until = furthest + int(chance.integers(5, 16))
            for line in process.stdout:
                furthest = int(line)
                if furthest >= until:
                    break
            time.sleep(chance.uniform(0, 0.05))  # somewhere in a step, or in the writing of a checkpoint
            process.kill()
            kills += 1
        process.wait(timeout=300)
        for line in process.stdout:
            furthest = max(furthest, int(line))
        process.stdout.close()
        process.stderr.close()
    assert kills == 4
    name = "student.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_two_processes_train_one_student_together(masks, tmp_path):
    """Each takes half of every batch; what they write is one file, and the same one each time."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    files = []
    for name in ("first", "second"):
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script))
        process = start(masks, tmp_path / name, 10, *launcher)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert output.split() == [str(step) for step in range(1, 11)]  # one of them tells
        files.append((tmp_path / name / "student.safetensors").read_bytes())
        assert log_of(tmp_path / name)[-1]["loss"] < log_of(tmp_path / name)[0]["loss"]
    assert files[0] == files[1]
