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
SUB_IMAGENET_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of a {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven of OpenAI's 80 that did best for it, of which TCL (Cha et al., CVPR 2023) took over the list."""
MANY_TEMPLATES = ("a photo of many {}.", "a photo of {}s.")
"""What TIPSv2 adds to those seven."""


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
    if name == "sub-imagenet-7":
        return Templates(SUB_IMAGENET_TEMPLATES)
    if name == "sub-imagenet-9":
        return Templates(SUB_IMAGENET_TEMPLATES + MANY_TEMPLATES)
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    openai = tuple(fill("{}") for fill in OPENAI_IMAGENET_TEMPLATES)
    return Templates(openai if name == "imagenet-80" else openai + RECO_TEMPLATES)


TEMPLATE_SETS = {
    "imagenet-80": "OpenAI's 80 ImageNet sentences: MaskCLIP and CLIP-DINOiser",
    "imagenet-85": "those and five more about scenes: NamedMask and ReCo",
    "sub-imagenet-7": "seven of OpenAI's 80 sentences: Talk2DINO",
    "sub-imagenet-9": "those and two more of many things: TIPSv2",
    "photo": '"a photo of a {}", "an" before a vowel: as captions are written',
    "photo-a": '"a photo of a {}" always: CLIP-DIY, whose paper says no more and whose figures were made so',
    "plain": "the phrase alone",
}
