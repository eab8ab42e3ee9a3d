"""The sentences in which CLIP reads a phrase."""

from dataclasses import dataclass
from functools import cache, cached_property

from wordmask.errors import WordmaskError
from wordmask.fingerprints import digest_of

RECO_TEMPLATES = (
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
"""What ReCo and NamedMask add to OpenAI's 80 templates."""


GROUNDS = (
    *("sky", "wall", "tree", "wood", "grass", "road", "sea", "river", "mountain", "sands", "desk", "bed", "building"),
    *("cloud", "lamp", "door", "window", "wardrobe", "ceiling", "shelf", "curtain", "stair", "floor", "hill", "rail"),
    "fence",
)
"""What SCLIP (Wang et al., ECCV 2024) reads for VOC's background beside the bare word, which CLIP finds nowhere."""


class PromptError(WordmaskError):
    """No template set is called so."""


@dataclass(frozen=True)
class Templates:
    """Sentences with a place {} for the phrase. Their embeddings are averaged.

    by_vowel: write "an" for the "a" before a phrase that starts with a vowel.
    """

    sentences: tuple[str, ...]
    by_vowel: bool = False

    def fill(self, phrase: str) -> list[str]:
        if self.by_vowel and phrase[:1].lower() in "aeiou":
            return [s.replace(" a {}", " an {}").replace("{}", phrase) for s in self.sentences]
        return [s.replace("{}", phrase) for s in self.sentences]

    @cached_property
    def digest(self) -> str:
        """Changes whenever a sentence does: part of the cache key."""
        return digest_of("\n".join([str(self.by_vowel), *self.sentences]))[:16]


@cache
def templates(name: str) -> Templates:
    """Return the template sets of the papers, by name (see `TEMPLATE_SETS`)."""
    if name not in TEMPLATE_SETS:
        raise PromptError(f"no template set is called {name!r}; choose one of {', '.join(TEMPLATE_SETS)}")
    if name == "photo":
        return Templates(("a photo of a {}",), by_vowel=True)
    if name == "photo-a":
        return Templates(("a photo of a {}",))
    if name == "plain":
        return Templates(("{}",))
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    openai = tuple(fill("{}") for fill in OPENAI_IMAGENET_TEMPLATES)
    return Templates(openai if name == "imagenet-80" else openai + RECO_TEMPLATES)


TEMPLATE_SETS = {
    "imagenet-80": "OpenAI's 80 ImageNet sentences: MaskCLIP and CLIP-DINOiser",
    "imagenet-85": "those and five more about scenes: NamedMask and ReCo",
    "photo": '"a photo of a {}", "an" before a vowel: as captions are written',
    "photo-a": '"a photo of a {}" always: CLIP-DIY, whose paper says no more and whose figures were made so',
    "plain": "the phrase alone",
}
