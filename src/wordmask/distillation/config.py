"""What a run is told: one YAML file, or keywords, over a preset. Every setting has a dotted name, as `archive.size`.

An unknown key and an impossible value are errors that name the key.
"""

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from wordmask.collection.embedding import EmbeddingSettings
from wordmask.collection.stores import is_in_store
from wordmask.distillation import experts, student
from wordmask.distillation.archive import ArchiveSettings
from wordmask.distillation.corrections import CorrectionSettings
from wordmask.distillation.crowds import check_sides
from wordmask.distillation.experts import ExpertSettings
from wordmask.distillation.filters import FilterSettings
from wordmask.distillation.pseudo_masks import MaskSettings
from wordmask.distillation.records import DistillationError
from wordmask.distillation.student import AnyStudentSettings, StudentSettings
from wordmask.distillation.training import SegmenterTraining
from wordmask.encoders.clip_building import CONFIG as CLIP_CONFIG
from wordmask.encoders.timm_building import is_timm_folder
from wordmask.names.lists import read_names
from wordmask.names.vocabulary import Vocabulary
from wordmask.plugins import presets_of, where_from
from wordmask.text_files import TextFileError, parse_yaml, read_yaml, shown
from wordmask.weights import catalogue
from wordmask.weights.addresses import file_at, is_brought
from wordmask.weights.catalogue import CatalogueError

MOST_LETTERS = 60
"""Of a key that messages show as it is."""
FREE = frozenset(
    {"device", "embedding.batch", "embedding.readers", "masks.batch", "experts.pictures"}
    | {
        f"{stage}.{key}"
        for stage in ("experts", "student")
        for key in ("workers", "threads", "save_every", "log_every", "check_every")
    }
)
"""Settings that may change while a run goes on: they say how fast it is, and not what comes out."""


TAUGHT, TARGETS = "taught", "targets"
"""Folders of a run: what a teacher says, and that with masks of things on top."""
PATHS = ("image_root", "archive.published", "archive.filters.faces", "corrections.file", "validation.root")
WEIGHTS = ("clip_weights", "masks.weights", "masks.teacher_weights", "experts.start", "student.start")
"""Paths, or else names of what is published: see `wordmask.weights.addresses.find`."""
NETWORKS = ("clip", "student.backbones")
"""Paths of whole networks that are there, or else names of what is published, many of which look like paths."""
NO_PATHS = ("opencv", "timm")


class ConfigError(DistillationError):
    """A setting that does not exist, or a value that it cannot have."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Validation:
    """Pictures with true labels, for figures on the way: a benchmark by its name, and where its data are."""

    benchmark: str
    root: str | None = None
    split: str | None = None
    pictures: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RunConfig:
    """clip: an `open_clip` architecture and the tag of its weights, or another address; clip_weights: a file or URL in
    place of the tag's. image_root: where the pictures are, if `images` is a list, embeddings, or a published archive is
    given. experts: none for a student that learns from the saliency masks as they are. stuff: names of no things, as
    grass and sky, which saliency cannot find and `masks.teacher` does. student: a DeepLabV3+, or with kind=head a light
    decoder on frozen encoders, which has settings of its own.
    """

    clip: str = "ViT-L-14-336/openai"
    clip_weights: str | None = None
    templates: str = "imagenet-85"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: str = "auto"
    image_root: str | None = None
    embedding: EmbeddingSettings = EmbeddingSettings()
    archive: ArchiveSettings = ArchiveSettings()
    stuff: tuple[str, ...] = ()
    masks: MaskSettings = Field(default_factory=MaskSettings)
    corrections: CorrectionSettings = CorrectionSettings()
    experts: ExpertSettings | None = experts.PRESETS["paper"]
    student: Annotated[AnyStudentSettings, Field(discriminator="kind")] = student.PRESETS["paper"]
    validation: Validation | None = None

    @property
    def has_archives(self) -> bool:
        return self.masks.pictures == "archives"

    @property
    def has_teacher(self) -> bool:
        return self.masks.teacher is not None or self.masks.race

    @property
    def teaches_all(self) -> bool:
        """Return whether the teacher alone makes what the student learns from, without saliency and experts."""
        return self.masks.teacher is not None and not self.stuff and not self.masks.race

    @property
    def targets_folder(self) -> str:
        """Return the folder of a run that has what its student learns from, where there is a teacher."""
        return TAUGHT if self.teaches_all else TARGETS

    def flat(self) -> dict[str, Any]:
        """Every setting under its dotted name."""
        return _flat(as_dict(self))


PRESETS = {
    "paper": RunConfig(),
    "imagenet-s": RunConfig(
        clip="ViT-L-14/openai", experts=experts.PRESETS["imagenet-s"], student=student.PRESETS["imagenet-s"]
    ),
}
VALIDATION_KEYS = {"benchmark": None, "root": None, "split": None, "pictures": None}
FREE_FORM = (
    "masks.settings",
    "masks.teacher_settings",
    "experts.network.backbone_options",
    "student.network.backbone_options",
)
"""Settings of somebody else's, who checks them."""


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class Run:
    """A whole run: names, pictures, the folder it writes, and its settings. `preset` is whose saliency is taken."""

    names: Vocabulary
    images: Path
    out: Path
    preset: str
    config: RunConfig


HEADS = "distill-head"
"""What plug-ins call the students of the kind `head` that their presets of whole runs have."""


def list_presets() -> Mapping[str, RunConfig]:
    """Return the settings of whole runs by their names: the paper's, then those of plug-ins."""
    return presets_of("distill", PRESETS)


def find_preset(name: Any) -> RunConfig:
    """Return the settings of whole runs that are called so."""
    presets = list_presets()
    if not isinstance(name, str) or name not in presets:
        brought = where_from(name) if isinstance(name, str) else ""
        raise ConfigError(f"preset {shown(name)} is unknown; choose one of {', '.join(presets)}{brought}")
    found: RunConfig = presets[name]
    return found


def _student_of(preset: str, kind: Any) -> AnyStudentSettings:
    """Return what a preset's student is where it is told to be of another kind than the preset has."""
    kinds: dict[str, Mapping[str, AnyStudentSettings]]
    kinds = {"deeplab": student.PRESETS, "head": presets_of(HEADS, student.HEADS)}
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"student.kind={shown(kind)} is no kind of student: choose one of {', '.join(kinds)}")
    if preset not in kinds[kind]:
        raise ConfigError(
            f"preset {preset!r} has no student of the kind {kind!r}: leave student.kind out, or take preset paper and "
            "say what it is to be"
        )
    return kinds[kind][preset]


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file as it stands: any of `names`, `images`, `out`, `preset`, and settings. Relative paths in it
    are relative to the file.
    """
    try:
        data = read_yaml(path)
    except TextFileError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected settings (key: value), found {type(data).__name__}")
    for key in ("names", "images", "out"):
        if isinstance(data.get(key), str):
            data[key] = str(path.parent / _place(key, data[key]))
    return _with_absolute_paths(data, path.parent.absolute())


def make_run(*layers: Mapping[str, Any]) -> Run:
    """Layers of settings, later ones over earlier ones, over the preset that they name (`paper` if they name none)."""
    told: dict[str, Any] = {}
    for layer in layers:
        told = _merged(told, layer)
    preset = told.pop("preset", "paper")
    base = as_dict(find_preset(preset))
    names, images, out = (told.pop(key, None) for key in ("names", "images", "out"))
    for key, value, how in (
        ("names", names, "a list, or a file of them"),
        ("images", images, "a folder, a list, tars or embeddings"),
        ("out", out, "the folder to write"),
    ):
        if value is None:
            raise ConfigError(f"{key} is missing: give {how}")
        if key != "names" and not isinstance(value, str | Path):
            raise ConfigError(f"{key}={shown(value)} is no path: give {how}")
    asked = told.get("student")
    if isinstance(asked, Mapping) and asked.get("kind", base["student"]["kind"]) != base["student"]["kind"]:
        base["student"] = TypeAdapter(AnyStudentSettings).dump_python(_student_of(preset, asked["kind"]), mode="json")
    merged = _merged(base, told)
    if (
        isinstance(merged["experts"], Mapping) and base["experts"] is not None
    ):  # also where one layer has said "none" and a later one has said more
        merged["experts"] = _merged(base["experts"], merged["experts"])
    _check_keys(merged, base)
    config = _validated(_with_absolute_paths(merged, Path.cwd()))
    vocabulary = read_names(names) if isinstance(names, str | Path) else Vocabulary.of(names)
    if not len(vocabulary.names) - (vocabulary.background is not None):
        raise ConfigError("names holds nothing but background: name at least one thing to find")
    _check_teacher(config, vocabulary)
    own = config.student
    is_taught = config.masks.teacher is not None
    if isinstance(own, StudentSettings) and own.vocabulary == "open" and own.crowds and is_taught:
        raise ConfigError("student.crowds is not for open students that have a teacher: leave it at 0.0")
    if own.crowds:
        check_sides(own.crowd_sides, own.augmentation.crop)
    for name, training in (("experts", config.experts), ("student", config.student)):
        if not isinstance(training, SegmenterTraining) or not training.far_steps:
            continue
        if training.network.zoom == 1:
            raise ConfigError(
                f"{name}.far_steps is for networks with a zoom: leave it at 0, or set {name}.network.zoom"
            )
        if training.far_steps >= training.steps:
            raise ConfigError(
                f"{name}.far_steps={training.far_steps} leaves none of {training.steps} steps to the network's zoom: "
                "take fewer, or more steps"
            )
    return Run(vocabulary, _place("images", images).resolve(), _place("out", out).resolve(), preset, config)


def _place(key: str, value: str | Path) -> Path:
    """Return a path of this machine."""
    if is_in_store(value):
        raise ConfigError(
            f"{key}={value} is an address, and a distillation reads and writes folders: mount the store, or copy what "
            "is there"
        )
    return Path(value).expanduser()


def _check_teacher(config: RunConfig, names: Vocabulary) -> None:
    """Refuse what a teacher cannot be asked for, before anything is made."""
    masks, things = config.masks, set(names.without_background().names) - set(config.stuff)
    if unknown := [name for name in config.stuff if name not in names.names or name == names.background]:
        raise ConfigError(f"stuff={shown(unknown[0])} is none of the names: stuff says which of these are no things")
    if masks.teacher == "auto":
        raise ConfigError("masks.teacher=auto would be another one elsewhere: name a method (`wordmask methods`)")
    if masks.teacher_settings.get("precision") == "auto":
        raise ConfigError("masks.teacher_settings: precision=auto answers otherwise elsewhere: say fp32 or bf16")
    if config.stuff and masks.teacher is None:
        raise ConfigError("stuff has no saliency: say who finds it, as masks.teacher=clip-dinoiser")
    if config.stuff and not things:
        raise ConfigError("stuff holds all names: leave it out, and masks.teacher finds them all")
    if masks.pictures == "all":
        if masks.teacher is None:
            raise ConfigError("masks.pictures=all needs who looks at them: say masks.teacher=METHOD")
        if config.stuff or masks.race:
            raise ConfigError(
                "masks.pictures=all has no archives, by which stuff and masks.race go: say masks.pictures=archives"
            )
        if config.archive.published is not None:
            raise ConfigError("masks.pictures=all has no archives: leave out archive.published")


def as_dict(config: RunConfig) -> dict[str, Any]:
    dumped: dict[str, Any] = TypeAdapter(RunConfig).dump_python(config, mode="json")
    return dumped


def setting(pair: str) -> dict[str, Any]:
    """ "archive.size=50" -> {"archive": {"size": 50}}, the value read as YAML does."""
    key, equals, value = pair.partition("=")
    parts = key.split(".")
    if not equals or not all(part.isidentifier() for part in parts):
        raise ConfigError(f"a setting is KEY=VALUE with a dotted key, such as archive.size=50, not {shown(pair)}")
    try:
        nested: Any = parse_yaml(value)
    except TextFileError:
        nested = value
    for part in reversed(parts):
        nested = {part: nested}
    return dict(nested)


def make_filters(pairs: Sequence[str]) -> FilterSettings:
    """Return the filters of settings such as "duplicates=0.94"."""
    base = as_dict(RunConfig())
    told = base
    for pair in pairs:
        told = _merged(told, setting(f"archive.filters.{pair}"))
    _check_keys(told, base)
    return _validated(_with_absolute_paths(told, Path.cwd())).archive.filters


def _merged(under: Mapping[str, Any], over: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and key != "names":
            merged[key] = _merged(below, value, f"{at}{key}.")
        else:
            merged[key] = value
    return merged


def _with_absolute_paths(told: Mapping[str, Any], base: Path, at: str = "") -> dict[str, Any]:
    """Return settings whose paths no longer depend on where they are read."""
    absolute = dict(told)
    for key, value in told.items():
        name = f"{at}{key}"
        if isinstance(value, Mapping):
            absolute[key] = _with_absolute_paths(value, base, f"{name}.")
        elif isinstance(value, list | tuple) and name in NETWORKS:
            absolute[key] = [_absolute(each, base, name) for each in value]
        else:
            absolute[key] = _absolute(value, base, name)
    return absolute


def _absolute(value: Any, base: Path, name: str) -> Any:
    """Return the value of a setting, as a path below `base` where it is one."""
    if not isinstance(value, str) or value in NO_PATHS:
        return value
    if name in PATHS:
        return str(base / _place(name, value))
    if name not in (*WEIGHTS, *NETWORKS):
        return value
    path = base / Path(value).expanduser()
    return str(path) if (_is_path if name in WEIGHTS else _is_network)(value, path) else value


def _is_network(address: str, path: Path) -> bool:
    """Take what is there and holds a network before what is published."""
    if catalogue.is_url(address) or is_brought(address):
        return False
    return file_at(path) is not None or (path / CLIP_CONFIG).is_file() or is_timm_folder(path)


def _is_path(weights: str, path: Path) -> bool:
    """Take a file that is there before what is published. A file that is not there is told by its looks."""
    if catalogue.is_url(weights) or is_brought(weights):
        return False
    if path.is_file():
        return True
    with suppress(CatalogueError):
        catalogue.find(weights)
        return False
    return ":" not in weights and ("/" in weights or Path(weights).suffix != "")


def _validated(merged: dict[str, Any]) -> RunConfig:
    try:
        config: RunConfig = TypeAdapter(RunConfig).validate_python(merged)
    except ValidationError as error:
        raise ConfigError(_explained(error)) from error
    return config


def _check_keys(told: Mapping[str, Any], base: Mapping[str, Any], at: str = "") -> None:
    for key, value in told.items():
        if key not in base:
            name = key if isinstance(key, str) else shown(key)
            below = [f"{part}.{name}" for part, keys in base.items() if isinstance(keys, Mapping) and name in keys]
            near = below or difflib.get_close_matches(name[:MOST_LETTERS], list(base), n=1)
            meant = " or ".join(f"{at}{other}" for other in near)
            known = f"did you mean {meant}?" if near else f"{at.rstrip('.') or 'a run'} has {', '.join(base)}"
            raise ConfigError(f"{at}{name if len(name) <= MOST_LETTERS else shown(name)} is no setting; {known}")
        own = VALIDATION_KEYS if f"{at}{key}" == "validation" else base[key]
        if isinstance(value, Mapping) and isinstance(own, Mapping) and f"{at}{key}" not in FREE_FORM:
            _check_keys(value, own, f"{at}{key}.")


def _explained(error: ValidationError) -> str:
    first = error.errors()[0]
    where = first["loc"]
    where = (*where[:1], *where[2:]) if where[:1] == ("student",) else where  # the second says of which kind it is
    key = ".".join(str(part)[:MOST_LETTERS] for part in where)
    return f"{key}={shown(first['input'])} cannot be used: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
