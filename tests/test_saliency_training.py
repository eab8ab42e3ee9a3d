"""FOUND's and SelfMask's trainings: their schedules, their targets, and runs that survive a kill."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from support.plain_saliency import tiny_dino
from support.stopped_training import Killed, kill_at, log_of
from support.tiny_voting import found_settings, voters
from wordmask.errors import WordmaskError
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.saliency.base import SaliencyError
from wordmask.saliency.found import background_mask, load_head
from wordmask.saliency.selfmask import load_network
from wordmask.saliency.spectral_voting import VotedMasks, VotingSettings
from wordmask.training.checkpoints import CheckpointError
from wordmask.training.errors import TrainingError
from wordmask.training.found import FoundObjective, FoundTraining, solved_masks, train_head
from wordmask.training.loop import Objective, crops_at, train
from wordmask.training.pictures import Pictures
from wordmask.training.selfmask import SelfMaskObjective, SelfMaskTraining, new_network, train_network
from wordmask.training.votes import VoteStore
from wordmask_world import draw_scene
from wordmask_world.files.training_file import write_array

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        Image.fromarray(draw_scene(number, (48, 40 + 8 * (number % 2))).image).save(path / f"{number}.png")
    return path


def selfmask_settings(folder, out, **changes):
    options = {"crop": 40, "batch": 3, "epochs": 2, "queries": 4, "layers": 2, "learning_rate": 1e-3, "device": "cpu"}
    return SelfMaskTraining(pictures=folder, out=out, **{**options, "log_every": 1, **changes})


def train_selfmask(settings, encoder=None):
    votes = VoteStore(settings.out / "votes", Pictures(settings.pictures), voters())
    votes.complete()
    return train_network(encoder or tiny_dino(), votes, settings)


def train_found(settings, encoder=None):
    return train_head(encoder or tiny_dino(), settings, Pictures(settings.pictures))


def killed(train, settings, objective, call):
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, objective, call)
        with pytest.raises(Killed):
            train(settings)


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name, value in state.items():
        assert torch.equal(value, other[name]), name


def test_the_papers_schedules_are_the_defaults(tmp_path):
    found = FoundTraining(pictures=tmp_path, out=tmp_path)
    assert (found.steps, found.batch, found.crop, found.learning_rate) == (500, 50, 224, 5e-2)
    assert (found.decay, found.decay_every, found.seed_steps) == (0.95, 50, 100)
    assert (found.solved_weight, found.own_weight, found.scale, found.blur) == (1.5, 4.0, (0.1, 3.0), 0.5)
    selfmask = SelfMaskTraining(pictures=tmp_path, out=tmp_path)
    assert (selfmask.epochs, selfmask.batch, selfmask.crop, selfmask.learning_rate) == (12, 8, 224, 6e-6)
    assert (selfmask.weight_decay, selfmask.power, selfmask.ranking_weight) == (0.01, 0.9, 1.0)
    assert (selfmask.queries, selfmask.layers, selfmask.every_layer) == (20, 6, True)
    assert selfmask.steps(10_553) == 12 * 10_553 // 8


def test_found_learns_the_seed_first_and_itself_later(folder, tmp_path):
    head = train_found(found_settings(folder, tmp_path))
    told = log_of(tmp_path)
    assert [line["step"] for line in told] == [1, 2, 3, 4]
    assert ["seed" in line for line in told] == [True, True, False, False]
    assert ["own" in line for line in told] == [False, False, True, True]
    assert [line["rate"] for line in told] == pytest.approx([1, 1, 0.95, 0.95])
    assert torch.equal(load_head(tmp_path / "found.safetensors").weight, head.weight)


def test_founds_losses_are_those_of_the_paper(folder, tmp_path):
    encoder, settings = tiny_dino(), found_settings(folder, tmp_path)
    torch.manual_seed(0)
    objective = FoundObjective(encoder, settings)
    crops = crops_at(0, Pictures(folder), settings)
    features = encoder(crops.images / 255)
    logits = objective.head(features.key_maps().clone())[:, 0].detach()
    grids = [BilateralGrid(image.permute(1, 2, 0).numpy().copy()) for image in crops.images]
    own = logits > 0

    def entropy(targets):
        p, t = logits.double().sigmoid(), targets.double()
        return -(t * p.log() + (1 - t) * (1 - p).log()).mean().item()

    early, late = objective.losses(crops, 0), objective.losses(crops, 2)
    assert early.keys() == {"solved", "seed"}
    assert late.keys() == {"solved", "own"}
    assert early["solved"].item() == pytest.approx(1.5 * entropy(solved_masks(grids, own)), rel=1e-5)
    assert early["seed"].item() == pytest.approx(entropy(solved_masks(grids, ~background_mask(features))), rel=1e-5)
    assert late["own"].item() == pytest.approx(4 * entropy(own), rel=1e-5)


def test_found_trains_the_head_alone(folder, tmp_path):
    encoder, settings = tiny_dino(), found_settings(folder, tmp_path)
    assert {name for name, _ in FoundObjective(encoder, settings).named_parameters()} == {"head.weight", "head.bias"}
    train_found(settings, encoder)
    assert_same(encoder.model.state_dict(), tiny_dino().model.state_dict())


def test_solved_masks_follow_the_pictures_edge_on_the_patches():
    image = np.full((48, 48, 3), 30, np.uint8)
    image[8:40, 8:42] = 220  # and a quarter of the patches beside
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[0, 1:5, 1:4] = True  # a column of patches short of the square
    expected = torch.zeros(1, 6, 6, dtype=torch.bool)
    expected[0, 1:5, 1:5] = True
    assert torch.equal(solved_masks([BilateralGrid(image)], mask), expected)


def test_solved_masks_keep_what_the_solver_departs_from():
    """In a picture without an edge, a small mask is smoothed away."""
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[0, 2, 2] = True
    assert torch.equal(solved_masks([BilateralGrid(np.full((48, 48, 3), 30, np.uint8))], mask), mask)


def test_a_crop_must_be_whole_patches(folder, tmp_path):
    with pytest.raises(SaliencyError, match="no multiple"):
        FoundObjective(tiny_dino(), found_settings(folder, tmp_path, crop=36))


def test_a_killed_found_ends_like_one_never_killed(folder, tmp_path):
    whole = train_found(found_settings(folder, tmp_path / "whole"))
    settings = found_settings(folder, tmp_path / "killed", save_every=1)
    killed(train_found, settings, FoundObjective, 4)
    assert_same(whole.state_dict(), train_found(settings).state_dict())
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "killed")


def test_a_run_of_other_settings_is_not_gone_on_with(folder, tmp_path):
    train_found(found_settings(folder, tmp_path, steps=1))
    with pytest.raises(CheckpointError, match="other settings"):
        train_found(found_settings(folder, tmp_path, steps=1, seed=1))


def test_selfmask_trains_and_its_file_loads(folder, tmp_path):
    encoder = tiny_dino()
    network = train_selfmask(selfmask_settings(folder, tmp_path), encoder)
    told = log_of(tmp_path)
    assert [line["step"] for line in told] == [1, 2, 3, 4]
    assert [line["rate"] for line in told] == pytest.approx([(1 - n / 4) ** 0.9 for n in range(4)], abs=1e-5)
    assert all(line["loss"] == pytest.approx(line["dice"] + line["ranking"], abs=1e-4) for line in told)
    loaded = load_network(tmp_path / "selfmask.safetensors")
    assert loaded.shape == network.shape
    assert_same(loaded.state_dict(), {name: value.half().float() for name, value in network.state_dict().items()})
    # all of it learns, its encoder too, and the DINO that it started from stays
    assert_same(encoder.model.state_dict(), tiny_dino().model.state_dict())
    assert not torch.equal(network.encoder.blocks[0].attn.qkv.weight, encoder.model.blocks[0].attn.qkv.weight)


def test_a_killed_selfmask_ends_like_one_never_killed(folder, tmp_path):
    whole = train_selfmask(selfmask_settings(folder, tmp_path / "whole"))
    settings = selfmask_settings(folder, tmp_path / "killed", save_every=2)
    killed(train_selfmask, settings, SelfMaskObjective, 4)
    assert_same(whole.state_dict(), train_selfmask(settings).state_dict())


def test_selfmasks_encoder_starts_as_the_dino(folder, tmp_path):
    encoder = tiny_dino()
    network = new_network(encoder, selfmask_settings(folder, tmp_path))
    images = torch.rand(1, 3, 40, 40)
    with torch.inference_mode():
        tokens, grid = network.patch_tokens(encoder.statistics.normalise(images))
    assert grid == (5, 5)
    assert torch.allclose(tokens, encoder(images).tokens.flatten(2).transpose(1, 2), atol=1e-5)


def test_votes_are_done_once_and_are_those_of_the_voters(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("wordmask.training.votes.BLOCK", 4)
    pictures = Pictures(folder)
    store = VoteStore(tmp_path, pictures, voters())
    store.complete()
    assert sorted(path.name for path in tmp_path.glob("0*.json")) == ["000000.json", "000001.json"]
    for index in range(len(pictures)):
        image = pictures.read(index)
        assert np.array_equal(store.mask(index, image), voters().maps([image])[0] > 0.5)
    again = VoteStore(tmp_path, pictures, voters())
    monkeypatch.setattr(VotedMasks, "maps", lambda *_: pytest.fail("voted again"))
    again.complete()


def test_votes_of_other_settings_are_refused(folder, tmp_path):
    VoteStore(tmp_path, Pictures(folder), voters())
    others = VotedMasks([tiny_dino()], VotingSettings(clusters=(4,)))
    with pytest.raises(SaliencyError, match=r"made with settings.clusters \[2, 3\], not \[4\]"):
        VoteStore(tmp_path, Pictures(folder), others)


def test_a_few_steps_make_selfmasks_loss_smaller(folder, tmp_path):
    train_selfmask(selfmask_settings(folder, tmp_path, epochs=12, batch=6))
    told = log_of(tmp_path)
    assert told[-1]["loss"] < 0.8 * told[0]["loss"]


def test_a_loss_that_is_no_number_stops_the_run(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(FoundObjective, "losses", lambda self, *_: {"solved": self.head.weight.sum() * torch.nan})
    with pytest.raises(TrainingError, match="step 1 is not finite"):
        train_found(found_settings(folder, tmp_path))


def test_every_picture_comes_once_an_epoch_in_batches_that_depend_on_nothing_before(folder, tmp_path, monkeypatch):
    settings, seen = found_settings(folder, tmp_path, batch=3), []
    expected = crops_at(2, Pictures(folder), settings).images
    original, pictures = Pictures.readable, Pictures(folder)
    monkeypatch.setattr(Pictures, "readable", lambda self, index: (seen.append(index), original(self, index))[1])
    batches = [crops_at(step, pictures, settings).images for step in range(4)]
    assert torch.equal(batches[2], expected)
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6))
    assert seen[:6] != seen[6:]


def test_pictures_that_cannot_be_read_give_way_to_the_next(tmp_path, caplog):
    with pytest.raises(TrainingError, match="no pictures"):
        Pictures(tmp_path)
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match="none of the pictures"):
        Pictures(tmp_path).readable(0)
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(tmp_path / "1.png")
    index, image = Pictures(tmp_path).readable(0)
    assert index == 1
    assert (image == 9).all()
    assert "0.png" in caplog.text


def test_the_worlds_training_file_is_a_source_of_pictures(tmp_path):
    pictures = Pictures(write_array(tmp_path / "train.npy", 3, size=32))
    assert len(pictures) == 3
    assert pictures.read(2).shape == (32, 32, 3)


def test_a_flipped_crop_has_its_mask_flipped(folder, tmp_path):
    def bright(index, image):
        return image.mean(axis=2) > 100

    straight = selfmask_settings(folder, tmp_path)
    one = crops_at(0, Pictures(folder), straight, bright)
    other = crops_at(0, Pictures(folder), replace(straight, flip=1.0), bright)
    assert torch.equal(other.images, one.images.flip(-1))
    assert torch.equal(other.masks, one.masks.flip(-1))
    assert not torch.equal(one.masks, other.masks)


def test_an_objective_with_two_parts_is_made_small_as_a_whole(folder, tmp_path):
    class Line(Objective):
        def __init__(self):
            super().__init__()
            self.at = torch.nn.Parameter(torch.tensor([4.0, -4.0]))
            self.fixed = torch.nn.Parameter(torch.ones(1), requires_grad=False)

        def losses(self, crops, step):
            return {"first": self.at[0] ** 2, "second": F.relu(-self.at[1])}

    objective = Line()
    settings = replace(found_settings(folder, tmp_path), learning_rate=0.5, weight_decay=0.0)
    train(objective, settings, Pictures(folder), steps=5, rate=lambda step: 1.0)
    assert objective.at[0] < 4 - 1
    assert objective.at[1] > -4 + 1
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trained"].keys() == {"at"}


@pytest.mark.parametrize("damaged", ["checkpoint.pt", "votes/000000.json", "none"])
def test_a_training_with_a_damaged_part_ends_as_if_nothing_had_happened(folder, tmp_path, caplog, damaged):
    train_selfmask(selfmask_settings(folder, tmp_path / "whole"))
    settings = selfmask_settings(folder, tmp_path / "run", save_every=1)
    killed(train_selfmask, settings, SelfMaskObjective, 3)
    if damaged != "none":
        path = tmp_path / "run" / damaged
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    train_selfmask(settings)
    whole, run = ((tmp_path / out / "selfmask.safetensors").read_bytes() for out in ("whole", "run"))
    assert whole == run
    assert (f"{damaged} is damaged" in caplog.text) == (damaged != "none")
    assert [path.name for path in (tmp_path / "run").glob("*.pt")] == ["checkpoint.pt"]


def test_a_mask_that_cannot_be_read_names_its_file(folder, tmp_path):
    pictures = Pictures(folder)
    store = VoteStore(tmp_path, pictures, voters())
    store.complete()
    for content in (b"[", b"[]", b"{}"):
        (tmp_path / "000000.json").write_bytes(content)
        with pytest.raises(WordmaskError, match=r"000000\.json: is damaged"):
            store.mask(0, pictures.read(0))
