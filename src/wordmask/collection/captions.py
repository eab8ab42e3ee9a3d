"""What captions say together: contrastive concepts from the statistics of the words of a pile of captions.

A word is a concept of a name if it stands in more than the share `gamma` of the captions that have the name (see
`names.contrast`). Words that name nothing visible are left out by a list; the paper asks a language model.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from wordmask.collection.references import CollectionError
from wordmask.collection.tars import captions_in
from wordmask.names.contrast import FORMAT, GAMMA, singular
from wordmask.text_files import counted

CONCEPTS = 50
"""Kept of a name, the most frequent ones. The paper keeps all."""
WORDS = 2_000
"""Of the captions, the most frequent ones: where a name is none of them, CLIP reads them all to find the nearest."""
LEAST = 5
"""Captions that a word is in."""
MOST_PAIRS, MOST_SINGLE = 4_000_000, 1_000_000
"""Counted at once; where there are more, those that were met least are forgotten."""
LONGEST = 64
"""Words of a caption that count. What is longer is no caption but a page."""
_LETTERS = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")

_UNSEEN = """
    a about above across after again against all along also am among an and another any are around as at away back be
    because been before behind below beneath beside between both but by can close could day different did do does down
    during each edge else end etc even evening every far few first for from front full get go good got great group has
    have he her here hers high him his how i if in inside into is it its just kind large last left let like little long
    lot low made make many me middle more morning most much my near new next nice night no none not nothing now number
    of off old on one only onto or other our out outside over own pair part piece place right row same scene see set
    several she short side single small so some someone something somewhere still such tall than that the their them
    then there these they thing this those through time to together too top toward towards two type under up upon us
    use various very view was way we were what when where which while who whose will with within without would year you
    young your zero three four five six seven eight nine ten dozen half whole
    image photo photograph photography picture pic drawing sketch illustration art artwork painting print stock vector
    shot closeup close-up background foreground wallpaper design logo template icon video clip frame camera
    black white red green blue yellow orange brown grey gray pink purple violet golden gold silver beige turquoise
    colour color colourful colorful dark light bright pale wide narrow empty big tiny huge round wooden
    beautiful best better modern cute pretty happy lovely perfect amazing free home style idea detail
    sitting standing lying laying walking running riding holding wearing looking playing eating flying parked hanging
    sits stands lies walks runs rides holds wears looks plays eats flies shows showing seen taken covered filled
    left-hand right-hand far-off bottom corner distance air
"""
UNSEEN = frozenset(_UNSEEN.split())
"""Words that name nothing which could be pointed at in a picture. "Orange" and "light" are colours here."""


@dataclass
class WordCounts:
    """How many captions a word is in, and how many a pair of words; in memory that does not grow with the captions.

    phrases: names of several words, which count as one.
    """

    phrases: Iterable[str] = ()
    captions: int = 0
    alone: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    forgotten: int = 0
    """Counts that were forgotten at least once: of no pair is more missing than so many captions."""

    def __post_init__(self) -> None:
        longest = sorted((phrase for phrase in self.phrases if " " in phrase), key=len, reverse=True)
        self._phrases = re.compile("|".join(rf"\b{re.escape(own)}s?\b" for own in longest)) if longest else None

    def add(self, caption: str) -> None:
        words = self._words(caption)
        self.captions += 1
        self.alone.update(words)
        self.pairs.update(combinations(words, 2))
        if len(self.alone) > MOST_SINGLE:
            self.alone = _without_rare(self.alone, MOST_SINGLE // 2)
        if len(self.pairs) > MOST_PAIRS:
            self.forgotten += 1
            self.pairs = _without_rare(self.pairs, MOST_PAIRS // 2)

    def _words(self, caption: str) -> list[str]:
        """Return the different words of a caption that name something, in order of the alphabet."""
        text = caption.casefold()
        found: set[str] = set()
        if self._phrases is not None:
            found |= {match.removesuffix("s") for match in self._phrases.findall(text)}
            text = self._phrases.sub(" ", text)
        for word in _LETTERS.findall(text)[:LONGEST]:
            one = singular(word)
            if len(one) > 1 and word not in UNSEEN and one not in UNSEEN:
                found.add(one)
        return sorted(found)

    def concepts(self, gamma: float = GAMMA, most: int = CONCEPTS) -> dict[str, list[str]]:
        """Return each word's concepts, those first that are in most of its captions."""
        common = [(word, count) for word, count in self.alone.most_common(WORDS) if count >= LEAST]
        known = dict(common)
        shares: dict[str, list[tuple[float, str]]] = {word: [] for word in sorted(known)}
        for (one, other), count in self.pairs.items():
            if one in known and other in known:
                shares[one].append((count / known[one], other))
                shares[other].append((count / known[other], one))
        return {
            word: [other for share, other in sorted(own, key=lambda pair: (-pair[0], pair[1])) if share > gamma][:most]
            for word, own in shares.items()
        }


def _without_rare(counts: Counter[Any], most: int) -> Counter[Any]:
    """Return the most frequent ones."""
    return Counter(dict(counts.most_common(most)))


def count_words(
    tars: Sequence[Path], phrases: Iterable[str], on_progress: Callable[[int, int], None] = lambda done, total: None
) -> WordCounts:
    """Read the captions of all tars once. on_progress: called with the tars that are read, and all of them."""
    counts = WordCounts(phrases)
    for done, tar in enumerate(tars):
        on_progress(done, len(tars))
        for caption in captions_in(tar):
            counts.add(caption)
    on_progress(len(tars), len(tars))
    if not counts.captions:
        raise CollectionError(f"there are no captions in {tars[0] if tars else 'no tar'}: samples have a .txt or .json")
    return counts


def as_file(counts: WordCounts, *, gamma: float, tars: Sequence[Path]) -> dict[str, Any]:
    """Return what a file of concepts holds, for `names.contrast.read_concepts`."""
    return {
        "format": FORMAT,
        "about": f"statistics of {counted(counts.captions, 'caption')} in {counted(len(tars), 'tar')}, gamma {gamma:g}",
        "nearest": True,
        "captions": counts.captions,
        "gamma": gamma,
        "concepts": counts.concepts(gamma),
    }
