"""Captions as the web writes them: several wordings, other words for the same thing, and things left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.names import NAMES, STUFF, THINGS

WORDINGS = 5
"""Captions per picture."""
LEAVE_OUT = 0.1
"""The probability that a caption does not mention a thing that is there."""

_OTHER_WORD = 0.25
"""How often a synonym stands for a name."""
_NAME_STUFF = 0.6
"""How often a caption says anything of the stuff."""
_CALLED_BACKGROUND = 0.15
"""How often what is said of the stuff is said with the word "background"."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "aeroplane": ("airplane", "plane"),
    "bicycle": ("bike",),
    "boat": ("ship",),
    "bottle": ("flask",),
    "bowl": ("dish",),
    "bus": ("coach",),
    "car": ("automobile",),
    "cat": ("kitten",),
    "chair": ("seat",),
    "cow": ("bull",),
    "cup": ("mug", "teacup"),
    "dog": ("puppy", "hound"),
    "horse": ("pony",),
    "motorbike": ("motorcycle",),
    "mushroom": ("toadstool",),
    "person": ("man", "woman"),
    "potted plant": ("plant", "houseplant"),
    "sheep": ("lamb",),
    "sofa": ("couch", "settee"),
    "table": ("dining table", "desk"),
    "train": ("locomotive",),
    "tv monitor": ("tv", "television", "screen"),
    "umbrella": ("parasol",),
    "brick": ("brick wall", "bricks"),
    "curtain": ("drapes",),
    "grass": ("lawn", "meadow"),
    "hedge": ("bushes", "foliage"),
    "road": ("street", "asphalt"),
    "sand": ("beach",),
    "tiles": ("tiling",),
    "water": ("sea", "lake"),
    "wood": ("planks", "boards"),
}
"""Other words for a name, each of which stands for that name alone."""
_PLURALS = {"person": "people", "man": "men", "woman": "women", "sheep": "sheep"}
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SETTINGS: dict[str, tuple[str, ...]] = {
    "brick": ("in front of a {brick wall}", "against {bricks}", "by the {brick}"),
    "curtain": ("in front of a {curtain}", "against {drapes}"),
    "grass": ("on the {grass}", "on the {lawn}", "in a {meadow}"),
    "hedge": ("by a {hedge}", "in front of {bushes}", "among {foliage}"),
    "road": ("on the {road}", "on a {street}", "on {asphalt}"),
    "sand": ("on the {sand}", "on a {beach}", "in the {sand}"),
    "sky": ("under the {sky}", "under a wide {sky}", "with {sky} behind"),
    "snow": ("in the {snow}", "on {snow}"),
    "tiles": ("on {tiles}", "by the {tiles}", "with {tiling}"),
    "water": ("on the {water}", "by the {sea}", "at the {lake}"),
    "wood": ("on {wood}", "on {planks}", "with wooden {boards}"),
}
_COUNTED = ("beach", "brick wall", "curtain", "hedge", "lake", "lawn", "meadow", "road", "street")
"""Words for stuff that take an article."""
_PREFIXES = ("a photo of ", "a picture of ", "an image of ", "a drawing of ", "photo: ")


@dataclass(frozen=True)
class Seen:
    """What a caption can say of one visible thing."""

    name: str
    colour: str
    share: float
    """of the picture"""
    across: float
    """its middle, from 0 at the left to 1 at the right"""


def plural(word: str) -> str:
    """The word for several."""
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith(("s", "ch", "sh", "x")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


@cache
def _words() -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern that finds every word for a name, the longest first, and the name of each word."""
    names: dict[str, str] = {}
    for name in NAMES:
        for word in (name, *SYNONYMS.get(name, ())):
            names[word] = name
            if name in THINGS:
                names[plural(word)] = name
    longest = sorted(names, key=len, reverse=True)
    return re.compile(r"\b(" + "|".join(map(re.escape, longest)) + r")\b", re.IGNORECASE), names


def caption_names(caption: str) -> frozenset[str]:
    """The names that a caption mentions by any of their words: from the text alone, with no look at the picture."""
    pattern, names = _words()
    return frozenset(names[word.lower()] for word in pattern.findall(caption))


def _article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def _word(dice: Dice, name: str) -> str:
    others = SYNONYMS.get(name)
    return dice.pick(others) if others and dice.chance(_OTHER_WORD) else name


def _joined(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _phrase(dice: Dice, group: Sequence[Seen], adjectives: float) -> str:
    """ "two dogs", "a dog", "a big brown dog": all visible things of one name."""
    word = _word(dice, group[0].name)
    if len(group) > 1:
        number = _NUMBERS[len(group)] if len(group) < len(_NUMBERS) else "many"
        return f"{number if dice.chance(0.8) else 'some'} {plural(word)}"
    seen = group[0]
    clad = ""
    if dice.chance(adjectives):
        if seen.name == "person":
            clad = f" in {seen.colour}"
        else:
            word = f"{seen.colour} {word}"
    if dice.chance(adjectives * 0.4):
        if seen.share > 0.22:
            word = f"{dice.pick(('big', 'large'))} {word}"
        elif seen.share < 0.04:
            word = f"{dice.pick(('small', 'little'))} {word}"
    phrase = _article(word) + clad
    if dice.chance(adjectives * 0.25) and not 0.35 < seen.across < 0.65:
        phrase += " on the left" if seen.across < 0.5 else " on the right"
    return phrase


def _setting(dice: Dice, stuff: Sequence[str], count: int) -> str:
    """ "on the grass under the sky": where the things are."""
    if dice.chance(_CALLED_BACKGROUND):
        return f"with {_stuff_phrase(dice, stuff[0])} in the background"
    order = list(reversed(stuff))[:count]
    return " ".join(re.sub(r"[{}]", "", dice.pick(_SETTINGS[name])) for name in order)


def _stuff_phrase(dice: Dice, name: str) -> str:
    word = _word(dice, name)
    return _article(word) if word in _COUNTED else word


def _one_caption(
    dice: Dice,
    seen: Sequence[Seen],
    stuff: Sequence[str],
    related: Sequence[tuple[str, str | None, str]],
    leave_out: float,
) -> str:
    names = [name for name in dict.fromkeys(thing.name for thing in seen) if not dice.chance(leave_out)]
    told = [name for name in stuff if dice.chance(0.7)] if dice.chance(_NAME_STUFF) else []
    if not names:
        phrase = _joined([_stuff_phrase(dice, name) for name in told or stuff or [dice.pick(STUFF)]])
        if not seen and dice.chance(_CALLED_BACKGROUND):
            return dice.pick((f"a background of {phrase}", f"a photo of a background, {phrase}"))
        return dice.pick((phrase, f"a photo of {phrase}", phrase if seen else f"{phrase}, nothing else"))
    groups = {name: [thing for thing in seen if thing.name == name] for name in names}
    largest = sorted(names, key=lambda name: -sum(thing.share for thing in groups[name]))
    style = dice.weighted({"plain": 0.4, "bare": 0.15, "rich": 0.45})
    adjectives = {"plain": 0.0, "bare": 0.0, "rich": 0.9 if len(names) < 3 else 0.4}[style]
    if style == "bare":
        words = [
            plural(_word(dice, name)) if len(groups[name]) > 1 else _word(dice, name) for name in dice.shuffled(names)
        ] + [_word(dice, name) for name in told]
        return _joined(words)
    phrases = {name: _phrase(dice, groups[name], adjectives) for name in largest}
    text = ""
    for first, relation, second in related:
        if first in phrases and second in phrases and first != second and dice.chance(0.75):
            text = f"{phrases.pop(first)} {relation} {phrases.pop(second)}"
    if not text and len(phrases) == 2 and dice.chance(0.4):
        text = dice.pick((" next to ", " beside ", " with ", " near ")).join(phrases.values())
    elif phrases:
        rest = _joined(list(phrases.values()))
        text = f"{text} with {rest}" if text else rest
    if told:
        text += " " + _setting(dice, told, 2)
    return dice.pick(_PREFIXES) + text if dice.chance(0.35) else text


def write_captions(
    dice: Dice,
    seen: Sequence[Seen],
    stuff: Sequence[str],
    related: Sequence[tuple[str, str | None, str]] = (),
    leave_out: float = LEAVE_OUT,
) -> tuple[str, ...]:
    """Several wordings for one picture.

    Args:
        dice: chance.
        seen: the visible things.
        stuff: the visible kinds of stuff, from top to bottom.
        related: which names touch, and how: ("person", "on", "horse").
        leave_out: the probability that a wording does not mention one of the things.
    """
    return tuple(_one_caption(dice, seen, stuff, related, leave_out) for _ in range(WORDINGS))
