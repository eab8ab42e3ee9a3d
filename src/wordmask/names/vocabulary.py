"""The names a person gives, checked and in order.

A name may be said in several phrases; what looks like any of them belongs to the name. "background" is special:
everything not named.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wordmask.errors import WordmaskError
from wordmask.text_files import shown

BACKGROUND = "background"
RIVAL = "\0rival"
"""The name of all rivals together. Nobody can type it."""
ROOM = "background is not among the names and was added, for what none of them names"
"""What is told once wherever room was made."""
MAX_NAME_LENGTH = 200
"""Characters. CLIP reads 77 tokens, some 300 letters; a longer "name" is a file pasted by mistake."""
MAX_NAMES = 20_000
"""As many as the largest label set in use (ImageNet-21k); more is a word list, not a vocabulary."""
SEPARATORS = {",": "comma", ";": "semicolon", "\n": "line break"}
"""What parts the names of a list. Within a name they are a list that was not taken apart."""
NAMES_SHOWN = 6


class VocabularyError(WordmaskError):
    """These names cannot be told apart, or cannot be read."""


@dataclass(frozen=True)
class Rivals:
    """Words that names race against and that nobody is shown: what they win is background.

    words: those that race as one more name. Of a method that reads words for a background, they are among its phrases
    instead. doubtful: those of either that leave the race where the text tower finds them too near a name; words that
    a user gives race whatever they are.
    """

    words: tuple[str, ...] = ()
    doubtful: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Vocabulary:
    """`names[i]` is what label i is called; `phrases[i]` is what the text tower reads for it.

    rivals: what the names are to race against; None until that is settled.
    """

    names: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]
    rivals: Rivals | None = None

    @classmethod
    def of(cls, names: "Vocabulary | Iterable[str] | Mapping[str, Any]") -> "Vocabulary":
        """From a list of names, or a mapping from names to synonyms.

        A synonym (or a list of them) is read beside the name: {"person": ["man", "woman"]}. A wording that is to be
        read in place of the name goes under "instead": {"crane": {"instead": "crane bird"}}. That one alone may hold a
        comma, a semicolon or a line break: in a name or a synonym they are a list that was not taken apart.
        """
        if isinstance(names, Vocabulary):
            return names
        if isinstance(names, str):
            raise VocabularyError(f"names must be a list, not one string: write {_as_list(names)}")
        if isinstance(names, Mapping):
            entries = [_entry(name, value) for name, value in names.items()]
        else:
            entries = [_entry(name, None) for name in names]
        vocabulary = cls(tuple(name for name, _ in entries), tuple(phrases for _, phrases in entries))
        _check_distinct(vocabulary)
        return vocabulary

    def __len__(self) -> int:
        return len(self.names)

    @property
    def background(self) -> int | None:
        """The label of "background", if it was named."""
        return next((i for i, name in enumerate(self.names) if name.casefold() == BACKGROUND), None)

    @property
    def has_made_room(self) -> bool:
        """Return whether "background" was added by `with_room`, and no method has worded it yet."""
        return self.background is not None and not self.phrases[self.background]

    def with_room(self) -> "Vocabulary":
        """Return these names and then "background", where it is not among them.

        Nobody asked for that one in words, so it has none until a method brings its own (`worded`).
        """
        if self.background is not None:
            return self
        return replace(self, names=(*self.names, BACKGROUND), phrases=(*self.phrases, ()))

    def worded(self, words: Iterable[str]) -> "Vocabulary":
        """Return the same names, with these words for a background that has none.

        Words that stand for a name are left out: who asks for "grass" does not mean background.
        """
        background = self.background
        if background is None or self.phrases[background]:
            return self
        taken = {text.casefold() for text in (*self.all_phrases, *self.names)} - {BACKGROUND}
        own = tuple(word for word in words if word.casefold() not in taken) or (BACKGROUND,)
        phrases = [own if label == background else phrases for label, phrases in enumerate(self.phrases)]
        return replace(self, phrases=tuple(phrases))

    def racing(self) -> "Vocabulary":
        """Return the same names and a last one more for all rivals, where there are any."""
        if self.rivals is None or not self.rivals.words or self.is_racing:
            return self
        return replace(self, names=(*self.names, RIVAL), phrases=(*self.phrases, self.rivals.words))

    @property
    def is_racing(self) -> bool:
        """Return whether the last name is that of the rivals."""
        return self.names[-1:] == (RIVAL,)

    def without_background(self) -> "Vocabulary":
        return self.only([i for i in range(len(self)) if i != self.background])

    def only(self, labels: Sequence[int]) -> "Vocabulary":
        """Return some of these names, in the order of `labels`."""
        return replace(
            self,
            names=tuple(self.names[label] for label in labels),
            phrases=tuple(self.phrases[label] for label in labels),
        )

    def __repr__(self) -> str:
        names = ", ".join(shown(name) for name in self.names[:NAMES_SHOWN])
        return f"Vocabulary({names}{_and_more(len(self), NAMES_SHOWN)})"

    @property
    def all_phrases(self) -> tuple[str, ...]:
        """Every name's phrases, one after the other."""
        return tuple(phrase for phrases in self.phrases for phrase in phrases)


def _and_more(count: int, most: int) -> str:
    return "" if count <= most else f" and {count - most} more"


def _as_list(text: str) -> str:
    """Return how the names in a text are written as a list; only the first few of many."""
    parts = [part.strip() for part in re.split(f"[{''.join(SEPARATORS)}]", text[: 4 * MAX_NAME_LENGTH])]
    parts = [part for part in parts if part] or ["dog"]
    more = ", ..." if len(parts) > NAMES_SHOWN else ""
    return f"[{', '.join(shown(part) for part in parts[:NAMES_SHOWN])}{more}]"


def _entry(name: object, value: object) -> tuple[str, tuple[str, ...]]:
    if isinstance(value, Mapping):
        name = _clean(name, "name")
        if set(value) != {"instead"}:
            raise VocabularyError(
                f"{shown(name)}: expected a list of synonyms or `instead: wording`, found {shown(dict(value))}"
            )
        return name, _clean_all(value["instead"], name)
    _check_whole(name)
    name = _clean(name, "name")
    if value is None:
        return name, (name,)
    synonyms = _clean_all(value, name, check=_check_whole)
    return name, (name, *(s for s in synonyms if s.casefold() != name.casefold()))


def _check_whole(text: object) -> None:
    """Check that a name or a synonym is one, and not several in one text."""
    if not isinstance(text, str):
        return  # which is told later, and better
    found = next((word for sign, word in SEPARATORS.items() if sign in text.strip()), None)
    if found is not None:
        raise VocabularyError(
            f"{shown(text)} holds a {found}: write several names as {_as_list(text)}, synonyms of one as "
            '{"dog": ["puppy", "hound"]}, and a wording that needs the sign as {"dog": {"instead": "a dog, running"}}'
        )


def _clean_all(value: object, name: str, check: Callable[[object], None] = lambda text: None) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence) or not value:
        raise VocabularyError(f"{shown(name)}: synonyms must be a phrase or a list of phrases, not {shown(value)}")
    for phrase in value:
        check(phrase)
    return tuple(_clean(phrase, f"synonym of {shown(name)}") for phrase in value)


def clean_name(text: str) -> str:
    """Return a name as a vocabulary holds it: composed letters, single spaces, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _clean(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise VocabularyError(f"a {what} must be text, not {shown(text)}")
    clean = clean_name(text)
    if not clean:
        raise VocabularyError(f"an empty {what}: every name needs at least one letter")
    if len(clean) > MAX_NAME_LENGTH:
        raise VocabularyError(
            f"a {what} of {len(clean)} characters ({shown(clean)}); at most {MAX_NAME_LENGTH} are read"
        )
    if any(unicodedata.category(c) == "Cc" for c in clean):
        raise VocabularyError(f"the {what} {shown(clean)} holds a control character; type it anew")
    if any(unicodedata.category(c) == "Cs" for c in clean):
        raise VocabularyError(f"the {what} {shown(clean)} holds half a character (a lone surrogate); type it anew")
    return clean


def _check_distinct(vocabulary: Vocabulary) -> None:
    if not vocabulary.names:
        raise VocabularyError('no names: give at least one, such as ["dog", "background"]')
    if len(vocabulary) > MAX_NAMES:
        raise VocabularyError(f"{len(vocabulary)} names; at most {MAX_NAMES} can be told apart in one run")
    twice = first_repeated(vocabulary.names)
    if twice is not None:
        raise VocabularyError(f"the name {shown(twice)} is there twice; give each name once")
    twice = first_repeated(vocabulary.all_phrases)
    if twice is not None:
        owners = [n for n, p in zip(vocabulary.names, vocabulary.phrases, strict=True) if _holds(p, twice)]
        raise VocabularyError(
            f"the phrase {shown(twice)} stands for {' and '.join(shown(o) for o in owners)}; one phrase, one name"
        )


def _holds(phrases: Iterable[str], phrase: str) -> bool:
    return phrase.casefold() in (p.casefold() for p in phrases)


def first_repeated(texts: Iterable[str]) -> str | None:
    """CLIP reads lower case only, so "Dog" and "dog" are one."""
    seen: set[str] = set()
    for text in texts:
        folded = text.casefold()
        if folded in seen:
            return text
        seen.add(folded)
    return None
