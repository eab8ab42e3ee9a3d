"""What the stages of a run need: networks, texts and tables, made when the first stage asks for them; and what each is
known by, so that a stage is made anew when one of them has changed, and only then.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordmask import saliency
from wordmask.collection.archive import Archive
from wordmask.compute import AUTO, Compute
from wordmask.corrections import Corrections
from wordmask.corrections.reading import corrections_from
from wordmask.distillation import experts
from wordmask.distillation.config import FREE, Run
from wordmask.distillation.head_student import HeadStudentSettings, backbones_identity
from wordmask.distillation.identities import brought_identity, clip_identity, start_identity, weights_identity
from wordmask.distillation.pseudo_masks import OF_TEACHERS
from wordmask.distillation.records import DistillationError, MaskTable
from wordmask.distillation.student import OF_OPEN
from wordmask.distillation.training import SegmenterTraining, Training
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.methods import DEFAULT_PRESET, Kind, presets_by_name, settings_of
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.runs.crew import Crew
from wordmask.saliency.base import Saliency, SaliencyError

if TYPE_CHECKING:
    from wordmask.benchmarks.datasets import Benchmark

PLAIN = (("experts.keep", "redrawn"),)
"""Settings that came later, as all was before: then nothing is said of them, and runs of earlier versions stand."""


class Sources:
    """Makes what the stages of one run need, each on first use. crew: who makes the shards of stages; by default this
    process does.
    """

    def __init__(self, run: Run, *, crew: Crew | None = None):
        self.run, self.config, self.out, self.crew = run, run.config, run.out, crew
        self.names = run.names.without_background()
        self.things = self.names.only([i for i, name in enumerate(self.names.names) if name not in run.config.stuff])

    @cached_property
    def clip(self) -> ClipEncoder:
        return clip_at(self.config.clip, self.config.clip_weights, Compute(self.config.device, "fp32"))

    @cached_property
    def embedder(self) -> TextEmbedder:
        return TextEmbedder(self.clip, templates(self.config.templates))

    @cached_property
    def saliency_settings(self) -> Any:
        """Return what the saliency's settings come to, or say what is wrong with the run's."""
        chosen = self.config.masks
        if chosen.settings.get("precision") == AUTO:
            raise SaliencyError("masks.settings: precision=auto makes other masks on other machines: say fp32 or bf16")
        changes = {key: value for key, value in chosen.settings.items() if key != "precision"}
        preset = preset_of("saliency", chosen.saliency, self.run.preset)
        return settings_of("saliency", chosen.saliency, preset, **changes)

    @cached_property
    def saliency(self) -> Saliency:
        chosen = self.config.masks
        return saliency.load(
            chosen.saliency,
            preset=preset_of("saliency", chosen.saliency, self.run.preset),
            weights=chosen.weights,
            device=self.config.device,
            **{"precision": "fp32", **chosen.settings},
        )

    def loading(self, what: str, identity: str = "") -> Callable[[], Any]:
        """Return what loads one of these sources for shards: in a worker it is one of its own, and has to be the same
        one. identity: what tells so.
        """
        if self.crew is None:
            return lambda: getattr(self, what)
        return LoadSource(type(self), self.run, what, identity, getattr(self, identity) if identity else "")

    @cached_property
    def corrections(self) -> Corrections | None:
        """What a person corrected, if the run is told of any."""
        chosen = self.config.corrections.file
        if chosen is None:
            return None
        return corrections_from(Path(chosen), self._image_root or self.run.images)

    @cached_property
    def archive(self) -> Archive:
        return Archive(self.out / "archive" / "archive.parquet")

    @cached_property
    def groups(self) -> list[list[str]]:
        """Names that share an expert. Text is looked at only where there is something to group."""
        names = self.things.names
        count = self._experts.groups or experts.default_groups(len(names))
        if count >= len(names):
            return experts.group_names(names, [], count)  # type: ignore[arg-type]  # which does not look at them
        text = self.embedder(self.things)
        firsts = [text.owner.tolist().index(label) for label in range(len(names))]
        return experts.group_names(names, text.vectors[firsts].cpu().numpy(), count, self.config.seed)

    @property
    def _experts(self) -> experts.ExpertSettings:
        if self.config.experts is None:
            raise AssertionError("asked for without experts")
        return self.config.experts

    def _table(self, stage: str) -> MaskTable:
        return MaskTable(self.out / stage)

    def _validation(self) -> "Benchmark | None":
        chosen = self.config.validation
        if chosen is None:
            return None
        from wordmask.benchmarks import open_benchmark

        return open_benchmark(chosen.benchmark, split=chosen.split, root=chosen.root, pictures=chosen.pictures)

    # What stages are made from.

    def _inputs(self, *sections: str) -> dict[str, str]:
        """Return settings by their dotted names, but for those that change nothing about the outcome."""
        return {
            key: json.dumps(value)
            for key, value in self.config.flat().items()
            if key not in FREE
            and (key, value) not in PLAIN
            and self._is_used(key)
            and any(key == section or key.startswith(f"{section}.") for section in sections)
        }

    def _is_used(self, key: str) -> bool:
        """Return whether a setting plays a part where its section alone is told."""
        student = self.config.student
        unused = [name for name in OF_OPEN if student.vocabulary != "open"]
        unused += ["kind"] if student.kind == "deeplab" else []  # as stages were told when there was no other
        return key not in OF_TEACHERS and key not in {f"student.{name}" for name in unused}

    @property
    def _phrases(self) -> str:
        return json.dumps(dict(zip(self.names.names, self.names.phrases, strict=True)), ensure_ascii=False)

    @property
    def _image_root(self) -> Path | None:
        root = self.config.image_root
        return None if root is None else Path(root).expanduser().resolve()

    @cached_property
    def _clip_identity(self) -> str:
        return clip_identity(self.config.clip, self.config.clip_weights)

    @cached_property
    def saliency_identity(self) -> str:
        chosen = self.config.masks
        return brought_identity(self.saliency_settings, chosen.settings) + weights_identity(chosen.weights)


@dataclass(frozen=True)
class LoadSource:
    """Loads a source in a worker."""

    kind: type[Sources]
    run: Run
    what: str
    identity: str
    known_by: str

    def __call__(self) -> Any:
        sources = self.kind(self.run)
        if self.identity and getattr(sources, self.identity) != self.known_by:
            raise DistillationError(
                f"a worker has another {self.what} than where the run was begun: use the same files on all machines"
            )
        return getattr(sources, self.what)


def preset_of(kind: Kind, method: str, preset: str) -> str:
    """Return the method's preset that is called as the run's, where there is such a one."""
    return preset if preset in presets_by_name(kind, method) else DEFAULT_PRESET


def start_of(settings: Training) -> dict[str, str]:
    """Return what a training starts from, or stands on, where its name alone does not say that."""
    if isinstance(settings, HeadStudentSettings):
        told = backbones_identity(settings.backbones)
        return {} if told == list(settings.backbones) else {"what it stands on": json.dumps(told)}
    if not isinstance(settings, SegmenterTraining):
        return {}
    identity = start_identity(settings.start)
    return {} if identity is None or identity == settings.start else {"what it starts from": identity}
