"""What the classes of the benchmarks are called, in the order of their labels, as the papers asked for them."""

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.names.vocabulary import BACKGROUND, Vocabulary

CLEARER = {
    "n02012849": "crane bird",
    "n03126707": "tower crane",
    "n02963159": "cardigan sweater",
    "n02113186": "cardigan welsh corgi",
}
"""Two cranes and two cardigans are among ImageNet's classes; NamedMask (section B) told them apart so."""


@lru_cache(maxsize=1)
def _lists() -> dict[str, Any]:
    text = files("wordmask").joinpath("data/benchmark-classes.json").read_text(encoding="utf-8")
    lists: dict[str, Any] = json.loads(text)
    return lists


def class_names(benchmark: str) -> Vocabulary:
    """No synonyms, no rewording."""
    return Vocabulary.of(_lists()[benchmark]["names"])


def cityscapes_objects() -> dict[int, int]:
    """Cityscapes' own label ids -> labels of `cityscapes-object`."""
    return {int(value): label for value, label in _lists()["cityscapes-object"]["label_ids"].items()}


def imagenet_names(folders: list[str]) -> Vocabulary:
    """Background and the classes of ImageNet's folders ("n01443537"); sorted, they are in the order of ImageNet-S.

    A class is called by the first of its WordNet names.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    number = {folder: index for index, folder in enumerate(info.label_names())}
    names = [BACKGROUND]
    for folder in sorted(folders):
        if folder not in number:
            raise BenchmarkError(f"{folder!r} is no class of ImageNet")
        names.append(CLEARER.get(folder) or info.index_to_description(number[folder]).split(",")[0])
    return Vocabulary.of(names)
