"""Data sets from the files they are published as. A new one is a function and a line in `READERS`."""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wordmask.benchmarks.readers.base import Pictures

_HERE = "wordmask.benchmarks.readers"


@dataclass(frozen=True)
class Reader:
    """Where a data set's reader lives: module, function, the module's tuple of splits (the first is the default)."""

    about: str
    module: str
    function: str
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
            raise MissingDataError(f"{name} needs its data: give the folder that holds them with --root (root=...)")
        if not Path(root).is_dir():
            raise MissingDataError(f"there is no folder {root}, where the data of {name} should be")
        if pictures is not None and pictures < 1:
            raise BenchmarkError(f"an evaluation needs 1 picture or more, not {pictures}")
        opened: Pictures = getattr(module, self.function)(Path(root), chosen, pictures, **self.options)
        return opened


READERS = {
    "voc": Reader("PASCAL VOC 2012: 20 things and background", "pascal", "voc", options={"background": True}),
    "voc20": Reader("PASCAL VOC 2012: 20 things", "pascal", "voc", options={"background": False}),
    "context": Reader("PASCAL Context: 59 classes and background", "pascal", "context", options={"background": True}),
    "context59": Reader("PASCAL Context: 59 classes", "pascal", "context", options={"background": False}),
    "coco-object": Reader("COCO 2017: 80 things and background", "coco", "coco_object"),
    "coco-stuff": Reader("COCO-Stuff 164k: 171 classes", "coco", "coco_stuff"),
    "cityscapes": Reader(
        "Cityscapes: 19 classes", "scenes", "cityscapes", "CITYSCAPES_SPLITS", options={"objects": False}
    ),
    "cityscapes-object": Reader(
        "Cityscapes: 14 things and background", "scenes", "cityscapes", "CITYSCAPES_SPLITS", options={"objects": True}
    ),
    "ade20k": Reader("ADE20K: 150 classes", "scenes", "ade20k", "ADE20K_SPLITS"),
    "coca": Reader("CoCA: 80 things and background", "objects", "coca", "COCA_SPLITS"),
    **{
        f"imagenet-s{classes}": Reader(
            f"ImageNet-S: {classes} things and background",
            "objects",
            "imagenet_s",
            "IMAGENET_S_SPLITS",
            options={"classes": classes},
        )
        for classes in (50, 300, 919)
    },
    "duts": Reader("DUTS: foreground", "salient", "duts", "DUTS_SPLITS"),
    "dut-omron": Reader("DUT-OMRON: foreground", "salient", "dut_omron"),
    "ecssd": Reader("ECSSD: foreground", "salient", "ecssd"),
    "folder": Reader("a folder of your own: images, masks, names", "folder", "folder"),
}
