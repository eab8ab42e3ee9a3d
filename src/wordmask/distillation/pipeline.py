"""NamedMask from end to end: names and unlabelled pictures in, a segmenter of one's own out.

Killed at any moment and started again, a run goes on where it was and ends with the same student. Started again with
other settings or pictures, it makes anew what follows from them, and nothing else.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wordmask.collection.embedding import check_all_there, embed
from wordmask.collection.embedding_folder import EmbeddingFolder, is_embedding_folder
from wordmask.collection.piles import Pile, open_pile
from wordmask.collection.stores import is_in_store
from wordmask.compute import Compute
from wordmask.console.progress import Progress
from wordmask.corrections import REJECTED
from wordmask.distillation import experts, open_student, published, redrawing, student
from wordmask.distillation.archive import build_archive
from wordmask.distillation.config import ConfigError, Run, as_dict, make_run, read_config
from wordmask.distillation.corrected_targets import put_truths_in_targets
from wordmask.distillation.corrections import USED, Used, put_truths, rejecting, seen_pictures, tell
from wordmask.distillation.filters import OPENCV
from wordmask.distillation.head_student import FEATURES, check_backbones
from wordmask.distillation.identities import weights_identity
from wordmask.distillation.pseudo_masks import check_none_empty, make_masks
from wordmask.distillation.records import DistillationError, MaskTable
from wordmask.distillation.report import write_report
from wordmask.distillation.sources import start_of
from wordmask.distillation.targets import TargetTable
from wordmask.distillation.taught_report import write_taught_report
from wordmask.distillation.taught_stages import OUTPUTS, TaughtSources
from wordmask.distillation.training import check_network
from wordmask.extras import need
from wordmask.files import atomic_write
from wordmask.fingerprints import digest_of_lines, file_digest, listing_digest
from wordmask.names.vocabulary import Vocabulary
from wordmask.runs.claim import STATE, claimed, locked
from wordmask.runs.crew import Crew, TrainingCrew
from wordmask.runs.parts import Parts
from wordmask.runs.stages import Console, Silent, Stage, Stages, earlier
from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings
from wordmask.text_files import counted, read_yaml
from wordmask.training.logs import following
from wordmask.training.team import Team, launched

VERB, CONFIG = "distill", "config.yaml"
REPORT = "report.html"
LEARNERS = "learners"
"""Whose lock the first of those has that train a student in the place of the command."""
OUTLIVES = 120.0
"""Seconds that they may outlive it: Ray waits 30 for a command from outside to come back."""
PICKLES = (".pkl", ".pickle")
THE_ARCHIVE, THE_MASKS, THE_CORRECTIONS = "the archive", "the masks", "the corrections"
CORRECTED, CORRECTED_REFINED, CORRECTED_TARGETS = "corrected", "corrected-refined", "corrected-targets"
HOW_REDRAWN = ("experts.most_pixels", "experts.edges", "experts.keep")
REGROUPED = (THE_MASKS, "groups", "experts.groups", *HOW_REDRAWN)
"""Inputs of the experts' stage that may change while one of them stays as it is."""


def distill(
    names: Vocabulary | Iterable[str] | Mapping[str, Any] | str | Path | None = None,
    images: str | Path | None = None,
    out: str | Path | None = None,
    *,
    preset: str | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    console: Console | None = None,
    prune: bool = False,
    crew: Crew | None = None,
    **settings: Any,
) -> NamedMask:
    """Train a segmenter for these names on unlabelled pictures; run it, or go on with it, in the folder `out`.

    names: a list, a mapping with synonyms, a `Vocabulary`, or a file. images: a folder, a list file, webdataset tars,
    or a folder of embeddings in clip-retrieval's layout. preset: "paper", "imagenet-s" or a plug-in's.
    config: a YAML file, or what would stand in one. settings: single ones over it, as `archive={"size": 50}`, `seed=1`.
    console: who is told how it goes, as `wordmask.console.progress.OnStderr()`; by default nobody.
    prune: go on without pictures that are no longer there, at which a run with embeddings of them stops otherwise.
    crew: who makes the shards, as `wordmask.runs.crew.Processes(2)`; by default this process does.
    """
    if "teller" in settings:
        raise ConfigError("distill has no `teller`: it is called `console`, so write console=...")
    layers = [dict(config) if isinstance(config, Mapping) else read_config(Path(config))] if config is not None else []
    if isinstance(names, Iterable) and not isinstance(names, str | Mapping | Vocabulary):
        names = list(names)
    given = {"names": names, "images": images, "out": out, "preset": preset}
    run = make_run(*layers, {key: value for key, value in given.items() if value is not None}, settings)
    return Pipeline(run, console, prune=prune, crew=crew).run_all()


class Pipeline(TaughtSources):
    """The stages of one run, in their order."""

    def __init__(self, run: Run, console: Console | None = None, *, prune: bool = False, crew: Crew | None = None):
        super().__init__(run, crew=crew)
        self._prune = prune
        if crew is not None and launched() > 1:
            raise ConfigError("a launcher has started several processes, which share the training: leave out the crew")
        leads = int(os.environ.get("RANK", "0")) == 0  # as launchers tell (`accelerate launch`, `torchrun`)
        self.stages = Stages(run.out, console if console and leads else Silent(), leads=leads)
        self.say = self.stages.console.say

    def run_all(self) -> NamedMask:
        """Whatever is not done yet; the student."""
        if self.config.archive.filters.faces is not None:
            need("cv2")  # the stages that come before the filters take hours
        self.check_teacher()
        if not self.config.teaches_all:
            self.saliency_settings  # noqa: B018  # likewise
            check_network(self.config.experts)
        check_network(self.config.student)
        check_backbones(self.config.student, self.out / "student")
        self.corrections  # noqa: B018  # likewise: what is wrong with the file is said now
        if self.stages.leads:
            with _claimed(self.out, self.run.images):
                self._write_config()
                path = self._run_stages()
        else:
            path = self._run_stages()
        return NamedMask.build(NamedMaskSettings(), Compute(self.config.device, "fp32"), weights=path)

    def _run_stages(self) -> Path:
        archive = self._archive_stages() if self.config.has_archives else ""
        if self.config.teaches_all:
            return self._taught(archive, self.stages.run_stage(self.taught_stage()))
        found = self.stages.run_stage(self._masks_stage())
        masks = self._with_truths(found, "masks", CORRECTED)
        learnt_from = self._pseudo_masks
        if self.config.experts is not None:
            trained = self.stages.run_stage(self._experts_stage(masks))
            masks = self.stages.run_stage(self._refined_stage(found, trained))
            masks = self._with_truths(masks, "refined", CORRECTED_REFINED)
            learnt_from = self._table("refined" if self.corrections is None else CORRECTED_REFINED)
            check_none_empty(
                learnt_from, "give its expert other steps or another group (experts.steps, experts.groups)"
            )
        if self.config.has_teacher:
            taught = self.stages.run_stage(self.taught_stage())
            return self._taught(archive, self.stages.run_stage(self.targets_stage(taught, masks, learnt_from)))
        return self._last_stages(archive, masks, learnt_from)

    def _taught(self, archive: str, targets: str) -> Path:
        """Go on with what a teacher said of pictures, and a person's truths in it."""
        source, name = self.config.targets_folder, CORRECTED_TARGETS
        corrections = self.corrections
        if corrections is None:
            return self._last_stages(archive, targets, TargetTable(self.out / source))

        def make(report: Progress) -> None:
            weight, table = self.config.corrections.weight, TargetTable(self.out / source)
            tell(put_truths_in_targets(table, corrections, self.out / name, weight, progress=report), self.say)

        inputs = self._inputs("corrections.weight") | {"the targets": targets, THE_CORRECTIONS: corrections.digest}
        done = self.stages.run_stage(Stage(name, self.out / name, inputs, (*OUTPUTS, USED), make))
        return self._last_stages(archive, done, TargetTable(self.out / name))

    def _last_stages(self, archive: str, masks: str, learnt_from: MaskTable | TargetTable) -> Path:
        done = self.stages.run_stage(self._student_stage(masks, learnt_from))
        self.stages.run_stage(self._report_stage(archive, done))
        return self.out / "student" / student.STUDENT_FILE

    # The archive: by search in embeddings that are here, or that are made of the pictures; or as somebody published it.

    def _archive_stages(self) -> str:
        chosen = self.config.archive
        path = self.out / "archive" / "archive.parquet"
        if chosen.published is not None:
            source, root = Path(chosen.published).expanduser().resolve(), self._image_root or self.run.images
            inputs = self._inputs("archive.size", "archive.published", "image_root") | {
                "the published archive": file_digest(_existing(source)),
                "images": str(root),
                "names": self._phrases,
            }

            def take(report: Progress) -> None:
                published.import_archive(source, root, path, chosen.size, names=self.run.names, progress=report)

            return self.stages.run_stage(Stage("archive", path.parent, inputs, ("archive.parquet",), take))
        folder, digest = self._embeddings()
        without = {each.fingerprint for each in self.corrections or () if each.verdict == REJECTED}

        def search(report: Progress) -> None:
            opened = EmbeddingFolder(folder, root=self._image_root if folder == self.run.images else None)
            if is_in_store(opened.root):
                raise ConfigError(
                    f"the pictures of {folder} are in a store, {opened.root}: mount it, and say where (image_root)"
                )
            more = [rejecting(self.corrections)] if self.corrections and without else []
            how: dict[str, Any] = {"more": more, "progress": report, "crew": self.crew, "say": self.say}
            build_archive(opened, self.run.names, self.embedder, path, chosen, **how)

        inputs = self._inputs("archive", "clip", "clip_weights", "templates", "image_root") | {
            "the embeddings": digest,
            "the CLIP": self._clip_identity,
            "names": self._phrases,
        }
        if (faces := chosen.filters.faces) not in (None, OPENCV):
            inputs["the face detector"] = weights_identity(faces)
        if without:
            inputs["the rejected pictures"] = digest_of_lines(sorted(without))
        return self.stages.run_stage(Stage("archive", path.parent, inputs, ("archive.parquet",), search))

    def _embeddings(self) -> tuple[Path, str]:
        """Return a folder of embeddings, and what its content is known by."""
        images, folder = self.run.images, self.out / "embeddings"
        if is_embedding_folder(images):
            self.say(f"embeddings: those of {images}")
            return images, listing_digest(sorted([*images.glob("img_emb/*.npy"), *images.glob("metadata/*.parquet")]))
        clip = self._inputs("clip", "clip_weights") | {"the CLIP": self._clip_identity}
        outputs = ("img_emb/*.npy", "metadata/*.parquet", "bad/*.jsonl", "bad_images.jsonl", "collection.json")
        if images.suffix in PICKLES:
            root = self._image_root
            if root is None:
                raise ConfigError(f"image_root is missing: say where the pictures are whose embeddings {images} holds")

            def unpack(report: Progress) -> None:
                published.import_embeddings(images, root, folder, clip=self.config.clip, progress=report)

            inputs = clip | {"the pickle": file_digest(_existing(images)), "image_root": str(root)}
            return folder, self.stages.run_stage(Stage("embeddings", folder, inputs, outputs, unpack))
        pile: Pile = open_pile(images, root=self._image_root, per_part=self.config.embedding.per_part)
        survey = pile.survey()
        if self.stages.leads and not self._prune:
            check_all_there(pile, folder, survey)  # before anything that follows from them is taken for stale

        def look(report: Progress) -> None:
            how: dict[str, Any] = {"survey": survey, "progress": report, "prune": True, "say": self.say}
            how |= {"crew": self.crew, "load": self.loading("clip")}
            done = embed(pile, self.clip, folder, self.config.embedding, **how)
            if bad := done.about["bad_pictures"]:
                self.say(f"embeddings: {counted(bad, 'picture')} cannot be read: see {folder / 'bad_images.jsonl'}")

        inputs = clip | self._inputs("embedding", "image_root") | {"the pictures": survey.digest, "images": str(images)}
        stage = Stage("embeddings", folder, inputs, outputs, look, by_content=False, keeps_parts=True)
        return folder, self.stages.run_stage(stage)

    def _masks_stage(self) -> Stage:
        folder = self.out / "masks"
        inputs = self._inputs("masks") | {THE_ARCHIVE: self.archive.digest, "the saliency": self.saliency_identity}
        stuff = self.config.stuff
        inputs |= {"stuff": json.dumps(sorted(stuff))} if stuff else {}

        def made_alike(others: Mapping[str, str]) -> bool:
            return _but(others, THE_ARCHIVE) == _but(inputs, THE_ARCHIVE)

        def make(report: Progress) -> None:
            make_masks(
                self.archive,
                self.loading("saliency", "saliency_identity"),
                folder,
                self.config.masks,
                known=[where for where, others in self._other_masks() if made_alike(others)],
                stuff=stuff,
                progress=report,
                say=self.say,
                crew=self.crew,
            )

        outputs = ("masks_*.arrow", "masks_*.bad", "bad_images.jsonl")
        return Stage("masks", folder, inputs, outputs, make, spares=made_alike)

    def _other_masks(self) -> list[tuple[Path, dict[str, str]]]:
        """Folders of masks beside the run's own, and what each was made from."""
        return earlier(self.out, "masks")

    def _with_truths(self, masks: str, source: str, name: str) -> str:
        """See that a person's masks stand in the place of those of `source`, where the run is told of any."""
        corrections = self.corrections
        if corrections is None:
            return masks
        folder = self.out / name

        def make(report: Progress) -> None:
            weight = self.config.corrections.weight
            used = put_truths(self._table(source), corrections, seen_pictures(self.out / "masks"), folder, weight)
            if source == "masks" and not self.config.has_teacher:
                tell(used, self.say)

        inputs = self._inputs("corrections.weight") | {THE_MASKS: masks, THE_CORRECTIONS: corrections.digest}
        done = self.stages.run_stage(Stage(name, folder, inputs, ("corrected_*.arrow", USED), make))
        check_none_empty(self._table(name), "correct fewer of its pictures as holding none of it")
        return done

    @property
    def _pseudo_masks(self) -> MaskTable:
        """Return what experts learn from, a person's masks among them where there are some."""
        return self._table("masks" if self.corrections is None else CORRECTED)

    @property
    def note(self) -> str | None:
        """Return what must be known with every figure of the run, once its masks are made."""
        folder = self.out / (CORRECTED_TARGETS if self.config.has_teacher else CORRECTED)
        return None if self.corrections is None else Used.read(folder).note

    def _experts_stage(self, masks: str) -> Stage:
        folder = self.out / "experts"

        def make(report: Progress) -> None:
            how: dict[str, Any] = {"seed": self.config.seed, "device": self.config.device}
            how |= {"progress": report, "say": self.say, "crew": self.crew}
            experts.train_experts(self._pseudo_masks, self.groups, self._experts, folder, **how)

        def take() -> None:
            parts = Parts(self.say)
            others = [
                place.parent
                for where, made_from in earlier(self.out, "experts")
                if made_alike(made_from)
                for place in where.glob(f"*/{experts.EXPERT_FILE}")
                if parts.whole(place)
            ]
            if others:
                table = self._pseudo_masks
                seed = self.config.seed
                taken = [
                    experts.take_expert(others, table, group, self._experts, folder / f"{number:03d}", seed=seed)
                    for number, group in enumerate(self.groups)
                ]
                self.say(f"experts: {sum(taken)} of {len(taken)} are kept, as nothing has changed for them")

        inputs = (
            self._inputs("experts", "seed")
            | start_of(self._experts)
            | {THE_MASKS: masks, "groups": json.dumps(self.groups)}
        )
        outputs = (f"*/{experts.EXPERT_FILE}",)

        def made_alike(others: Mapping[str, str]) -> bool:
            return _but(others, *REGROUPED) == _but(inputs, *REGROUPED)

        return Stage("experts", folder, inputs, outputs, make, together=True, spares=made_alike, prepare=take)

    def _refined_stage(self, masks: str, trained: str) -> Stage:
        folder = self.out / "refined"

        def make(report: Progress) -> None:
            table = self._table("masks")
            tasks = []
            for number, group in enumerate(self.groups):
                expert = self.out / "experts" / f"{number:03d}" / experts.EXPERT_FILE
                stem = folder / f"refined_{number:03d}"
                tasks += redrawing.redraw_tasks(expert, table, group, self._experts, stem, self.config.device)
            redrawing.redraw(tasks, table, progress=report, say=self.say, crew=self.crew)

        inputs = self._inputs(*HOW_REDRAWN) | {"the experts": trained}
        inputs[THE_MASKS] = masks  # experts have learnt nothing from those set aside, which are redrawn too
        return Stage("refined", folder, inputs, ("refined_*.arrow",), make)

    def _student_stage(self, masks: str, table: MaskTable | TargetTable) -> Stage:
        folder = self.out / "student"

        def make(report: Progress) -> None:
            if not isinstance(self.crew, TrainingCrew):
                self.train_student(table, report)
                return
            with following(folder, lambda step: report(step, self.config.student.steps)):
                self.crew.train(TrainStudent(type(self), self.run, table), folder)

        inputs = (
            self._inputs("student", "seed") | start_of(self.config.student) | {THE_MASKS: masks, "names": self._phrases}
        )
        inputs |= self.student_inputs() | self.texts_identity()
        return Stage("student", folder, inputs, (student.STUDENT_FILE,), make, together=True)

    def train_student(self, table: MaskTable | TargetTable, report: Progress | None = None) -> None:
        """Run, or go on with, the training of the student, alone or as one of several processes."""
        options: dict[str, Any] = {
            "seed": self.config.seed,
            "device": self.config.device,
            "progress": report,
            "validation": self._validation(),
            "preset": self.run.preset,
            "note": self.note,
            "say": self.say,
        }
        own, names, folder = self.config.student, self.run.names, self.out / "student"
        examples = self.examples_of(table) if isinstance(table, TargetTable) else student.examples_of(table, names)
        if own.vocabulary == "open":
            open_student.train_open_student(examples, names, own, folder, texts=self.texts, **options)
        else:
            student.train_student(examples, names, own, folder, features=self.out / FEATURES, **options)

    def _report_stage(self, archive: str, trained: str) -> Stage:
        def make(report: Progress) -> None:
            write = write_report if self.config.has_archives else write_taught_report
            write(self.out, self.run, seconds=self.stages.seconds(), note=self.note, progress=report)

        inputs = self._inputs("validation") | {"the archive": archive, "the student": trained}
        if self.corrections is not None:
            inputs[THE_CORRECTIONS] = self.corrections.digest
        return Stage("report", self.out / "report", inputs, (REPORT,), make)

    def _write_config(self) -> None:
        """Write what the run was told, in full, as a file that `--config` takes."""
        names = dict(zip(self.run.names.names, ({"instead": list(p)} for p in self.run.names.phrases), strict=True))
        told = {"preset": self.run.preset, "names": names, "images": str(self.run.images), "out": str(self.out)}
        text = yaml.safe_dump(told | as_dict(self.config), sort_keys=False, allow_unicode=True)
        with atomic_write(self.out / CONFIG) as file:
            file.write(text.encode())


@dataclass(frozen=True)
class TrainStudent:
    """Trains the student of a run on another machine."""

    kind: type[Pipeline]
    run: Run
    table: MaskTable | TargetTable

    def __call__(self) -> None:
        """Train it when learners of a command that was killed have ended: all of these have to begin where they
        stopped.
        """
        team, out = Team(self.run.config.device), self.run.out
        refusal = DistillationError(f"{out}: learners of a command that was killed are still at work: wait for them")
        with locked(out / STATE / LEARNERS, refusal, patience=OUTLIVES) if team.is_first else nullcontext():
            team.wait()
            self.kind(self.run).train_student(self.table)


def _claimed(out: Path, images: Path) -> AbstractContextManager[None]:
    """Hold `out`, which is a run's or nobody's."""
    if out == images or images.is_relative_to(out):
        raise ConfigError(f"out={out} holds the pictures themselves: choose another folder")
    return claimed(out, VERB, was_ours=_was_ours, error=ConfigError)


def _was_ours(out: Path) -> bool:
    told = read_yaml(out / CONFIG) if (out / CONFIG).exists() else None
    return isinstance(told, dict) and told.keys() >= {"names", "images", "out"}


def _but(inputs: Mapping[str, str], *keys: str) -> dict[str, str]:
    return {key: value for key, value in inputs.items() if key not in keys}


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    return path
