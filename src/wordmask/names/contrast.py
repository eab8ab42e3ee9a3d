"""What a few names race against: concepts that stand beside or behind them and are never shown.

One name alone wins every pixel of a method that chooses among words. Contrastive concepts (Wysoczańska et al.,
"Test-time Contrastive Concepts", TMLR 2025) are the words that it loses them to: for "boat" water, dock, sea. They come
of a table that is written by hand, of the statistics of captions (`collection.captions`), or of the user.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from wordmask.errors import WordmaskError
from wordmask.names.vocabulary import BACKGROUND, Rivals, Vocabulary, clean_name
from wordmask.text_files import read_json, shown

FORMAT = "wordmask contrast 1"
GAMMA = 0.01
"""The paper's: the share of a name's captions above which a word in them is a concept of it."""
FEW = 16
"""Names that are held against concepts. More of them are rivals enough to each other: see docs/names.md."""
MOST = 40
"""Concepts that race at once. A text tower reads 80 sentences for each, which takes a processor about a second."""
MOST_BYTES = 64 * 2**20

Nearest = Callable[[str, Sequence[str]], int]
"""From a phrase and words to the place of the nearest word."""


class ContrastError(WordmaskError):
    """No such contrast, or a file that holds none."""


@dataclass(frozen=True)
class Concepts:
    """Concepts by name, the strongest first.

    same: other words for a name. nearest: whether a name that is not there has the concepts of the nearest one, by
    CLIP's text. about: where they are from.
    """

    words: Mapping[str, tuple[str, ...]]
    same: Mapping[str, str] = field(default_factory=dict)
    nearest: bool = False
    about: str = ""

    def of(self, name: str, nearest: Nearest | None = None) -> tuple[str, ...]:
        """Return a name's concepts; those of a singular, or of the last word, where the name itself has none."""
        known = next((form for form in _forms(name) if form in self.words or form in self.same), None)
        if known is not None:
            return self.words[self.same.get(known, known)]
        if self.nearest and nearest is not None and self.words:
            names = list(self.words)
            return self.words[names[nearest(name, names)]]
        return ()

    def against(self, vocabulary: Vocabulary, nearest: Nearest | None = None) -> tuple[str, ...]:
        """Return the concepts of all names together, in turns, without the names themselves; none of many names."""
        named = vocabulary.without_background()
        if len(named) > FEW:
            return ()
        taken = {form for text in (*named.all_phrases, *named.names) for form in _forms(text, last=False)}
        taken |= {self.same[form] for form in taken if form in self.same}
        lists = [self.of(name, nearest) for name in named.names]
        turns = (own[turn] for turn in range(max(map(len, lists), default=0)) for own in lists if turn < len(own))
        return tuple(word for word in dict.fromkeys(turns) if not taken & {*_forms(word, last=False)})


Contrast = str | Path | Sequence[str] | Concepts
"""What may be said of it: "auto", "concepts", "none", a file of `wordmask contrast build`, words, or concepts."""
AUTO, KNOWN, NO_CONTRAST = "auto", "concepts", "none"
WORDS_FOR_CONTRAST = (AUTO, KNOWN, NO_CONTRAST)


def rivals(
    contrast: Contrast,
    vocabulary: Vocabulary,
    *,
    usual: Concepts | None,
    grounds: Sequence[str] = (),
    sees_objects: bool = False,
    reads_background: bool = False,
    races_alone: bool = True,
    nearest: Nearest | None = None,
) -> Rivals:
    """Return what names are to race against, "background" first as in the paper.

    usual: the concepts of "auto"; None of a method that knows no words. grounds: words for what lies behind things. A
    method that sees what is an object (`sees_objects`) has no use for them, nor for "background": there they would win
    things. reads_background: whether "background" is in the race in any case. races_alone: whether "auto" holds a
    single name against concepts; several names race in any case. Words that a user gives are taken as they are, and
    none of them is doubtful.
    """
    first = () if sees_objects or reads_background else (BACKGROUND,)
    if isinstance(contrast, Path) or (isinstance(contrast, str) and contrast.endswith(".json")):
        contrast = read_concepts(contrast)
    if isinstance(contrast, str):
        if contrast not in WORDS_FOR_CONTRAST:
            raise _no_contrast(contrast)
        is_left_out = contrast == NO_CONTRAST or (
            contrast == AUTO and not races_alone and len(vocabulary.without_background()) == 1
        )
        found = None if is_left_out else usual
    elif isinstance(contrast, Concepts):
        found = contrast
    elif isinstance(contrast, Collection) and contrast:
        return Rivals((*first, *_given(contrast, vocabulary)))
    else:
        raise _no_contrast(contrast)
    if found is None or usual is None:
        return Rivals()
    words = found.against(vocabulary, nearest)
    words = tuple(word for word in words if word not in grounds) if sees_objects else words
    words = words[:MOST]
    return Rivals((*first, *words), frozenset(words)) if words else Rivals()


def _no_contrast(given: object) -> ContrastError:
    return ContrastError(
        f'contrast is "auto", "concepts", "none", a list of words or a file of `wordmask contrast build`, not '
        f"{shown(given)}"
    )


def _given(words: Collection[str], vocabulary: Vocabulary) -> list[str]:
    """Return words as they are given, as a vocabulary has them, or refuse those that are names as well."""
    own = Vocabulary.of(list(words)).names
    taken = {text.casefold() for text in (*vocabulary.all_phrases, *vocabulary.names)}
    if both := [word for word in own if word.casefold() in taken and word.casefold() != BACKGROUND]:
        raise ContrastError(f"{shown(both[0])} is a name and a contrast to the names: leave it out of one of them")
    return [word for word in own if word.casefold() != BACKGROUND]


@cache
def shipped() -> Concepts:
    """Return the table for the names of the benchmarks, `data/contrast.json`."""
    text = files("wordmask").joinpath("data/contrast.json").read_text(encoding="utf-8")
    return _concepts(json.loads(text), "data/contrast.json")


def read_concepts(path: str | Path) -> Concepts:
    """Return what `wordmask contrast build` wrote."""
    return _concepts(read_json(Path(path), most_bytes=MOST_BYTES, way_out="build it anew"), str(path))


def is_file_of_concepts(path: Path) -> bool:
    """Return whether a file is one of `wordmask contrast build`."""
    try:
        read_concepts(path)
    except WordmaskError:
        return False
    return True


def _concepts(told: Any, where: str) -> Concepts:
    words = told.get("concepts") if isinstance(told, dict) and told.get("format") == FORMAT else None
    if not isinstance(words, dict) or not all(isinstance(own, list) for own in words.values()):
        raise ContrastError(
            f"{where} is no file of `wordmask contrast build`: it has no {FORMAT!r} with concepts; build one"
        )
    if not all(isinstance(word, str) for own in words.values() for word in own):
        raise ContrastError(f"{where}: its concepts are not lists of words: build it anew")
    same = {name: other for name, other in told.get("same", {}).items() if other in words}
    return Concepts(
        {name: tuple(own) for name, own in words.items()}, same, bool(told.get("nearest")), str(told.get("about", ""))
    )


_ODD = {
    **{"people": "person", "men": "man", "women": "woman", "children": "child", "buses": "bus", "mice": "mouse"},
    **{"knives": "knife", "leaves": "leaf", "shelves": "shelf", "wolves": "wolf", "feet": "foot", "glasses": "glass"},
}


def singular(word: str) -> str:
    """Return an English word for one of what a word says several of, by its ending; others as they are."""
    if word in _ODD:
        return _ODD[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _forms(name: str, *, last: bool = True) -> list[str]:
    """Return what a name may stand in a table as: itself, one of it, and its last word ("red car", "car")."""
    plain = clean_name(name).casefold()
    forms = [plain, singular(plain)]
    if last and " " in plain:
        word = plain.rpartition(" ")[2]
        forms += [word, singular(word)]
    return forms
