"""The tables of NamedMask (Shin, Xie and Albanie, 2022), and the thresholds of its figure 6.

Students and experts of the published checkpoints are measured where they can be fetched; those of the ablations were
never published and are taken from `--weights KEY=FILE`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from wordmask.benchmarks.datasets import Benchmark
from wordmask.benchmarks.sweep import THRESHOLDS, sweep_thresholds
from wordmask.benchmarks.tables.base import NotRunError, Row, Table, archive_of
from wordmask.benchmarks.tables.class_masks import EXPERTS_ROW, experts_ious, saliency_ious
from wordmask.benchmarks.tables.run import Run
from wordmask.segmenters.base import Segmenter

SIZES = ("mIoU", "S", "MS", "ML", "L")
SUBSETS = ("single", "multi", "all")
PRESET_OF = {
    "voc": "voc2012",
    "coco-object": "coco",
    "coca": "coca",
    "cityscapes-object": "cityscapes_object",
    "imagenet-s50": "imagenet_s50",
    "imagenet-s300": "imagenet_s300",
    "imagenet-s919": "imagenet_s919",
}
COPY_PASTE = "namedmask-copy-paste-{}"
"""What `--weights` calls students that were distilled with up to so many pictures in one."""
WHOLE: dict[str, Any] = {"shorter_side": None, "window": None}
"""How the paper looks at pictures: at their own size, all at once."""
WHOLE_OF_1024: dict[str, Any] = {"shorter_side": 1024, "longest_side": 1024, "window": None}
"""ImageNet-S's, their longer side so long."""
S300_VALIDATION = (384, 512)
"""The shorter side, and the longer one's most, with which the paper looks at the pictures of its ablations."""
TEST_IS_KEPT = (
    "The test's masks are kept on a server (see docs/benchmarks.md). The row marked validation is measured on those "
    "that are given out, so it is not to be compared with the others."
)


def open_with_settings(run: Run, benchmark: str, split: str | None) -> tuple[Benchmark, dict[str, object]]:
    """A benchmark, and the settings that tell a student its names, as ImageNet-S's stand in no list of the package, and
    the size of pictures where it is not the preset's."""
    opened = run.open(benchmark, split)
    settings: dict[str, object] = {}
    if benchmark.startswith("imagenet-s"):
        settings["names"] = tuple(opened.vocabulary.names)
    if (benchmark, split) == ("imagenet-s300", "validation"):
        settings["shorter_side"], settings["longer_side"] = S300_VALIDATION
    return opened, settings


def namedmask(run: Run, column: str, *, benchmark: str | None = None, split: str | None = None) -> dict[str, float]:
    """The published student of a benchmark (by default the column's own)."""
    chosen = benchmark or column
    opened, settings = open_with_settings(run, chosen, split)
    return figures(run, opened, run.segmenter("namedmask", PRESET_OF[chosen], **settings), column)


def maskclip(run: Run, column: str, *, benchmark: str | None = None, split: str | None = None) -> dict[str, float]:
    """As this paper reimplemented it: ResNet-50, background below 0.25."""
    chosen = benchmark or column
    return figures(run, run.open(chosen, split), maskclip_of(run, chosen), column)


def maskclip_of(run: Run, benchmark: str) -> Segmenter:
    return run.segmenter(
        "maskclip", clip="RN50/openai", templates="imagenet-85", background_threshold=0.25, **looking_at(benchmark)
    )


def looking_at(benchmark: str) -> dict[str, Any]:
    return WHOLE_OF_1024 if benchmark.startswith("imagenet-s") else WHOLE


def reco(run: Run, column: str, *, benchmark: str | None = None, split: str | None = None) -> dict[str, float]:
    chosen = benchmark or column
    return figures(run, run.open(chosen, split), reco_of(run, chosen), column)


def reco_of(run: Run, benchmark: str) -> Segmenter:
    return run.segmenter("reco", archive=archive_of(run), **looking_at(benchmark))


def baseline(run: Run, column: str, *, benchmark: str, split: str | None = None) -> dict[str, float]:
    """SelfMask + CLIP."""
    return figures(run, run.open(benchmark, split), run.segmenter("selfmask-clip"), column)


def own_student(run: Run, column: str, *, key: str, how: str, benchmark: str, split: str) -> dict[str, float]:
    """A student of an ablation, from `--weights`."""
    if key not in run.weights:
        raise NotRunError(
            f"this student was not published: distil it with `wordmask distill --preset paper {how}`, then give "
            f"--weights {key}=RUN/student/student.safetensors"
        )
    opened, settings = open_with_settings(run, benchmark, split)
    segmenter = run.segmenter("namedmask", PRESET_OF[benchmark], weights=run.weights[key], **settings)
    return figures(run, opened, segmenter, column)


def figures(run: Run, benchmark: Benchmark, segmenter: Segmenter, column: str) -> dict[str, float]:
    """One evaluation answers for mIoU, for every size of things, and for pictures of one thing and of several.

    Callers open the data first: nobody wants to fetch weights for data that are not here.
    """
    report = run.evaluate(segmenter, benchmark)
    found = {column: report.miou} if column not in (*SIZES, *SUBSETS) else {}
    found |= {"mIoU": report.miou} if column in SIZES else {}
    found |= {"all": report.miou} if column in SUBSETS else {}
    wanted: Sequence[str] = SIZES if column in SIZES else SUBSETS if column in SUBSETS else ()
    found |= {name: report.more[f"miou_{name}"] for name in wanted if f"miou_{name}" in report.more}
    if column not in found:
        raise NotRunError(
            f"{benchmark.name}, {benchmark.split}, does not tell {column!r}: single and multi need VOC's "
            "SegmentationObject, sizes need pictures with things of them"
        )
    return found


def sweep(run: Run, column: str, *, method: str) -> Mapping[str, float]:
    """All thresholds from one pass over VOC's training pictures."""
    benchmark = run.open("voc", "train")
    segmenter = maskclip_of(run, "voc") if method == "maskclip" else reco_of(run, "voc")
    with run.progress(run.describe(benchmark), len(benchmark)) as report:
        found = sweep_thresholds(segmenter, benchmark, batch_size=run.batch_size, on_progress=report)
    return {f"{threshold:.2f}": miou for threshold, miou in found.items()}


def by_columns(columns: Sequence[str], *figures: float) -> dict[str, float]:
    return dict(zip(columns, figures, strict=True))


def others(columns: Sequence[str], rows: Mapping[str, Sequence[float]]) -> tuple[Row, ...]:
    """Methods of others, whose published figures alone are shown."""
    return tuple(Row(label, by_columns(columns, *figures)) for label, figures in rows.items())


def imagenet_s(
    number: int,
    classes: int,
    unsupervised: Mapping[str, Sequence[float]],
    maskclip_figures: Sequence[float],
    reco_figures: Sequence[float],
    namedmask_figures: Sequence[float],
) -> Table:
    on = f"imagenet-s{classes}"
    test: dict[str, Any] = {"benchmark": on, "split": "test"}
    return Table(
        f"namedmask-{number}",
        f"NamedMask, table {number}: ImageNet-S{classes}, test (mIoU, percent; things by size)",
        SIZES,
        (
            *others(SIZES, unsupervised),
            Row("MaskCLIP", by_columns(SIZES, *maskclip_figures), partial(maskclip, **test)),
            Row("ReCo", by_columns(SIZES, *reco_figures), partial(reco, **test)),
            Row("NamedMask", by_columns(SIZES, *namedmask_figures), partial(namedmask, **test)),
            Row("NamedMask, validation", measure=partial(namedmask, benchmark=on, split="validation")),
        ),
        notes=(TEST_IS_KEPT,),
    )


VOC_TRAIN: dict[str, Any] = {"benchmark": "voc", "split": "train"}
OBJECTS = ("coco-object", "coca", "cityscapes-object")
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog"),
    *("horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tvmonitor"),
)
GROUPS = {1: 63.3, 30: 64.1, 60: 64.0, 90: 63.9}
PASTED = {2: 58.7, 4: 58.3, 6: 58.5, 8: 58.5, 10: 58.5}


def pasted(most: int) -> Row:
    """A row of table 10."""
    measure = (
        partial(namedmask, **VOC_TRAIN)
        if most == 2
        else partial(own_student, key=COPY_PASTE.format(most), how=f"--set student.most_pasted={most}", **VOC_TRAIN)
    )
    return Row(f"up to {most} pictures", {"mIoU": PASTED[most]}, measure)


without_copy_paste = partial(own_student, key=COPY_PASTE.format(1), how="--set student.most_pasted=1", **VOC_TRAIN)

TABLES = {
    table.name: table
    for table in (
        Table(
            "namedmask-1",
            "NamedMask, table 1: masks of category experts, VOC 2012 train (IoU of each class, percent)",
            (*VOC_CLASSES, "mean"),
            (
                Row("SelfMask", measure=partial(saliency_ious, benchmark="voc", split="train")),
                Row(EXPERTS_ROW, measure=experts_ious),
            ),
            notes=("The paper gives this table as a picture. Each class's IoU is over the pictures that have it.",),
        ),
        Table(
            "namedmask-2",
            "NamedMask, table 2: experts for groups of names, ImageNet-S300 validation (mean IoU, percent)",
            ("mean",),
            (
                Row(
                    "SelfMask",
                    {"mean": 62.7},
                    partial(
                        saliency_ious,
                        benchmark="imagenet-s300",
                        split="validation",
                        sides=S300_VALIDATION,
                        only_mean=True,
                    ),
                ),
                *(
                    Row(
                        f"{count} expert{'s' if count > 1 else ''}",
                        {"mean": figure},
                        not_run=(
                            "experts of groups were not published: `wordmask distill --preset imagenet-s "
                            f"--set experts.groups={count}` trains them and reports their masks"
                        ),
                    )
                    for count, figure in GROUPS.items()
                ),
            ),
        ),
        Table(
            "namedmask-3",
            "NamedMask, table 3: copy-paste, VOC 2012 train, pictures of one object and of several (mIoU, percent)",
            SUBSETS,
            (
                Row("SelfMask + CLIP", by_columns(SUBSETS, 63.3, 42.1, 50.4), partial(baseline, **VOC_TRAIN)),
                Row("NamedMask without copy-paste", by_columns(SUBSETS, 67.0, 50.5, 56.6), without_copy_paste),
                Row("NamedMask", by_columns(SUBSETS, 68.0, 53.6, 58.7), partial(namedmask, **VOC_TRAIN)),
            ),
        ),
        Table(
            "namedmask-4",
            "NamedMask, table 4: what each model learnt from (nothing is measured)",
            (),
            (
                Row("MaskCLIP: WebImageText"),
                Row("ReCo: WebImageText, ImageNet, Stylized-ImageNet"),
                Row("NamedMask: WebImageText, ImageNet"),
            ),
        ),
        Table(
            "namedmask-5",
            "NamedMask, table 5: COCO, CoCA and the objects of Cityscapes (mIoU, percent)",
            OBJECTS,
            (
                Row("MaskCLIP", by_columns(OBJECTS, 5.3, 3.1, 6.1), maskclip),
                Row("ReCo", by_columns(OBJECTS, 17.1, 16.9, 14.1), reco),
                Row("NamedMask", by_columns(OBJECTS, 27.7, 27.3, 18.2), namedmask),
            ),
        ),
        Table(
            "namedmask-6",
            "NamedMask, table 6: VOC 2012 val (mIoU, percent)",
            ("voc",),
            (
                *others(
                    ("voc",),
                    {
                        "Inst. Disc.": [4.3],
                        "MoCo": [3.7],
                        "InfoMin": [4.4],
                        "SwAV": [4.4],
                        "MaskContrast": [35.0],
                        "MaskDistill": [45.8],
                    },
                ),
                Row("MaskCLIP", {"voc": 29.1}, maskclip),
                Row("ReCo", {"voc": 34.2}, reco),
                Row("NamedMask", {"voc": 59.2}, namedmask),
            ),
        ),
        imagenet_s(
            7,
            50,
            {
                "MDC": (3.6, 0.4, 2.6, 3.8, 4.9),
                "MDC, supervised start": (14.3, 2.6, 10.9, 14.6, 19.1),
                "PiCIE": (4.5, 0.2, 3.1, 5.0, 5.3),
                "PiCIE, supervised start": (17.6, 4.4, 13.1, 20.1, 23.1),
                "MaskContrast": (24.2, 12.2, 25.6, 24.7, 20.4),
                "LUSS-S": (29.3, 6.6, 25.0, 33.2, 32.6),
                "LUSS-P": (32.0, 9.7, 26.2, 36.5, 40.5),
            },
            (17.9, 3.6, 13.1, 18.6, 20.6),
            (22.6, 10.0, 24.6, 22.1, 18.8),
            (47.5, 23.5, 48.7, 49.3, 38.0),
        ),
        imagenet_s(
            8,
            300,
            {"LUSS-S": (16.0, 2.8, 12.0, 16.4, 21.7), "LUSS-P": (18.1, 4.2, 13.6, 19.5, 23.5)},
            (1.6, 0.4, 0.6, 1.2, 2.5),
            (8.5, 5.4, 9.7, 8.4, 5.6),
            (32.8, 9.9, 29.1, 34.9, 26.0),
        ),
        imagenet_s(
            9,
            919,
            {"LUSS-S": (6.6, 1.3, 4.6, 7.1, 8.4), "LUSS-P": (11.0, 2.4, 8.3, 11.9, 13.4)},
            (0.5, 0.1, 0.2, 0.3, 0.8),
            (3.8, 2.6, 4.6, 3.6, 2.5),
            (22.9, 5.1, 19.4, 24.4, 19.8),
        ),
        Table(
            "namedmask-10",
            "NamedMask, table 10: how many pictures copy-paste makes one of, VOC 2012 train (mIoU, percent)",
            ("mIoU",),
            (Row("without copy-paste", {"mIoU": 56.6}, without_copy_paste), *(pasted(most) for most in PASTED)),
        ),
        Table(
            "namedmask-figure-6",
            "NamedMask, figure 6: background below a threshold, VOC 2012 train (mIoU, percent)",
            tuple(f"{threshold:.2f}" for threshold in THRESHOLDS),
            (
                Row("MaskCLIP", measure=partial(sweep, method="maskclip")),
                Row("ReCo", measure=partial(sweep, method="reco")),
            ),
            notes=("The paper gives this as a curve, whose highest points it says are at 0.25 and at 0.9.",),
        ),
    )
}
