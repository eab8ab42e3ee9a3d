"""The tables of NamedMask (Shin, Xie and Albanie, 2022), and the thresholds of its figure 6.

Students and experts of the published checkpoints are measured where they can be fetched; those of the ablations were
never published and are taken from `--weights KEY=FILE`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from wordmask.benchmarks.datasets import Benchmark
from wordmask.benchmarks.sweep import THRESHOLDS, sweep_thresholds
from wordmask.benchmarks.tables.base import Measure, Table, archive_of
from wordmask.benchmarks.tables.class_masks import EXPERTS_ROW, experts_ious, saliency_ious
from wordmask.benchmarks.tables.errors import NotRunError
from wordmask.benchmarks.tables.published import rows
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
    """Return a benchmark, and the settings that tell a student its names, as ImageNet-S's stand in no list of the
    package, and the size of pictures where it is not the preset's.
    """
    opened = run.open(benchmark, split)
    settings: dict[str, object] = {}
    if benchmark.startswith("imagenet-s"):
        settings["names"] = tuple(opened.vocabulary.names)
    if (benchmark, split) == ("imagenet-s300", "validation"):
        settings["shorter_side"], settings["longer_side"] = S300_VALIDATION
    return opened, settings


def namedmask(run: Run, column: str, *, benchmark: str | None = None, split: str | None = None) -> dict[str, float]:
    """Return the published student of a benchmark (by default the column's own)."""
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
    """Return a student of an ablation, from `--weights`."""
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


def imagenet_s(number: int, classes: int) -> Table:
    on = f"imagenet-s{classes}"
    test: dict[str, Any] = {"benchmark": on, "split": "test"}
    return Table(
        f"namedmask-{number}",
        f"NamedMask, table {number}: ImageNet-S{classes}, test (mIoU, percent; things by size)",
        SIZES,
        rows(
            "namedmask",
            f"namedmask-{number}",
            {
                "MaskCLIP": partial(maskclip, **test),
                "ReCo": partial(reco, **test),
                "NamedMask": partial(namedmask, **test),
                "NamedMask, validation": partial(namedmask, benchmark=on, split="validation"),
            },
        ),
        notes=(TEST_IS_KEPT,),
    )


VOC_TRAIN: dict[str, Any] = {"benchmark": "voc", "split": "train"}
OBJECTS = ("coco-object", "coca", "cityscapes-object")
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog"),
    *("horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tvmonitor"),
)
GROUPS = {"1 expert": 1, "30 experts": 30, "60 experts": 60, "90 experts": 90}


def pasted(most: int) -> Measure:
    return partial(own_student, key=COPY_PASTE.format(most), how=f"--set student.most_pasted={most}", **VOC_TRAIN)


TABLES = {
    table.name: table
    for table in (
        Table(
            "namedmask-1",
            "NamedMask, table 1: masks of category experts, VOC 2012 train (IoU of each class, percent)",
            (*VOC_CLASSES, "mean"),
            rows(
                "namedmask",
                "namedmask-1",
                {"SelfMask": partial(saliency_ious, benchmark="voc", split="train"), EXPERTS_ROW: experts_ious},
            ),
            notes=("The paper gives this table as a picture. Each class's IoU is over the pictures that have it.",),
        ),
        Table(
            "namedmask-2",
            "NamedMask, table 2: experts for groups of names, ImageNet-S300 validation (mean IoU, percent)",
            ("mean",),
            rows(
                "namedmask",
                "namedmask-2",
                {
                    "SelfMask": partial(
                        saliency_ious,
                        benchmark="imagenet-s300",
                        split="validation",
                        sides=S300_VALIDATION,
                        only_mean=True,
                    )
                },
                not_run={
                    label: "experts of groups were not published: `wordmask distill --preset imagenet-s "
                    f"--set experts.groups={count}` trains them and reports their masks"
                    for label, count in GROUPS.items()
                },
            ),
        ),
        Table(
            "namedmask-3",
            "NamedMask, table 3: copy-paste, VOC 2012 train, pictures of one object and of several (mIoU, percent)",
            SUBSETS,
            rows(
                "namedmask",
                "namedmask-3",
                {
                    "SelfMask + CLIP": partial(baseline, **VOC_TRAIN),
                    "NamedMask without copy-paste": pasted(1),
                    "NamedMask": partial(namedmask, **VOC_TRAIN),
                },
            ),
        ),
        Table(
            "namedmask-4",
            "NamedMask, table 4: what each model learnt from (nothing is measured)",
            (),
            rows("namedmask", "namedmask-4", {}),
        ),
        Table(
            "namedmask-5",
            "NamedMask, table 5: COCO, CoCA and the objects of Cityscapes (mIoU, percent)",
            OBJECTS,
            rows("namedmask", "namedmask-5", {"MaskCLIP": maskclip, "ReCo": reco, "NamedMask": namedmask}),
        ),
        Table(
            "namedmask-6",
            "NamedMask, table 6: VOC 2012 val (mIoU, percent)",
            ("voc",),
            rows("namedmask", "namedmask-6", {"MaskCLIP": maskclip, "ReCo": reco, "NamedMask": namedmask}),
        ),
        imagenet_s(7, 50),
        imagenet_s(8, 300),
        imagenet_s(9, 919),
        Table(
            "namedmask-10",
            "NamedMask, table 10: how many pictures copy-paste makes one of, VOC 2012 train (mIoU, percent)",
            ("mIoU",),
            rows(
                "namedmask",
                "namedmask-10",
                {
                    "without copy-paste": pasted(1),
                    "up to 2 pictures": partial(namedmask, **VOC_TRAIN),
                    **{f"up to {most} pictures": pasted(most) for most in (4, 6, 8, 10)},
                },
            ),
        ),
        Table(
            "namedmask-figure-6",
            "NamedMask, figure 6: background below a threshold, VOC 2012 train (mIoU, percent)",
            tuple(f"{threshold:.2f}" for threshold in THRESHOLDS),
            rows(
                "namedmask",
                "namedmask-figure-6",
                {"MaskCLIP": partial(sweep, method="maskclip"), "ReCo": partial(sweep, method="reco")},
            ),
            notes=("The paper gives this as a curve, whose highest points it says are at 0.25 and at 0.9.",),
        ),
    )
}
