"""The names a person gives, checked and in order.

A name may be said in several phrases; what looks like any of them belongs to the name. "background" is special:
everything not named.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wordmask.errors import WordmaskError

BACKGROUND = "background"
MAX_NAME_LENGTH = 200
"""Characters. CLIP reads 77 tokens, some 300 letters; a longer "name" is a file pasted by mistake."""
MAX_NAMES = 20_000
"""As many as the largest label set in use (ImageNet-21k); more is a word list, not a vocabulary."""
MAX_FILE_BYTES = 16 * 1024 * 1024


class VocabularyError(WordmaskError):
    """These names cannot be told apart, or cannot be read."""


@dataclass(frozen=True)
class Vocabulary:
    """`names[i]` is what label i is called; `phrases[i]` is what the text tower reads for it."""

    names: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, names: "Vocabulary | Iterable[str] | Mapping[str, Any]") -> "Vocabulary":
        """From a list of names, or a mapping from names to synonyms.

        A synonym (or a list of them) is read beside the name: {"person": ["man", "woman"]}. A wording that is to be
        read in place of the name goes under "instead": {"crane": {"instead": "crane bird"}}.
        """
        if isinstance(names, Vocabulary):
            return names
        if isinstance(names, str):
            raise VocabularyError(f"names must be a list, not one string: write [{names[:40]!r}]")
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

    def without_background(self) -> "Vocabulary":
        keep = [i for i in range(len(self)) if i != self.background]
        return Vocabulary(tuple(self.names[i] for i in keep), tuple(self.phrases[i] for i in keep))

    @property
    def all_phrases(self) -> tuple[str, ...]:
        """Every name's phrases, one after the other."""
        return tuple(phrase for phrases in self.phrases for phrase in phrases)


def parse_names(text: str) -> Vocabulary:
    """Names as typed on a command line: "dog, traffic light, background"."""
    parts = text.split(",")
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    return Vocabulary.of(parts)


def read_names(path: str | Path) -> Vocabulary:
    """A file of names: one a line (# starts a comment), or YAML (.yaml, .yml) for synonyms.

    YAML may be a list of names or a mapping as `Vocabulary.of` takes it; an item of the list may be such a mapping.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise VocabularyError(f"{path}: larger than {MAX_FILE_BYTES // 2**20} MiB, so not a list of names")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise VocabularyError(f"{path}: cannot be read as a list of names ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    try:
        return Vocabulary.of(_from_yaml(text) if path.suffix in (".yaml", ".yml") else _from_lines(text))
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from error


def _from_lines(text: str) -> list[str]:
    names = []
    for number, line in enumerate(text.splitlines(), start=1):
        name = line.split("#", 1)[0].strip()
        if "," in name:
            raise VocabularyError(
                f"line {number} holds a comma ({name[:40]!r}): write one name a line, or use YAML for synonyms"
            )
        if name:
            names.append(name)
    return names


def _from_yaml(text: str) -> dict[str, Any]:
    try:
        data = yaml.load(text, Loader=_StringLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise VocabularyError(f"not valid YAML: {' '.join(str(error).split())[:200]}") from error
    items = data if isinstance(data, list) else [data]
    pairs: list[tuple[str, Any]] = []
    for item in items:
        if isinstance(item, str):
            pairs.append((item, None))
        elif isinstance(item, dict):
            pairs.extend(item.items())
        else:
            raise VocabularyError(f"expected names or `name: synonyms`, found {item!r}")
    twice = _first_repeated(name for name, _ in pairs if isinstance(name, str))
    if twice is not None:
        raise VocabularyError(f"the name {twice!r} is there twice; give each name once")
    return dict(pairs)


class _StringLoader(yaml.SafeLoader):
    """Plain words stay words: a name may be "no", "on" or "7"; only an empty value is nothing."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own interface)
        key: [pair for pair in resolvers if pair[0].endswith((":null", ":merge"))]
        for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := _first_repeated(keys):
            raise VocabularyError(f"the name {twice!r} is there twice; give each name once")
        return super().construct_mapping(node, deep=deep)


def _entry(name: object, value: object) -> tuple[str, tuple[str, ...]]:
    name = _clean(name, "name")
    if value is None:
        return name, (name,)
    if isinstance(value, Mapping):
        if set(value) != {"instead"}:
            raise VocabularyError(
                f"{name!r}: expected a list of synonyms or `instead: wording`, found {_shorten(dict(value))}"
            )
        return name, _clean_all(value["instead"], name)
    synonyms = _clean_all(value, name)
    return name, (name, *(s for s in synonyms if s.casefold() != name.casefold()))


def _clean_all(value: object, name: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence) or not value:
        raise VocabularyError(f"{name!r}: synonyms must be a phrase or a list of phrases, not {_shorten(value)}")
    return tuple(_clean(phrase, f"synonym of {name!r}") for phrase in value)


def clean_name(text: str) -> str:
    """A name as a vocabulary holds it: composed letters, single spaces, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _clean(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise VocabularyError(f"a {what} must be text, not {_shorten(text)}")
    clean = clean_name(text)
    if not clean:
        raise VocabularyError(f"an empty {what}: every name needs at least one letter")
    if len(clean) > MAX_NAME_LENGTH:
        raise VocabularyError(
            f"a {what} of {len(clean)} characters ({clean[:30]!r}...); at most {MAX_NAME_LENGTH} are read"
        )
    if any(unicodedata.category(c) == "Cc" for c in clean):
        raise VocabularyError(f"the {what} {_shorten(clean)} holds a control character; type it anew")
    if any(unicodedata.category(c) == "Cs" for c in clean):
        raise VocabularyError(f"the {what} {_shorten(clean)} holds half a character (a lone surrogate); type it anew")
    return clean


def _check_distinct(vocabulary: Vocabulary) -> None:
    if not vocabulary.names:
        raise VocabularyError('no names: give at least one, such as ["dog", "background"]')
    if len(vocabulary) > MAX_NAMES:
        raise VocabularyError(f"{len(vocabulary)} names; at most {MAX_NAMES} can be told apart in one run")
    twice = _first_repeated(vocabulary.names)
    if twice is not None:
        raise VocabularyError(f"the name {twice!r} is there twice; give each name once")
    twice = _first_repeated(vocabulary.all_phrases)
    if twice is not None:
        owners = [n for n, p in zip(vocabulary.names, vocabulary.phrases, strict=True) if _holds(p, twice)]
        raise VocabularyError(
            f"the phrase {twice!r} stands for {' and '.join(repr(o) for o in owners)}; one phrase, one name"
        )


def _holds(phrases: Iterable[str], phrase: str) -> bool:
    return phrase.casefold() in (p.casefold() for p in phrases)


def _first_repeated(texts: Iterable[str]) -> str | None:
    """CLIP reads lower case only, so "Dog" and "dog" are one."""
    seen: set[str] = set()
    for text in texts:
        folded = text.casefold()
        if folded in seen:
            return text
        seen.add(folded)
    return None


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
