"""Data sets from the files they are published as. A new one is a function and a line in `READERS`."""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wordmask.benchmarks.readers.base import Layout, Pictures

_HERE = "wordmask.benchmarks.readers"


@dataclass(frozen=True)
class Reader:
    """Where a data set's reader lives: module, function, the module's tuple of splits (the first is the default), and
    its `Layout`, or the function that makes that of `options`.
    """

    about: str
    module: str
    function: str
    layout: str | None = None
    splits: str = "SPLITS"
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, name: str, root: str | Path | None, split: str | None, pictures: int | None) -> "Pictures":
        from wordmask.benchmarks.datasets import BenchmarkError, MissingDataError

        module = import_module(f"{_HERE}.{self.module}")
        splits: tuple[str, ...] = getattr(module, self.splits)
        chosen = split or splits[0]
        if chosen not in splits:
            raise BenchmarkError(f"{name} has no split {chosen!r}; choose one of {', '.join(splits)}")
        if root is None:
            raise MissingDataError(
                f"{name} needs its data{self._source(module)}: give the folder that holds them with --root (root=...)"
            )
        if not Path(root).is_dir():
            raise MissingDataError(f"there is no folder {root}, where the data of {name} should be")
        if pictures is not None and pictures < 1:
            raise BenchmarkError(f"an evaluation needs 1 picture or more, not {pictures}")
        opened: Pictures = getattr(module, self.function)(Path(root), chosen, pictures, **self.options)
        return opened

    def _source(self, module: ModuleType) -> str:
        if self.layout is None:
            return ""
        found = getattr(module, self.layout)
        layout: Layout = found(**self.options) if callable(found) else found
        return f", {layout.title} from {layout.source}"


READERS = {
    "voc": Reader("PASCAL VOC 2012: 20 things and background", "pascal", "voc", "VOC", options={"background": True}),
    "voc20": Reader("PASCAL VOC 2012: 20 things", "pascal", "voc", "VOC", options={"background": False}),
    "context": Reader(
        "PASCAL Context: 59 classes and background", "pascal", "context", "CONTEXT", options={"background": True}
    ),
    "context59": Reader("PASCAL Context: 59 classes", "pascal", "context", "CONTEXT", options={"background": False}),
    "coco-object": Reader("COCO 2017: 80 things and background", "coco", "coco_object", "OBJECT"),
    "coco-stuff": Reader("COCO-Stuff 164k: 171 classes", "coco", "coco_stuff", "STUFF"),
    "cityscapes": Reader(
        "Cityscapes: 19 classes", "scenes", "cityscapes", "CITYSCAPES", "CITYSCAPES_SPLITS", options={"objects": False}
    ),
    "cityscapes-object": Reader(
        "Cityscapes: 14 things and background",
        "scenes",
        "cityscapes",
        "CITYSCAPES",
        "CITYSCAPES_SPLITS",
        options={"objects": True},
    ),
    "ade20k": Reader("ADE20K: 150 classes", "scenes", "ade20k", "ADE20K", "ADE20K_SPLITS"),
    "coca": Reader("CoCA: 80 things and background", "objects", "coca", "COCA", "COCA_SPLITS"),
    **{
        f"imagenet-s{classes}": Reader(
            f"ImageNet-S: {classes} things and background",
            "objects",
            "imagenet_s",
            "imagenet_s_layout",
            "IMAGENET_S_SPLITS",
            options={"classes": classes},
        )
        for classes in (50, 300, 919)
    },
    "duts": Reader("DUTS: foreground", "salient", "duts", "DUTS", "DUTS_SPLITS"),
    "dut-omron": Reader("DUT-OMRON: foreground", "salient", "dut_omron", "DUT_OMRON"),
    "ecssd": Reader("ECSSD: foreground", "salient", "ecssd", "ECSSD"),
    "folder": Reader("a folder of your own: images, masks, names", "folder", "folder"),
}
