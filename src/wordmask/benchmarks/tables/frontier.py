"""The frontier: every method that needs no pixel labels on the field's eight benchmarks, each as its paper measured it.

Papers differ in how they look at pictures and in which words they ask for, so each line says its protocol and its
vocabulary; `--protocol` and `--vocabulary` measure all rows under the same ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from inspect import signature
from typing import Any

from wordmask import segmenters
from wordmask.benchmarks.protocols import OWN, ProtocolError, settings_under
from wordmask.benchmarks.tables.base import Measure, Row, Table, Under, archive_of
from wordmask.benchmarks.tables.errors import NotRunError
from wordmask.benchmarks.tables.published import rows
from wordmask.benchmarks.tables.run import Run
from wordmask.benchmarks.wordings import PLAIN, list_wordings
from wordmask.cards import EIGHT
from wordmask.methods import DEFAULT_PRESET, find_method, methods_of, presets_by_name
from wordmask.plugins import named

MEAN = "mean"
HEADINGS = {
    "voc": "VOC21",
    "context": "C60",
    "coco-object": "Object",
    "voc20": "VOC20",
    "context59": "C59",
    "coco-stuff": "Stuff",
    "cityscapes": "City",
    "ade20k": "ADE",
}
UNSURE = ", ".join(name for name, wording in list_wordings().items() if wording.unsure)
OPENAI: dict[str, Any] = {"clip": "ViT-B-16/openai"}
LAION_H: dict[str, Any] = {"clip": "ViT-H-14/laion2b_s32b_b79k"}


@dataclass(frozen=True)
class Ours:
    """What measures a row: a method and what differs from its preset, under a protocol and a vocabulary."""

    method: str
    protocol: str = OWN
    vocabulary: str = PLAIN
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def under(self) -> Under:
        return Under(self.protocol, self.vocabulary)

    @property
    def measure(self) -> Measure:
        return partial(measure, ours=self)


OURS = {
    "ReCo": Ours("reco", "clip-dinoiser"),
    "CLIP-DIY": Ours("clip-diy"),
    "MaskCLIP, CLIP B/16": Ours("maskclip", "sclip", "sclip", {**OPENAI, "residual": False}),
    "ClearCLIP, CLIP B/16": Ours("clearclip", "clearclip", "clearclip"),
    "SCLIP, CLIP B/16": Ours("sclip", "sclip", "sclip"),
    "NACLIP, CLIP B/16": Ours("naclip", "naclip", "sclip", {"pamr": False}),
    "CLIP-DINOiser, CLIP B/16": Ours("clip-dinoiser", "clip-dinoiser"),
    "LPOSS, CLIP + DINO B/16": Ours("lposs", "lposs", "lposs"),
    "ResCLIP, CLIP B/16": Ours("resclip", "naclip", "sclip"),
    "ProxyCLIP, CLIP B/16 + DINO B/8": Ours("proxyclip", "proxyclip", "proxyclip"),
    "NACLIP + PAMR, CLIP B/16": Ours("naclip", "naclip", "sclip", {"pamr": True}),
    "SC-CLIP, CLIP B/16": Ours("sc-clip", "sc-clip", "sclip"),
    "ProxyCLIP, CLIP H/14 + DINO B/8": Ours("proxyclip", "proxyclip", "proxyclip", LAION_H),
    "Talk2DINO, CLIP's text + DINOv2 B/14": Ours("talk2dino", "talk2dino"),
    "CorrCLIP, CLIP B/16 + DINO B/8 + SAM 2": Ours("corrclip", "proxyclip", "corrclip", {**OPENAI, "regions": "sam"}),
    "TIPSv2, L/14": Ours("tipsv2", "tipsv2"),
}
"""By the labels of the published rows; the others are only shown."""
UNPUBLISHED = {
    "CorrCLIP, CLIP B/16 + DINO B/8, no masks learnt": Ours("corrclip", "proxyclip", "corrclip", OPENAI),
    "CLIP-DINOiser, spread by LPOSS": Ours("clip-dinoiser", "clip-dinoiser", PLAIN, {"refine": "lposs"}),
    "dino.txt, DINOv3 L/16": Ours("dinotxt", "dinotxt"),
}
"""What no paper has measured, or none whose figures are known here."""


def measure(run: Run, column: str, *, ours: Ours) -> float | None:
    """mIoU in percent; the mean once all eight are there."""
    if column == MEAN:
        return mean_of(run)
    check_here(ours.method, ours.settings)
    under = ours.under.changed(run)
    benchmark = run.open(column, vocabulary=under.vocabulary)  # first: where there are no data, no weights are fetched
    try:
        told = settings_under(under.protocol, ours.method, column)
    except ProtocolError as error:
        raise NotRunError(str(error)) from error
    archive = {"archive": archive_of(run)} if ours.method == "reco" else {}
    segmenter = run.segmenter(ours.method, **{**told, **archive, **ours.settings})
    return run.evaluate(segmenter, benchmark, protocol=under.protocol).miou


def mean_of(run: Run) -> float | None:
    """Return the mean of the row at hand over the eight benchmarks; None until all are measured."""
    figures = [run.kept(run.row, benchmark) for benchmark in EIGHT]
    known = [figure for figure in figures if figure is not None]
    return sum(known) / len(known) if len(known) == len(figures) else None


def check_here(method: str, settings: Mapping[str, Any], preset: str = DEFAULT_PRESET) -> None:
    """Raise a `NotRunError`, if there is no such method here, or it has no such preset or setting."""
    if method not in methods_of("segmenter"):
        raise NotRunError(f"{method} is not here: no method of this installation is called so")
    if preset not in presets_by_name("segmenter", method):
        raise NotRunError(f"{method} is not here: it has no preset {preset}")
    own = {setting.name for setting in fields(named(find_method("segmenter", method).at).Settings)}
    known = own | signature(segmenters.load).parameters.keys()  # such as `correct`, which all methods take
    if unknown := [key for key in settings if key not in known]:
        raise NotRunError(f"{method} is not here in this variant: it has no setting {unknown[0]}")
    refine = settings.get("refine", "none")
    if refine != "none" and refine not in methods_of("refinement"):
        raise NotRunError(f"{refine} is not here: no refinement of this installation is called so")


TABLES = {
    table.name: table
    for table in (
        Table(
            "frontier",
            "The frontier: open-vocabulary segmentation without pixel labels (mIoU, percent)",
            (*EIGHT, MEAN),
            (
                *rows(
                    "frontier",
                    "frontier",
                    {label: ours.measure for label, ours in OURS.items()},
                    under={label: ours.under for label, ours in OURS.items()},
                ),
                *(Row(label, measure=ours.measure, under=ours.under) for label, ours in UNPUBLISHED.items()),
            ),
            notes=(
                "Protocol: how pictures are looked at. Words: by which words names are asked for. Rows that differ in "
                "them are not to be compared by a point or two; --protocol and --vocabulary measure all rows alike.",
                "restated: a later paper's figures of an older method, whose protocol it does not say. not said: not "
                "known of the method's own.",
                "SAM, SAM 2, SAM 3 and what is made with them have learnt from masks that people drew or checked.",
                f"Not all is known of the published words of {UNSURE}: an evaluation in them says what.",
            ),
            headings=HEADINGS,
            tells_under=True,
        ),
        Table(
            "frontier-variants",
            "The frontier with other backbones, masks and parts: what is published (mean mIoU of eight, percent)",
            (MEAN,),
            rows("frontier", "frontier-variants", {}),
        ),
    )
}
