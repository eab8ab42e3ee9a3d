"""Methods by name: one registry of segmenters, saliency, refinements and makers of regions, those of plug-ins included.

What a name stands for is imported when it is asked for; settings are checked before anything is loaded.
"""

import difflib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Self, get_args

from pydantic import ValidationError

from wordmask.cards import BLANK, Card, cards
from wordmask.compute import Compute, is_processor
from wordmask.errors import WordmaskError
from wordmask.plugins import installed, named, presets_of, where_from
from wordmask.text_files import shown

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

Kind = Literal["segmenter", "saliency", "refinement", "regions"]
CALLED: dict[str, str] = {
    "segmenter": "method",
    "saliency": "saliency method",
    "refinement": "refinement",
    "regions": "maker of regions",
}
"""Kinds as messages call them."""
LOADED_BY: dict[Kind, str] = {
    "segmenter": "wordmask.load",
    "saliency": "wordmask.saliency.load",
    "regions": "wordmask.regions.load",
}
FEW = 12
"""Settings that a message lists whole."""
MOST_LETTERS = 60
"""Of a setting that is not there: comparing long ones takes long."""
DEFAULT_PRESET = "paper"
NO_WEIGHTS = "no weights"
"""In place of their licence."""


class MethodError(WordmaskError):
    """No such method, preset or setting."""


@dataclass(frozen=True)
class Method:
    """What is known of a method before it is imported.

    at: "module:attribute" of the class, a `Segmenter` or a `Saliency`; of a refinement of names' scores, of a
    `wordmask.refinement.by_name.Refiner`, of patches' scores, of `wordmask.refinement.lposs.Lposs`. paper: whose it is.
    about: what it does, in a few words. needs: which networks, and what else. licence: of the weights that the preset
    "paper" loads. refines: what a refinement is for; "names" are scores of pixels, "patches" those of windows' patches.
    brings: of a segmenter of a plug-in, what it is to be chosen by; `card` has it, or what `data/methods.toml` says.
    """

    name: str
    kind: Kind
    at: str
    paper: str
    about: str = ""
    needs: str = "nothing"
    licence: str = "unknown"
    refines: tuple[Literal["names", "patches", "saliency"], ...] = ("names",)
    brings: Card | None = None

    @property
    def card(self) -> Card:
        """What is published of it and what it takes."""
        own = cards() if self.kind == "segmenter" and self in METHODS else {}
        return self.brings or own.get(self.name, BLANK)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            known = ", ".join(get_args(Kind))
            raise MethodError(f"{self.name}: no kind of methods is called {shown(self.kind)}; choose one of {known}")


_SEGMENTERS = "wordmask.segmenters"
_SALIENCY = "wordmask.saliency"
_REGIONS = "wordmask.regions"
METHODS = (
    Method(
        "maskclip",
        "segmenter",
        f"{_SEGMENTERS}.maskclip:MaskClip",
        "Zhou et al., ECCV 2022",
        "CLIP's patches, each by its nearest name",
        "CLIP ViT-B/16",
        "MIT (OpenCLIP)",
    ),
    Method(
        "clip-diy",
        "segmenter",
        f"{_SEGMENTERS}.clip_diy:ClipDiy",
        "Wysoczańska et al., WACV 2024",
        "CLIP on windows of several sizes, times what is an object",
        "CLIP ViT-B/32, FOUND",
        "MIT (OpenCLIP), Apache-2.0 (DINO, FOUND)",
    ),
    Method(
        "clip-dinoiser",
        "segmenter",
        f"{_SEGMENTERS}.clip_dinoiser:ClipDinoiser",
        "Wysoczańska et al., ECCV 2024",
        "CLIP's patches, pooled where DINO sees one thing",
        "CLIP ViT-B/16, two trained layers",
        "MIT (OpenCLIP), Apache-2.0 (CLIP-DINOiser)",
    ),
    Method(
        "sclip",
        "segmenter",
        f"{_SEGMENTERS}.sclip:Sclip",
        "Wang et al., ECCV 2024",
        "CLIP's patches, which attend to those that ask or answer alike",
        "CLIP ViT-B/16",
        "MIT (OpenAI's CLIP)",
    ),
    Method(
        "clearclip",
        "segmenter",
        f"{_SEGMENTERS}.clearclip:ClearClip",
        "Lan et al., ECCV 2024",
        "the same by queries alone, without the residual that makes noise",
        "CLIP ViT-B/16",
        "MIT (OpenAI's CLIP)",
    ),
    Method(
        "naclip",
        "segmenter",
        f"{_SEGMENTERS}.naclip:NaClip",
        "Hajimiri et al., WACV 2025",
        "CLIP's patches attend to like ones nearby; then PAMR",
        "CLIP ViT-B/16",
        "MIT (OpenAI's CLIP)",
    ),
    Method(
        "sc-clip",
        "segmenter",
        f"{_SEGMENTERS}.sc_clip:ScClip",
        "Bai et al., 2024",
        "CLIP's patches without anomalies, averaged by its middle blocks",
        "CLIP ViT-B/16",
        "MIT (OpenAI's CLIP)",
    ),
    Method(
        "resclip",
        "segmenter",
        f"{_SEGMENTERS}.resclip:ResClip",
        "Yang et al., CVPR 2025",
        "NACLIP guided by middle blocks and by a first answer of its own",
        "CLIP ViT-B/16",
        "MIT (OpenAI's CLIP)",
    ),
    Method(
        "proxyclip",
        "segmenter",
        f"{_SEGMENTERS}.proxyclip:ProxyClip",
        "Lan et al., ECCV 2024",
        "CLIP's patches, mixed where DINO sees them alike",
        "CLIP ViT-B/16, DINO ViT-B/8",
        "MIT (OpenAI's CLIP), Apache-2.0 (DINO)",
    ),
    Method(
        "lposs",
        "segmenter",
        f"{_SEGMENTERS}.lposs:LpossSegmenter",
        "Stojnić et al., CVPR 2025",
        "CLIP's patches, whose names spread to those that DINO sees alike",
        "CLIP ViT-B/16, DINO ViT-B/16",
        "MIT (OpenCLIP), Apache-2.0 (DINO)",
    ),
    Method(
        "corrclip",
        "segmenter",
        f"{_SEGMENTERS}.corrclip:CorrClip",
        "Zhang et al., ICCV 2025",
        "CLIP's patches, which listen to those of their own region",
        "CLIP ViT-B/16, DINO ViT-B/8, a maker of regions",
        "CC-BY-NC-4.0 (MetaCLIP), Apache-2.0 (DINO)",
    ),
    Method(
        "talk2dino",
        "segmenter",
        f"{_SEGMENTERS}.talk2dino:Talk2Dino",
        "Barsellotti et al., ICCV 2025",
        "DINOv2's patches, and words mapped among them by what captions taught",
        "DINOv2 ViT-B/14 with registers, CLIP ViT-B/16's words, two trained layers",
        "Apache-2.0 (DINOv2, Talk2DINO), MIT (OpenAI's CLIP)",
    ),
    Method(
        "tipsv2",
        "segmenter",
        f"{_SEGMENTERS}.tipsv2:TipsV2",
        "Google DeepMind, 2026",
        "patches that were trained to lie among words, read by their values",
        "TIPSv2 ViT-L/14 with its words, sentencepiece",
        "Apache-2.0 (TIPSv2)",
    ),
    Method(
        "dinotxt",
        "segmenter",
        f"{_SEGMENTERS}.dinotxt:DinoTxt",
        "Jose et al., CVPR 2025",
        "DINOv3's patches, brought among words by two trained blocks",
        "DINOv3 ViT-L/16, and its file of blocks and words (an address by mail)",
        "DINOv3 License",
    ),
    Method(
        "reco",
        "segmenter",
        f"{_SEGMENTERS}.reco:ReCo",
        "Shin et al., NeurIPS 2022",
        "names learnt from an archive of pictures",
        "CLIP RN50x16, CLIP ViT-L/14 at 336 pixels, DINO ViT-S/16, pictures of the names",
        "MIT (OpenAI's CLIP), Apache-2.0 (DINO)",
    ),
    Method(
        "selfmask-clip",
        "segmenter",
        f"{_SEGMENTERS}.saliency_clip:SaliencyClip",
        "NamedMask's baseline",
        "one mask of what is salient, named by CLIP",
        "CLIP ViT-L/14 at 336 pixels, SelfMask",
        "MIT (OpenAI's CLIP, SelfMask)",
    ),
    Method(
        "namedmask",
        "segmenter",
        f"{_SEGMENTERS}.namedmask:NamedMask",
        "Shin et al., CVPRW 2023",
        "a student of `wordmask distill`, by its own names",
        "a student: one of the paper's, or your own",
        "MIT (NamedMask)",
    ),
    Method(
        "found",
        "saliency",
        f"{_SALIENCY}.found:Found",
        "Simeoni et al., CVPR 2023",
        "one convolution on DINO's keys, taught by the seed",
        "DINO ViT-S/8, one trained layer",
        "Apache-2.0 (DINO, FOUND)",
    ),
    Method(
        "seed",
        "saliency",
        f"{_SALIENCY}.found:SeedSaliency",
        "FOUND's background seed, untrained",
        "all that is unlike the patch that DINO attends to least",
        "DINO ViT-S/8",
        "Apache-2.0 (DINO)",
    ),
    Method(
        "selfmask",
        "saliency",
        f"{_SALIENCY}.selfmask:SelfMask",
        "Shin et al., CVPRW 2022",
        "queries that ask a transformer's patches for objects",
        "SelfMask's network",
        "MIT (SelfMask)",
    ),
    Method(
        "spectral",
        "saliency",
        f"{_SALIENCY}.spectral_voting:VotedMasks",
        "SelfMask's voted clusters, untrained",
        "what many clusterings of DINO's features agree on",
        "DINO ViT-S/16",
        "Apache-2.0 (DINO)",
    ),
    Method(
        "pamr",
        "refinement",
        "wordmask.refinement.by_name:by_pamr",
        "Araslanov and Roth, CVPR 2020",
        "names' scores flow between pixels of like colour",
        licence=NO_WEIGHTS,
    ),
    Method(
        "solver",
        "refinement",
        "wordmask.refinement.by_name:by_solver",
        "Barron and Poole, ECCV 2016",
        "maps made smooth within the edges of the picture",
        licence=NO_WEIGHTS,
        refines=("names", "saliency"),
    ),
    Method(
        "lposs",
        "refinement",
        "wordmask.refinement.lposs:Lposs",
        "Stojnić et al., CVPR 2025",
        "patches' scores spread to patches that DINO sees alike",
        "DINO ViT-B/16",
        "Apache-2.0 (DINO)",
        refines=("patches",),
    ),
    Method(
        "lposs+",
        "refinement",
        "wordmask.refinement.lposs:Lposs",
        "Stojnić et al., CVPR 2025",
        "the same, and then pixels' scores to pixels nearby of like colour",
        "DINO ViT-B/16",
        "Apache-2.0 (DINO)",
        refines=("patches",),
    ),
    Method(
        "found",
        "refinement",
        "wordmask.refinement.clean_up:found_mask",
        "Simeoni et al., CVPR 2023",
        "the solver's mask without holes, where it agrees with the one before",
        licence=NO_WEIGHTS,
        refines=("saliency",),
    ),
    Method(
        "panoptic-cut",
        "regions",
        f"{_REGIONS}.panoptic_cut:PanopticCut",
        "Kang and Cho, ECCV 2024",
        "objects cut out of DINO's patches, one after the other",
        "DINO ViT-B/8",
        "Apache-2.0 (DINO)",
    ),
    Method(
        "spectral-regions",
        "regions",
        f"{_REGIONS}.spectral:SpectralRegions",
        "SelfMask's clusters, untrained",
        "connected parts of clusters of DINO's patches",
        "DINO ViT-S/16",
        "Apache-2.0 (DINO)",
    ),
    Method(
        "sam",
        "regions",
        f"{_REGIONS}.sam:SamRegions",
        "Ravi et al., ICLR 2025",
        "SAM 2 or SAM 3: trained on masks, so not free of annotations",
        "SAM 2 Hiera-L, transformers",
        "Apache-2.0 (SAM 2)",
    ),
)


def list_methods(kind: Kind | None = None) -> tuple[Method, ...]:
    """Return all methods, or those of a kind: "segmenter", "saliency", "refinement", "regions". The plug-ins' come
    last.
    """
    if kind is not None and kind not in get_args(Kind):
        raise MethodError(f"no kind of methods is called {shown(kind)}; choose one of {', '.join(get_args(Kind))}")
    known = {(method.kind, method.name): method for method in METHODS}
    for plugin in installed():
        for name, address in plugin.methods.items():
            method, trouble = _brought(name, address, known)
            if method is None:
                warnings.warn(f"the method {name} of {plugin.package or address} is left out: {trouble}", stacklevel=2)
            else:
                known[method.kind, method.name] = method
    return tuple(method for method in known.values() if kind in (None, method.kind))


def _brought(name: str, address: str, known: Mapping[tuple[Kind, str], Method]) -> tuple[Method | None, str]:
    """Return a plug-in's method, or None and why it cannot be taken."""
    try:
        method = named(address)
    except Exception as error:  # whatever a foreign module raises must not take the other methods along
        return None, str(error)
    if not isinstance(method, Method):
        return None, f"{address} is no wordmask.methods.Method"
    if method.name != name:
        return None, f"{address} calls itself {method.name!r}"
    if (method.kind, name) in known:
        return None, f"a {CALLED[method.kind]} of this name is there already"
    return method, ""


def methods_of(kind: Kind) -> dict[str, Method]:
    """Return a kind's methods by name. The package's own go before others of their name."""
    return {method.name: method for method in list_methods(kind)}


def find_method(kind: Kind, name: str) -> Method:
    """Return the method of this name."""
    known = methods_of(kind)
    if name not in known:
        hint = _instead(kind, name, known)
        raise MethodError(f"no {CALLED[kind]} is called {shown(name)}{hint}; choose one of {', '.join(known)}")
    return known[name]


def _instead(kind: Kind, name: str, known: Iterable[str]) -> str:
    """Return what may have been meant: the name as it is spelt, or that of a method of another kind."""
    for own in known:
        if own == str(name).lower().replace("_", "-"):
            return f", but {own} is"
    for other in LOADED_BY:
        if other != kind and name in methods_of(other):
            return f": it is a {other} method, which `{LOADED_BY[other]}({name!r})` loads"
    return ""


def table_to_choose_by(methods: Iterable[Method]) -> str:
    """Return a table in Markdown of what segmenters can be chosen by, the best published first."""
    lines = ["| method | published mIoU | cost | needs | licence of its weights |", "|---|---|---|---|---|"]
    for method in sorted(methods, key=lambda method: -(method.card.mean or 0.0)):
        card = method.card
        mean = "-" if card.mean is None else f"{card.mean:.1f} ({card.protocol})"
        mean += f", with {card.beyond}" if card.beyond else ""
        cost = "-" if card.cost is None else f"{card.cost:g}"
        wants = f"; {card.wants}" if card.wants else ""
        lines.append(f"| {method.name} | {mean} | {cost} | {method.needs}{wants} | {method.licence} |")
    return "\n".join(lines) + (
        "\n\nmIoU in percent, the mean of eight benchmarks, as published with the preset `paper`; in brackets whose "
        "sizes and words it was made with, which differ. Cost: multiply-adds as multiples of MaskCLIP's, an estimate."
    )


class _Loading:
    """In place of the `load` that classes had."""

    def __get__(self, instance: object, owner: "type[Declared]") -> NoReturn:
        name = getattr(owner, "method", "METHOD")
        raise AttributeError(f"{owner.__name__} has no `load`: say {owner.loaded_by}({name!r}, preset=...)")


class Declared:
    """What a method says of its parts; every `Segmenter` and `Saliency` does.

    Settings: the dataclass of its settings, whose defaults are the paper's. presets: choices of them by name.
    has_weights: whether there are trained weights of its own, that `weights` can be given for. loaded_by: what loads
    it by its name.
    """

    method: ClassVar[str]
    Settings: ClassVar[Any] = None
    presets: ClassVar[Mapping[str, Any]] = {}
    has_weights: ClassVar[bool] = False
    loaded_by: ClassVar[str] = LOADED_BY["segmenter"]
    load = _Loading()
    preset: str = "custom"
    precision: str = "fp32"
    """What the networks compute with: "fp32", "bf16" or "int8"."""

    @classmethod
    def build(cls, *given: Any, **weights: Any) -> Self:
        """Return the method with the networks that its settings name: `build(settings, compute)`.

        Where it `has_weights`, `weights` is the address of those in place of the settings' own.
        """
        raise MethodError(f"{cls.__name__} cannot be loaded by its name: it has no `build`")

    @property
    def networks(self) -> "Mapping[str, nn.Module]":
        """Its networks by what they are to it. Here, those that are attributes of its own."""
        from torch import nn

        return {name: part for name, part in vars(self).items() if isinstance(part, nn.Module)}

    @property
    def device(self) -> "torch.device":
        """Return where its networks compute."""
        import torch

        weights = (weight for network in self.networks.values() for weight in network.parameters())
        first = next(weights, None)
        return torch.device("cpu") if first is None else first.device

    def equip(self) -> None:
        """Load what its settings ask for beside the method's own networks; `load` does so once it is built."""

    def to(self, device: "str | torch.device") -> Self:
        """Move its networks to a device, and return it."""
        usable = Compute(str(device), "fp32").device  # checked also where there is nothing to move
        if self.precision == "int8" and not is_processor(usable):
            raise MethodError(f"int8 is for processors, not for {usable!r}: load {self.method} anew on that device")
        for network in self.networks.values():
            network.to(usable)
        return self


def networks_behind(part: object, name: str) -> "dict[str, nn.Module]":
    """Return the networks of a method that another one asks, by itself or by one of its functions: `found.maps`."""
    owner = getattr(part, "__self__", part)
    return {f"{name}.{key}": network for key, network in owner.networks.items()} if isinstance(owner, Declared) else {}


def presets_by_name(kind: Kind, name: str) -> Mapping[str, Any]:
    """Return a method's presets, those of plug-ins included: settings, or those of them that differ from its own."""
    return presets_of(name, named(find_method(kind, name).at).presets)


def check_method(kind: Kind, name: str, *, preset: str, settings: Iterable[str]) -> type[Declared]:
    """Return the class of a method that has such a preset and settings; nothing is loaded but its module."""
    chosen: type[Declared] = named(find_method(kind, name).at)
    presets = presets_by_name(kind, name)
    if preset not in presets:
        known = ", ".join(presets)
        raise MethodError(f"{name} has no preset {shown(preset)}; choose one of {known}{where_from(preset)}")
    own = [field.name for field in fields(chosen.Settings)]
    for key in settings:
        if key not in own:
            where = f"{chosen.Settings.__module__}.{chosen.Settings.__name__}"
            raise MethodError(f"{name} has no setting {shown(key)}; {nearest(key, own, where)}")
    return chosen


def settings_of(kind: Kind, name: str, preset: str = DEFAULT_PRESET, **changes: Any) -> Any:
    """Return a preset's settings, with single ones changed."""
    chosen = check_method(kind, name, preset=preset, settings=changes)
    told = presets_by_name(kind, name)[preset]
    if not isinstance(told, Mapping):
        usual = chosen.Settings()
        told = {key: value for key, value in vars(told).items() if value != getattr(usual, key, None)}
    try:
        return chosen.Settings(**{**told, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise MethodError(
            f"{name}: {first['loc'][0]}={shown(first['input'])} cannot be used: {first['msg'].lower()}"
        ) from error


def load_method(
    kind: Kind,
    name: str,
    *,
    preset: str,
    weights: "str | Path | None",
    compute: Compute | Callable[[], Compute],
    settings: Mapping[str, Any],
) -> Any:
    """Return a method by its name, from a preset with single settings changed. compute: or what makes it, once the rest
    is known to be right.
    """
    chosen = check_method(kind, name, preset=preset, settings=settings)
    if weights is not None and not chosen.has_weights:
        known = [field.name for field in fields(chosen.Settings)]
        own = [f"{network}_weights" for network in known if f"{network}_weights" in known]
        instead = " or ".join(f"{key}={weights}" for key in own)
        raise MethodError(
            f"{name} has no trained weights of its own to take from {weights}"
            + (f": for those of its networks say {instead} (`--set {own[0]}=...`)" if own else "")
        )
    told = settings_of(kind, name, preset, **settings)
    given = {} if weights is None else {"weights": weights}
    loaded = chosen.build(told, compute() if callable(compute) else compute, **given)
    loaded.equip()
    if "preset" not in vars(loaded):  # a student may know better
        loaded.preset = preset
    return loaded


def nearest(key: str, known: Sequence[str], where: str) -> str:
    """Return what to write in place of a setting that there is not: the ones that are most like it, or else all.

    where: the module and class of the settings, which Python documents.
    """
    if len(known) <= FEW:
        return f"it has {', '.join(known)}"
    own = [name for name in known if key in name.split("_") or name in key.split("_")]
    near = list(dict.fromkeys([*own, *difflib.get_close_matches(key[:MOST_LETTERS], known, n=3)]))[:3]
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}`python -m pydoc {where}` explains all {len(known)}"
