"""The ablations of NamedMask (Shin, Xie and Albanie, 2022) on the built-in world: its tables 1, 2, 3 and 10, figure 3.

Rows are the paper's. Every one distils what it needs, in runs that share what they have in common (`ablations.py`).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from wordmask.benchmarks.datasets import Sample
from wordmask.benchmarks.tables.base import Measure, Row, Table
from wordmask.benchmarks.tables.class_masks import ClassIous, add_expert, add_masks
from wordmask.benchmarks.tables.errors import NotRunError
from wordmask.benchmarks.tables.plot import Plot
from wordmask.benchmarks.tables.run import Run
from wordmask.methods import settings_of
from wordmask.refinement.clean_up import THRESHOLD, refine
from wordmask.segmenters.base import Segmenter
from wordmask.segmenters.saliency_clip import SaliencyClip
from wordmask.text_files import counted
from wordmask_world.tables.ablation_settings import AblationSettings

if TYPE_CHECKING:
    from wordmask.runs.stages import Console
    from wordmask_world.tables.ablations import Ablations

SUITE = "namedmask-world"
SPLITS = ("single", "multi", "all")
PASTED = (2, 4, 6, 8, 10)
SIZES = (1, 5, 10, 50, 100, 200, 500)
GROUPS = (0.1, 0.2, 0.3)
"""The paper's 30, 60 and 90 experts for 300 names."""
CHOSEN_PASTED = 2
"""The paper's n_max."""
MEAN = "mean"
Measured = float | Mapping[str, float] | None


def measure_baseline(run: Run, column: str) -> float:
    """SelfMask + CLIP: what `masks` says, for the saliency and what refines it."""
    ablations = _of(run)
    branch = ablations.networks()
    how = branch.config.masks.refine
    if how == "found":
        raise NotRunError("SelfMask + CLIP takes masks.refine=solver or none")
    settings = settings_of("segmenter", "selfmask-clip", "world", refine=how, templates=branch.config.templates)
    segmenter = SaliencyClip(branch.clip, branch.saliency.maps, settings)
    return _miou(run, segmenter, column)


def measure_student(run: Run, column: str, *, name: str, changed: Mapping[str, Any], edges: str = "none") -> float:
    """mIoU of a run's student on the split that the column names. edges: what its answers are refined by."""
    weights = _of(run).student(name, changed)
    return _miou(run, run.segmenter("namedmask", "world", weights=weights, refine=edges), column)


def measure_sized(run: Run, column: str, *, size: int) -> float:
    """Figure 3: a student of SelfMask's masks as they are, so that nothing but the archive's size counts."""
    collection = _of(run).chosen.collection
    if size > collection:
        raise NotRunError(
            f"the collection has only {counted(collection, 'picture')}: --collection says how many it is to have"
        )
    return measure_student(run, "all", name=f"archive-{size}", changed={"archive": {"size": size}, "experts": None})


def measure_saliency(run: Run, column: str) -> Mapping[str, float]:
    """IoU of SelfMask's masks with each thing, over the pictures that have it."""
    branch = _of(run).networks()

    def masks_of(samples: Sequence[Sample]) -> list[np.ndarray]:
        images = [sample.image for sample in samples]
        maps = branch.saliency.maps(images)
        how = branch.config.masks.refine
        return [refine(image, soft, how) > THRESHOLD for image, soft in zip(images, maps, strict=True)]

    opened = _of(run).benchmark("all", run.pictures)
    found = ClassIous(opened)
    with run.progress(run.describe(opened), len(opened)) as report:
        add_masks(found, opened, masks_of, batch_size=run.batch_size, report=report, total=len(opened))
    return _percent(found, len(opened))


def measure_experts(run: Run, column: str, *, groups: int | None) -> Mapping[str, float]:
    """The same of experts, each for its own names. groups: how many there are, None for one for each name."""
    chosen, settings = _of(run).chosen, _of(run).expert_settings
    if groups is None and settings.groups not in (None, len(chosen.names)):
        raise NotRunError(f"this row is of one expert for each name, and experts.groups is {settings.groups}")
    if groups is None:
        experts = _of(run).experts(*copy_paste(CHOSEN_PASTED))
    else:
        experts = _of(run).experts(f"experts-{groups}", {"experts": {"groups": groups}})
    opened = _of(run).benchmark("all", run.pictures)
    samples, found = list(opened), ClassIous(opened)
    with run.progress(run.describe(opened), len(chosen.names)) as report:
        done = 0
        for names, weights in experts:
            expert = run.segmenter("namedmask", "world", weights=weights, refine=settings.edges)
            add_expert(found, samples, expert, names, batch_size=run.batch_size)
            done += len(names)
            if report is not None:
                report(done, len(chosen.names))
    return _percent(found, len(samples))


def _percent(found: ClassIous, pictures: int) -> Mapping[str, float]:
    if not found.seen:
        raise NotRunError(f"none of the names is on {counted(pictures, 'picture')} looked at: take more (--pictures)")
    return found.percent()


def of_names(run: Run, column: str, *, measure: Measure, label: str) -> Measured:
    """A column of figures that come all at once; a name that is on no picture has none."""
    figures = _at_once(run, measure, label)
    return figures.get(column)


def of_mean(run: Run, column: str, *, measure: Measure, label: str) -> Measured:
    return {MEAN: _at_once(run, measure, label)[MEAN]}


def _at_once(run: Run, measure: Measure, label: str) -> Mapping[str, float]:
    """Tables 1 and 2 have rows in common, and a row of table 1 has as many columns as there are names."""
    known = _of(run).figures
    if label not in known:
        figures = measure(run, MEAN)
        assert isinstance(figures, Mapping)
        known[label] = figures
    return known[label]


def _of(run: Run) -> "Ablations":
    if run.shared is None:
        raise NotRunError(f"this table distils what it measures: `wordmask tables {SUITE}`")
    own: Any = run.shared
    return own


def _miou(run: Run, segmenter: Segmenter, split: str) -> float:
    return run.evaluate(segmenter, _of(run).benchmark(split, run.pictures)).miou


def copy_paste(most: int) -> tuple[str, dict[str, Any]]:
    """A run, and what it changes. That of the paper's n_max is NamedMask as it is."""
    return f"copy-paste-{most}", {"student": {"most_pasted": most}}


def student_row(label: str, most: int, *, column: str | None = None, edges: str = "none") -> Row:
    name, changed = copy_paste(most)
    if column is None:
        return Row(label, measure=partial(measure_student, name=name, changed=changed, edges=edges))
    return Row(label, measure=partial(_in_column, column=column, name=name, changed=changed))


def _in_column(run: Run, shown: str, *, column: str, name: str, changed: Mapping[str, Any]) -> dict[str, float]:
    """The figure of a split under another heading."""
    return {shown: measure_student(run, column, name=name, changed=changed)}


def experts_row(label: str, groups: int | None, *, only_mean: bool) -> Row:
    measure = partial(measure_experts, groups=groups)
    told = of_mean if only_mean else of_names
    return Row(label, measure=partial(told, measure=measure, label=f"experts {groups}"))


def saliency_row(label: str, *, only_mean: bool) -> Row:
    told = of_mean if only_mean else of_names
    return Row(label, measure=partial(told, measure=measure_saliency, label="saliency"))


def counts_of_experts(names: int) -> list[int]:
    """One for all, the paper's shares of the names, one for each."""
    return sorted({1, names, *(max(1, round(share * names)) for share in GROUPS)})


def _told(chosen: AblationSettings) -> str:
    """What all runs of a table have in common, as far as it is not the preset's."""
    steps = [] if chosen.steps is None else [f"students of {counted(chosen.steps, 'step')}"]
    pictures = counted(chosen.collection, "picture", style=",")
    common = [counted(len(chosen.names), "name"), f"{pictures} to search in", *steps, *chosen.settings]
    return f"The world's pictures and small models, not the paper's: {', '.join(common)}."


def tables_of(chosen: AblationSettings) -> dict[str, Table]:
    """The tables for some names of the world."""
    count = len(chosen.names)
    told = _told(chosen)
    sizes = {counted(size, "picture"): size for size in SIZES}
    tables = (
        Table(
            f"{SUITE}-1",
            "NamedMask, table 1, on the world: masks of category experts (IoU of each name, percent)",
            (*chosen.names, MEAN),
            (saliency_row("SelfMask", only_mean=False), experts_row("category experts", None, only_mean=False)),
            notes=("Each name's IoU is over the pictures that show it.", told),
        ),
        Table(
            f"{SUITE}-2",
            "NamedMask, table 2, on the world: experts for groups of names (mean IoU, percent)",
            (MEAN,),
            (
                saliency_row("SelfMask", only_mean=True),
                *(
                    experts_row(counted(groups, "expert"), None if groups == count else groups, only_mean=True)
                    for groups in counts_of_experts(count)
                ),
            ),
            notes=("The mean over names, of IoUs over the pictures that show them.", told),
        ),
        Table(
            f"{SUITE}-3",
            "NamedMask, table 3, on the world: copy-paste, pictures of one thing and of several (mIoU, percent)",
            SPLITS,
            (
                Row("SelfMask + CLIP", measure=measure_baseline),
                student_row("NamedMask without copy-paste", 1),
                student_row("NamedMask", CHOSEN_PASTED),
                student_row("NamedMask, edges by PAMR", CHOSEN_PASTED, edges="pamr"),
            ),
            notes=(
                "`all` has pictures of all kinds, with nothing and with many things on them too.",
                "The last row is not the paper's. SelfMask + CLIP follows edges by the solver, students do not.",
                told,
            ),
        ),
        Table(
            f"{SUITE}-10",
            "NamedMask, table 10, on the world: how many pictures copy-paste makes one of (mIoU, percent)",
            ("mIoU",),
            (
                student_row("without copy-paste", 1, column="all"),
                *(student_row(f"up to {most} pictures", most, column="all") for most in PASTED),
            ),
            notes=(told,),
        ),
        Table(
            f"{SUITE}-figure-3",
            "NamedMask, figure 3, on the world: pictures in the archive of each name (mIoU, percent)",
            ("mIoU",),
            tuple(Row(label, measure=partial(measure_sized, size=size)) for label, size in sizes.items()),
            notes=("Students of SelfMask's masks, without experts, as in the paper.", told),
            plot=Plot("figure-3.svg", "pictures in the archive of each name", "mIoU, percent", dict(sizes)),
        ),
    )
    return {table.name: table for table in tables}


TABLES = tables_of(AblationSettings())


def open_suite(told: Mapping[str, Any], *, device: str, console: "Console") -> "tuple[Ablations, dict[str, Table]]":
    """Return the runs that these tables share, and the tables for what was said of them (`AblationSettings`)."""
    from wordmask_world.tables.ablations import Ablations

    chosen = AblationSettings(**told)
    return Ablations(chosen, device=device, console=console), tables_of(chosen)
