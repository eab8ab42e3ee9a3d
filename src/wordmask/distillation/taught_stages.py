"""The stages of a run that has a teacher: what it says of pictures, and what a student learns from that."""

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from wordmask import segmenters
from wordmask.collection.embedding_folder import is_embedding_folder
from wordmask.collection.piles import Pile, open_pile
from wordmask.console.progress import Progress
from wordmask.distillation.config import TARGETS, TAUGHT, ConfigError
from wordmask.distillation.identities import clip_identity, settings_identity, weights_identity
from wordmask.distillation.merging import merge_targets
from wordmask.distillation.open_student import Texts
from wordmask.distillation.records import MaskTable
from wordmask.distillation.sources import Sources, preset_of
from wordmask.distillation.target_examples import TargetExamples
from wordmask.distillation.targets import TargetTable
from wordmask.distillation.teacher import Block, Lesson, blocks_of_archive, blocks_of_pile, pictures_of, teach
from wordmask.methods import check_method, settings_of
from wordmask.runs.parts import Say
from wordmask.runs.stages import Stage, earlier
from wordmask.segmenters.base import Segmenter
from wordmask.segmenters.open_student import TextTower
from wordmask.segmenters.open_vocabulary import OpenVocabularySegmenter

BY_CLIP = "maskclip"
"""By which names race where there is no teacher."""
THE_PICTURES = "the pictures"
OUTPUTS = ("*.arrow", "*.sure", "*.features", "*.bad", "bad_images.jsonl")


class TaughtSources(Sources):
    """What a teacher's stages need, and the stages themselves."""

    say: Say

    @property
    def _teachers(self) -> tuple[str, str, dict[str, Any]]:
        """Return the teacher's method, preset and settings."""
        method = self.config.masks.teacher or BY_CLIP
        return method, preset_of("segmenter", method, self.run.preset), self.config.masks.teacher_settings

    @cached_property
    def teacher(self) -> Segmenter:
        method, preset, settings = self._teachers
        weights, device = self.config.masks.teacher_weights, self.config.device
        return segmenters.load(
            method, preset=preset, weights=weights, device=device, **{"precision": "fp32", **settings}
        )

    def check_teacher(self) -> None:
        """Find mistakes before stages that take hours."""
        if self.config.has_teacher:
            _ = self._teacher_settings
        images = self.run.images
        if not self.config.has_archives and (is_embedding_folder(images) or images.suffix in (".pkl", ".pickle")):
            raise ConfigError(
                f"masks.pictures=all looks at pictures themselves, and images={images} holds embeddings: give a folder "
                "of pictures, a list, or webdataset tars"
            )

    @cached_property
    def _teacher_settings(self) -> Any:
        method, preset, told = self._teachers
        changes = {key: value for key, value in told.items() if key not in ("precision", "onnx", "correct")}
        return settings_of("segmenter", method, preset, **changes)

    @cached_property
    def teacher_identity(self) -> str:
        _, preset, told = self._teachers
        files = (self.config.masks.teacher_weights, told.get("onnx"))
        return f"{preset} {settings_identity(self._teacher_settings)}{''.join(map(weights_identity, files))}"

    @cached_property
    def learns_features(self) -> bool:
        """Return whether the student is to have the teacher's features, which lie in the space of a CLIP's texts."""
        student = self.config.student
        if student.vocabulary != "open" or not student.features_weight or self.config.masks.teacher is None:
            return False
        method, preset, _ = self._teachers
        kind: Any = check_method("segmenter", method, preset=preset, settings=())
        own = getattr(kind, "in_text_space", None)
        has_own = own not in (None, OpenVocabularySegmenter.in_text_space)
        return has_own and all(hasattr(self._teacher_settings, key) for key in ("clip", "clip_weights", "templates"))

    @property
    def _text_addresses(self) -> tuple[str, str | None, str]:
        """Return the CLIP that reads an open student's names, its weights and its prompts: the teacher's own where its
        features are learnt, or else the run's.
        """
        source = self._teacher_settings if self.learns_features else self.config
        return str(source.clip), source.clip_weights, source.templates

    @cached_property
    def texts(self) -> Texts:
        teacher: Any = self.teacher if self.learns_features else None
        embed = self.embedder if teacher is None else teacher.embed
        return Texts(embed, TextTower(*self._text_addresses, embed.encoder.text_fingerprint))

    def texts_identity(self) -> dict[str, str]:
        if self.config.student.vocabulary != "open":
            return {}
        clip, weights, prompts = self._text_addresses
        return {"the texts": f"{clip_identity(clip, weights)} {prompts}"}

    # The stages.

    def taught_stage(self) -> Stage:
        """Ask the teacher about the pictures of the archives, or about all."""
        folder = self.out / TAUGHT
        pile: Pile | None = None
        if self.config.has_archives:
            pictures, total = self.archive.digest, None
        else:
            pile = open_pile(self.run.images, root=self._image_root, per_part=self.config.embedding.per_part)
            survey = pile.survey()
            pictures, total = survey.digest, survey.weight if survey.unit == "pictures" else None
        method, _, told = self._teachers
        masks = self.config.masks
        inputs = {
            "masks.teacher": json.dumps(method),
            "masks.teacher_settings": json.dumps(told),
            "masks.fill": json.dumps(masks.fill),
            "the teacher": self.teacher_identity,
            "names": json.dumps([self.run.names.names, self.run.names.phrases], ensure_ascii=False),
            "features": json.dumps(self.learns_features),
            THE_PICTURES: pictures,
        }

        def made_alike(others: Mapping[str, str]) -> bool:
            return _but_pictures(others) == _but_pictures(inputs)

        def make(report: Progress) -> None:
            blocks: Iterable[Block] = blocks_of_archive(self.archive) if pile is None else blocks_of_pile(pile)
            teach(
                blocks,
                self.archive.root if pile is None else pile.root,
                self.loading("teacher", "teacher_identity"),
                Lesson(self.run.names, masks.fill, self.learns_features, masks.batch),
                folder,
                known=[where for where, others in earlier(self.out, TAUGHT) if made_alike(others)],
                total=len(pictures_of(self.archive)) if pile is None else total,
                progress=report,
                say=self.say,
                crew=self.crew,
            )

        return Stage(TAUGHT, folder, inputs, OUTPUTS, make, spares=made_alike)

    def targets_stage(self, taught: str, masks: str, things: MaskTable) -> Stage:
        """Put masks of things on top of that."""
        folder, chosen = self.out / TARGETS, self.config.masks
        stuff = self.config.stuff
        inputs = {
            "stuff": json.dumps(sorted(stuff)),
            "masks.race": json.dumps(chosen.race),
            "masks.least_confidence": json.dumps(chosen.least_confidence if chosen.race else None),
            "what is taught": taught,
            "the masks": masks,
        }

        def make(report: Progress) -> None:
            merge_targets(
                TargetTable(self.out / TAUGHT),
                things,
                folder,
                stuff=stuff,
                race=chosen.race,
                least=chosen.least_confidence,
                progress=report,
                say=self.say,
            )

        return Stage(TARGETS, folder, inputs, OUTPUTS, make)

    def examples_of(self, targets: TargetTable) -> TargetExamples:
        masks = self.config.masks
        found = set(targets.seen_names())
        for name in targets.names:
            if name not in found:
                self.say(f"student: no pixel of any picture is {name!r}: it will not be learnt")
        examples = TargetExamples(
            targets, least=masks.least_confidence, share=masks.ignore_share, stuff=self.config.stuff
        )
        examples.check()
        return examples

    def student_inputs(self) -> dict[str, str]:
        """Return what of a teacher's settings a student follows from."""
        masks = self.config.masks
        if not self.config.has_teacher:
            return {}
        return {
            "masks.least_confidence": json.dumps(masks.least_confidence),
            "masks.ignore_share": json.dumps(masks.ignore_share),
            "stuff": json.dumps(sorted(self.config.stuff)),
        }


def _but_pictures(inputs: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in inputs.items() if key != THE_PICTURES}
