"""Students of teachers: what a teacher says, how it is kept, merged with masks of things, and learnt."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask

from support.tiny_collection import ColourClip, embedder, write_pictures
from support.tiny_run import Bright
from support.tiny_teacher import ColourTeacher
from wordmask.collection.embedding import embed
from wordmask.collection.piles import open_pile
from wordmask.collection.references import ImageRef
from wordmask.distillation import teacher as teaching
from wordmask.distillation.archive import ArchiveSettings, build_archive
from wordmask.distillation.augmentations import Augmentation, View
from wordmask.distillation.batches import Samples
from wordmask.distillation.config import ConfigError, make_run, setting
from wordmask.distillation.merging import merge_targets, merged
from wordmask.distillation.pseudo_masks import MaskSettings, make_masks
from wordmask.distillation.records import DistillationError, MaskTable
from wordmask.distillation.target_examples import TargetExamples
from wordmask.distillation.targets import SURE_SIDE, Target, TargetTable, confidence_of, write_targets
from wordmask.distillation.teacher import Lesson, blocks_of_archive, blocks_of_pile, teach
from wordmask.names.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("red", "green", "blue")
LESSON = Lesson(Vocabulary.of(NAMES), batch=2)


def target(seed, size=(9, 13), names=3, **changes):
    dice = np.random.default_rng(seed)
    labels = dice.integers(0, names + 1, size).astype(np.uint8)
    scores = dice.random(size, dtype=np.float32)
    own = Target(ImageRef(f"{seed}.png"), labels, confidence_of(scores, size), digest=str(seed))
    return dataclasses.replace(own, **changes), scores


def same(one, other):
    fields = (one.labels, one.confidence, one.unknown, one.features)
    others = (other.labels, other.confidence, other.unknown, other.features)
    return (one.image, one.digest) == (other.image, other.digest) and all(
        (a is None and b is None) or np.array_equal(a, b) for a, b in zip(fields, others, strict=True)
    )


# How targets are kept


def test_targets_survive_their_files_and_are_masks_for_whoever_reads_masks(tmp_path):
    dice = np.random.default_rng(5)
    unknown = dice.random((9, 13)) < 0.3
    features = dice.standard_normal((4, 2, 3)).astype(np.float16)
    empty, _ = target(3, labels=np.zeros((9, 13), np.uint8))
    targets = [target(0)[0], target(1, (5, 4), unknown=unknown[:5, :4])[0], empty, target(2, features=features)[0]]
    write_targets(tmp_path / "a_0.arrow", targets[:3], first=0, root=tmp_path, names=NAMES)
    write_targets(tmp_path / "a_1.arrow", targets[3:], first=3, root=tmp_path, names=NAMES)
    table = TargetTable(tmp_path)
    assert (len(table), table.names, table.digests()) == (4, NAMES, ["0", "1", "3", "2"])
    assert all(same(table[index], own) for index, own in enumerate(targets))
    masks = MaskTable(tmp_path)
    for name in NAMES:
        shown = {record.image: record for record in (masks[row] for row in masks.rows(name).tolist())}
        for own in targets:
            where = own.labels == 1 + NAMES.index(name)
            assert (own.image in shown) == where.any()
            if where.any():
                assert np.array_equal(coco_mask.decode(shown[own.image].rle), where)
                assert shown[own.image].score == pytest.approx(own.sure()[where].mean(), abs=1e-6)


def test_confidences_of_small_pictures_are_exact_to_a_step_and_those_of_large_ones_are_means():
    own, scores = target(0)
    assert (own.sure() >= scores - 1e-7).all()
    assert (own.sure() - scores).max() < 1 / 255
    large = np.random.default_rng(1).random((2 * SURE_SIDE, SURE_SIDE), dtype=np.float32)
    kept = confidence_of(large, large.shape)
    assert kept.shape == (SURE_SIDE, SURE_SIDE // 2)
    assert kept[3, 5] == np.ceil(large[6:8, 10:12].mean(dtype=np.float64) * 255)
    assert confidence_of(None, (7, 9)).tolist() == [[255]]


@pytest.mark.parametrize(("least", "share"), [(0.0, 0.0), (0.4, 0.0), (0.0, 0.25), (0.3, 0.5)])
def test_the_unknown_the_unsure_and_the_least_sure_are_ignored(least, share):
    unknown = np.zeros((9, 13), bool)
    unknown[2:4] = True
    own, _ = target(7, unknown=unknown)
    sure = own.confidence / 255
    order = sorted(sure.ravel().tolist())
    floor = order[int(share * sure.size)] if share else 0
    for row in range(9):
        for column in range(13):
            value = sure[row, column]
            expected = unknown[row, column] or value < least - 1e-7 or value < floor - 1e-7
            assert own.ignored(least, share)[row, column] == expected


def test_a_damaged_file_of_targets_is_an_error_that_names_it(tmp_path):
    write_targets(tmp_path / "a.arrow", [target(0)[0]], first=0, root=tmp_path, names=NAMES)
    (tmp_path / "a.sure").write_bytes(b"ARROW1 cut short")
    with pytest.raises(DistillationError, match=r"a\.sure is no file of targets"):
        TargetTable(tmp_path)


def test_targets_that_are_cut_while_a_table_is_open_are_an_error_that_names_them(tmp_path):
    write_targets(tmp_path / "a.arrow", [target(0)[0]], first=0, root=tmp_path, names=NAMES)
    table = TargetTable(tmp_path)
    (tmp_path / "a.arrow").write_bytes((tmp_path / "a.arrow").read_bytes()[:200])
    with pytest.raises(DistillationError, match=r"a\.arrow is no file of masks"):
        _ = table[0]


# What the teacher says


@pytest.fixture
def pile(tmp_path):
    write_pictures(tmp_path / "pictures", 11)
    return open_pile(tmp_path / "pictures", per_part=4)


def ask(pile, out, teacher=None, lesson=LESSON, **options):
    return teach(blocks_of_pile(pile), pile.root, lambda: teacher or ColourTeacher(), lesson, out, **options)


@pytest.mark.parametrize("fill", [False, True])
def test_every_picture_has_what_segment_many_says_of_it(tmp_path, pile, fill):
    table = ask(pile, tmp_path / "taught", lesson=dataclasses.replace(LESSON, fill=fill))
    paths = [pile.root / table[index].image.path for index in range(len(table))]
    assert len(paths) == 11
    answers = ColourTeacher().segment_many(paths, list(NAMES), fill=fill)
    label_of = {name: label for label, name in enumerate(NAMES, start=1)} | {"background": 0}
    for index, answer in enumerate(answers):
        own = np.vectorize(lambda label, answer=answer: label_of[answer.names[label]])(answer.labels)
        assert np.array_equal(table[index].labels, own)
        assert np.abs(table[index].sure() - answer.scores).max() <= 1 / 255
    assert fill == all((table[index].labels > 0).all() for index in range(11))


def test_a_teacher_that_stopped_goes_on_at_its_block_and_ends_the_same(tmp_path, pile, monkeypatch):
    monkeypatch.setattr(teaching, "PICTURES_PER_SHARD", 3)
    whole = ask(pile, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        ask(pile, tmp_path / "taught", ColourTeacher(most=5))
    going_on = ColourTeacher()
    again = ask(pile, tmp_path / "taught", going_on)
    assert 5 < going_on.pictures < 11
    assert len(again) == len(whole)
    assert all(same(again[index], whole[index]) for index in range(len(whole)))
    for path in (tmp_path / "whole").iterdir():
        if path.name != ".checksums":
            assert path.read_bytes() == (tmp_path / "taught" / path.name).read_bytes()


def test_pictures_that_are_known_by_their_content_are_not_looked_at_again(tmp_path, pile):
    first = ask(pile, tmp_path / "taught")
    moved = tmp_path / "pictures" / "moved.png"
    (pile.root / first[0].image.path).rename(moved)
    write_pictures(tmp_path / "pictures" / "more", 2, colours=("blue",))
    teacher = ColourTeacher()
    table = ask(open_pile(pile.root), tmp_path / "again", teacher, known=[tmp_path / "taught"])
    assert (len(table), teacher.pictures) == (13, 2)
    index = [table[index].image.path for index in range(13)].index("moved.png")
    assert np.array_equal(table[index].labels, first[0].labels)


def test_pictures_that_cannot_be_read_are_listed_and_teach_nothing(tmp_path, pile):
    bad = pile.root / "002 blue.png"
    bad.write_bytes(b"broken")
    table = ask(pile, tmp_path / "taught")
    assert len(table) == 10
    line = json.loads((tmp_path / "taught" / "bad_images.jsonl").read_text())
    assert line["image"] == bad.name
    for path in pile.root.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(DistillationError, match="none of the pictures"):
        ask(pile, tmp_path / "none")


# Things and stuff


@pytest.mark.parametrize("race", [False, True])
@pytest.mark.parametrize("stuff", [(), (3,), (2, 3)])
def test_masks_lie_on_top_of_what_the_teacher_says_of_stuff(stuff, race):
    dice = np.random.default_rng(3)
    told, _ = target(11, (14, 10))
    claims = {1: dice.random((14, 10)) < 0.4, 2: dice.random((14, 10)) < 0.3}
    found = merged(told, claims, stuff, race=race, least=0.6)
    unknown = np.zeros((14, 10), bool) if found.unknown is None else found.unknown
    for row in range(14):
        for column in range(10):
            said, sure = int(told.labels[row, column]), told.confidence[row, column] / 255
            over = [label for label in claims if claims[label][row, column]]
            if over and race and said and sure >= 0.6:
                expected = (said, False, sure)
            elif len(over) == 1 or said in over:
                expected = (over[0] if len(over) == 1 else said, False, 1)
            elif over:
                expected = (0, True, None)
            elif not stuff:
                expected = (0, False, 1)
            else:
                expected = (said if said in stuff else 0, bool(said) and said not in stuff, sure)
            label, hidden, value = expected
            assert (found.labels[row, column], unknown[row, column]) == (label, hidden)
            if value is not None and not hidden:
                assert found.confidence[row, column] / 255 == pytest.approx(value, abs=1e-6)


@pytest.fixture
def archive(tmp_path, pile):
    folder = embed(pile, ColourClip(), tmp_path / "embeddings")
    names, out = Vocabulary.of(NAMES), tmp_path / "archive.parquet"
    return build_archive(folder, names, embedder(), out, ArchiveSettings(size=4))


def test_saliency_is_not_asked_for_stuff_and_merging_looks_at_every_picture(tmp_path, archive):
    plain = MaskSettings(side=12, refine="none")
    things = make_masks(archive, Bright, tmp_path / "masks", plain, stuff=["blue"])
    assert things.names == ("red", "green")
    taught = teach(blocks_of_archive(archive), archive.root, ColourTeacher, LESSON, tmp_path / "taught")
    table = merge_targets(taught, things, tmp_path / "targets", stuff=["blue"], race=False, least=0.5)
    assert len(table) == len({entry.image for name in NAMES for entry in archive.entries(name)})
    by_image = {record.image: record for record in things}
    for index in range(len(table)):
        own = table[index]
        if own.image in by_image:
            assert set(np.unique(own.labels[by_image[own.image].mask()])) == {1 + NAMES.index(by_image[own.image].name)}
        else:
            assert 3 in own.labels
    again = merge_targets(taught, things, tmp_path / "targets", stuff=["blue"], race=False, least=0.5)
    assert all(same(again[index], table[index]) for index in range(len(table)))


# What a student learns from


def test_samples_have_the_teachers_labels_and_255_where_it_is_unsure(tmp_path, pile):
    table = ask(pile, tmp_path / "taught")
    examples = TargetExamples(table, least=0.9)
    samples = Samples(examples, Augmentation(crop=16, scale=(1, 1)), most_pasted=1, seed=0, ignore=255)
    seen = {label for place in range(11) for label in samples.one(place)[1].unique().tolist()}
    assert seen == {0, 1, 2, 3, 255}
    image, labels, label = examples.read(0)
    assert label == 1
    assert image.shape[:2] == labels.shape
    sure = table[0].sure()
    assert np.array_equal(labels == 255, sure < 0.9)
    assert np.array_equal(labels[sure >= 0.9], table[0].labels[sure >= 0.9])


def test_a_teacher_that_is_hardly_sure_of_anything_is_told_before_a_student_learns_nothing(tmp_path, pile):
    table = ask(pile, tmp_path / "taught")
    sure = np.concatenate([table[index].sure().ravel() for index in range(len(table))])
    TargetExamples(table).check()
    TargetExamples(table, least=float(np.quantile(sure, 0.9))).check()
    with pytest.raises(DistillationError, match=r"least_confidence 1\.5: .* 0\.0% .* surer than 0\.\d+.*ignore_share"):
        TargetExamples(table, least=1.5).check()


def test_things_are_pasted_and_stuff_is_not(tmp_path):
    write_targets(tmp_path / "a.arrow", [target(0)[0]], first=0, root=tmp_path, names=NAMES)
    examples = TargetExamples(TargetTable(tmp_path), stuff=["blue"])
    labels = torch.tensor([[0, 1, 2], [3, 255, 1]], dtype=torch.int16)
    chosen = {
        tuple(examples.thing(labels, np.random.default_rng(seed), ignore=255).flatten().tolist()) for seed in range(30)
    }
    ones = (False, True, False, False, False, True)
    twos = (False, False, True, False, False, False)
    assert chosen == {ones, twos}  # half of two names, by lot
    nothing = torch.tensor([[0, 3, 255]], dtype=torch.int16)
    assert not examples.thing(nothing, np.random.default_rng(0), ignore=255).any()


@pytest.mark.parametrize("flipped", [False, True])
def test_features_lie_where_the_view_shows_them(flipped):
    from wordmask.distillation.open_student import features_in

    features = np.random.default_rng(0).standard_normal((3, 4, 6)).astype(np.float16)
    view = View(
        (32, 48), (0, 16), (8, 0), flipped
    )  # 8 pixels a cell: seen from its third column on, 8 rows further down
    found = features_in(view, features, 40, 5)
    unit = F.normalize(torch.from_numpy(features.astype(np.float32)), dim=0)
    expected = torch.zeros(3, 5, 5)
    expected[:, 1:, :4] = unit[:, :, 2:]
    if flipped:
        expected = expected.flip(-1)
    assert torch.allclose(found, expected, atol=1e-3)


# What a run is told


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["stuff=[sky]", "masks.teacher=maskclip"], "'sky' is none of the names"),
        (["stuff=[dog]"], "masks.teacher=clip-dinoiser"),
        (["stuff=[dog, cat]", "masks.teacher=maskclip"], "stuff holds all names"),
        (["masks.pictures=all"], "masks.teacher=METHOD"),
        (["masks.pictures=all", "masks.teacher=maskclip", "masks.race=true"], "masks.pictures=archives"),
        (["masks.pictures=all", "masks.teacher=maskclip", "stuff=[dog]"], "masks.pictures=archives"),
        (["masks.teacher=auto"], "name a method"),
        (["masks.ignore_share=1"], "masks.ignore_share=1 cannot be used"),
        (["masks.teachr=maskclip"], "did you mean masks.teacher"),
        (["student.vocabulary=wide"], "student.vocabulary='wide' cannot be used"),
    ],
)
def test_what_cannot_be_asked_of_a_teacher_is_refused_before_anything_is_made(pairs, message):
    told = {"names": ["dog", "cat"], "images": "pictures", "out": "run", "preset": "world"}
    with pytest.raises(ConfigError, match=message):
        make_run(told, *map(setting, pairs))
