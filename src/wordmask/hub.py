"""Students on the Hugging Face hub: a folder with the weights and a card that says what they are good for."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from wordmask.errors import WordmaskError
from wordmask.files import atomic_write
from wordmask.segmenters.head import HeadNetwork
from wordmask.segmenters.namedmask import NamedMask
from wordmask.segmenters.open_student import OpenStudent
from wordmask.segmenters.student_file import Student, read_student, write_student
from wordmask.text_files import counted
from wordmask.weights.addresses import resolve

WEIGHTS, CARD = "student.safetensors", "README.md"


class HubError(WordmaskError):
    """A student that cannot be put there, or is not there."""


@dataclass(frozen=True)
class Card:
    """What whoever downloads a student must know.

    data: the pictures it was distilled from, with their licence. figures: what was measured, by benchmark.
    limits: what it is not good for, beside what is true of every student.
    """

    licence: str
    data: str
    figures: Mapping[str, float]
    limits: Sequence[str] = ()
    title: str = "A segmenter distilled from names"


LIMITS = (
    "It knows the names above and no others; whatever else is in a picture becomes background or the likest name.",
    "It learnt from pseudo-masks that nobody drew or checked{but}: it shares the mistakes and the biases of the CLIP "
    "and of the saliency model that made them.",
)
BUT = ", but for the pictures that a person corrected"


def save_folder(segmenter: NamedMask, folder: str | Path, card: Card) -> Path:
    """Write a folder as the hub holds it: the weights, and the card."""
    folder = Path(folder)
    if isinstance(segmenter, OpenStudent):
        raise HubError("a student of an open vocabulary cannot be shared so yet: hand on its file")
    if "background" not in {name.casefold() for name in segmenter.vocabulary.names}:
        raise HubError("this student has no background among its names: it is not one that can be shared alone")
    write_student(folder / WEIGHTS, segmenter.network, segmenter.vocabulary, segmenter.metadata)
    with atomic_write(folder / CARD) as file:
        file.write(card_text(segmenter, card).encode())
    return folder


def push(segmenter: NamedMask, repository: str, card: Card, *, private: bool = True, token: str | None = None) -> str:
    """Upload a student to "user/name", which is made where it is not there. Gives its address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory(prefix="wordmask-") as folder:
        save_folder(segmenter, folder, card)
        try:
            address = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message="A wordmask student")
        except Exception as error:  # the hub's client passes on whatever its HTTP library of the day raises
            raise HubError(f"{repository} could not be uploaded: {str(error).strip().splitlines()[0][:300]}") from error
    return str(address)


def from_pretrained(source: str | Path, *, backbones: Sequence[str] | None = None, **options: Any) -> NamedMask:
    """Load a student from a folder, or from "user/name" on the hub. `options` are those of `NamedMask`. backbones:
    where the frozen encoders of a light head are, if not where its file says.
    """
    folder = Path(source)
    path = folder / WEIGHTS if folder.is_dir() else resolve(f"hf-hub:{source}/{WEIGHTS}")
    if not path.is_file():
        raise HubError(f"{source} holds no {WEIGHTS}: it was not written by wordmask")
    student: Student = read_student(path, backbones)
    return NamedMask(student, **options)


def card_text(segmenter: NamedMask, card: Card) -> str:
    """Return the card as Markdown, with the header that the hub reads."""
    from huggingface_hub import ModelCardData

    header = ModelCardData(
        license=card.licence,
        library_name="wordmask",
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "namedmask", *([] if segmenter.note else ["annotation-free"])],
    )
    names = "\n".join(
        f"| {number} | {name} | {', '.join(phrase for phrase in phrases if phrase != name) or '-'} |"
        for number, (name, phrases) in enumerate(
            zip(segmenter.vocabulary.names, segmenter.vocabulary.phrases, strict=True)
        )
    )
    figures = "\n".join(f"| {what} | {value:.1f} |" for what, value in card.figures.items()) or "| none measured | |"
    own = (limit.format(but="" if segmenter.note is None else BUT) for limit in LIMITS)
    limits = "\n".join(f"- {limit}" for limit in (*own, *card.limits))
    drawn = "No mask was drawn to train it" if segmenter.note is None else f"It is {segmenter.note}"
    network = segmenter.network
    if isinstance(network, HeadNetwork):
        what = f"A {network.title}, which this folder does not hold,"
    else:
        what = f"A {network.settings.backbone} with a DeepLabV3+ head"
    return f"""---
{header.to_yaml()}
---
# {card.title}

{what} that segments {counted(len(segmenter.vocabulary) - 1, "name")} and background. {drawn}. It was
distilled by `wordmask`, after NamedMask (Shin, Xie and Albanie, 2022).

```python
from wordmask.hub import from_pretrained

from_pretrained("user/name").segment("photo.jpg", {list(segmenter.vocabulary.names[:3])!r}).save("masks.png")
```

## Names
| class | name | also read as |
|---|---|---|
{names}

## Data
{card.data}

## Figures
| benchmark | mIoU |
|---|---|
{figures}

## Limits
{limits}
"""
