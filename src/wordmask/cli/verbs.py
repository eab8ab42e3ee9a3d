"""Which verbs there are: those of `wordmask` and those of plug-ins, each imported when it is called."""

from functools import wraps
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from wordmask.console import printable
from wordmask.plugins import Verb, brought, installed, named

VERBS = {
    "segment": Verb(
        "wordmask.cli.segment:segment",
        "Segment pictures by names. What none of them names is background, unless --fill says otherwise.",
    ),
    "distill": Verb(
        "wordmask.cli.distill:distill",
        "Train a fast segmenter from nothing but names and unlabelled pictures (NamedMask).",
        resumes=True,
    ),
    "embed": Verb(
        "wordmask.cli.embed:embed",
        "Bring pictures through CLIP once, into a folder of embeddings for `search` and `distill`.",
        resumes=True,
    ),
    "search": Verb(
        "wordmask.cli.search:search",
        "Find the pictures that are most like a phrase, by CLIP.",
    ),
    "evaluate": Verb(
        "wordmask.cli.evaluate:evaluate",
        "Measure a segmenter on a benchmark: mIoU, pixel accuracy, every name's IoU.",
    ),
    "tables": Verb(
        "wordmask.cli.tables:tables",
        "Measure a paper's table and print it beside the published figures. What is missing is named, not skipped.",
        resumes=True,
    ),
    "label": Verb(
        "wordmask.cli.label:label",
        "Label a folder of pictures. Started again after a stop, it goes on where it was.",
        resumes=True,
        below={
            "convert": "wordmask.cli.label_convert:convert",
            "corrections": "wordmask.cli.label_corrections:corrections",
        },
    ),
    "saliency": Verb(
        "wordmask.cli.saliency:saliency",
        "Find what stands out in pictures: a grey map each, white where foreground is.",
    ),
    "train-found": Verb(
        "wordmask.cli.train_found:train_found",
        "Train FOUND's head on a folder of pictures, without labels. A killed run goes on when started again.",
        resumes=True,
    ),
    "train-selfmask": Verb(
        "wordmask.cli.train_selfmask:train_selfmask",
        "Train SelfMask on a folder of pictures, without labels: first masks are voted for, then the network learns "
        "them. A killed run goes on when started again.",
        resumes=True,
    ),
    "train-dinoiser": Verb(
        "wordmask.cli.train_dinoiser:train_dinoiser",
        "Train CLIP-DINOiser's heads on a folder of pictures, without labels. A killed run goes on when started again.",
        resumes=True,
    ),
    "bank": Verb(
        "wordmask.cli.bank:bank",
        "Collect regions of your own unlabelled pictures, by which CorrCLIP names those of others.",
        resumes=("build",),
    ),
    "train-talk2dino": Verb(
        "wordmask.cli.train_talk2dino:train_talk2dino",
        "Train the layers that map CLIP's words among DINO's patches, from captions alone: no labels, no masks. A "
        "killed run goes on when started again.",
        resumes=True,
    ),
    "methods": Verb(
        "wordmask.cli.methods:methods",
        "List the methods: what each does, whose paper it is, what it needs, and the licence of its weights.",
    ),
    "models": Verb(
        "wordmask.cli.models:models",
        "List the published weights: where they come from, their licence and size, and which are on this machine.",
    ),
    "contrast": Verb(
        "wordmask.cli.contrast:contrast",
        "Contrastive concepts: what a few names race against.",
    ),
    "doctor": Verb(
        "wordmask.cli.doctor:doctor",
        "Say what this machine has, what networks compute with here and why, and what could be installed.",
    ),
    "serve": Verb(
        "wordmask.cli.serve:serve",
        "Serve a web page and a REST interface (its description is at /docs).",
    ),
    "export": Verb(
        "wordmask.cli.export:export",
        "Write a segmenter's network as ONNX, for pictures of any size, and compare it with PyTorch.",
    ),
}
OF_METHODS = ("segment", "label", "evaluate", "serve")
"""Verbs whose --help lists the methods."""


def all_verbs() -> dict[str, Verb]:
    """Return every verb by its word; what is the word of one already, no plug-in takes from it."""
    return VERBS | brought("verbs", VERBS.__contains__)


class Verbs(TyperGroup):
    """Wrong usage repeats what was typed, or what a shell made of a *: names of files among it."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        for word, verb in all_verbs().items():
            self.add_command(_Later(word, verb))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if hasattr(error, "format_message"):  # one of click's, of which typer may bring its own copy
                error.message = printable(error.message)  # type: ignore[attr-defined]
            raise


class _Later(TyperCommand):
    """Stands in the list for a verb, and hands over to it when it is called."""

    def __init__(self, word: str, verb: Verb):
        super().__init__(word, help=verb.about)
        self._verb = verb

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        word, verb = str(self.name), self._verb
        if args and args[0] in verb.below:
            verb = Verb(verb.below[args[0]], verb.about)
            word, info_name, args = f"{word} {args[0]}", f"{info_name} {args[0]}", args[1:]
        return built(word, verb).make_context(info_name, args, parent, **extra)


def built(word: str, verb: Verb) -> Any:
    """Return a verb as a command of click's, with all of its options."""
    found = named(verb.address)
    around = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    if isinstance(found, typer.Typer):
        for command in found.registered_commands:
            command.callback = _on_disk(command.callback)
        around.add_typer(found, name=word)
    else:
        around.command(word, epilog="\n\n".join([*_without_data(word), _methods()]) if word in OF_METHODS else None)(
            _on_disk(found)
        )
    around.callback()(lambda: None)  # so that a single verb stays one of a group, and its word its name
    return typer.main.get_group(around).commands[word]


def _on_disk(verb: Any) -> Any:
    """Return a verb that refuses an address where it takes a path: one with a lost slash would be a folder's name."""
    if hasattr(verb, "__wrapped__"):
        return verb

    @wraps(verb)
    def checked(**given: Any) -> None:
        from wordmask.cli import options  # the list of verbs does without

        for value in given.values():
            if isinstance(value, Path):
                options.local(value)
        verb(**given)

    return checked


def _without_data(word: str) -> list[str]:
    """Return an example of what is installed that draws its pictures, where something does."""
    from wordmask.benchmarks import brought_benchmarks, default_benchmark

    drawn = default_benchmark()
    preset = None if drawn is None else brought_benchmarks()[drawn].preset
    if not any(preset in plugin.best for plugin in installed()):
        return []
    examples = {
        "evaluate": f"On drawn pictures: `wordmask evaluate --benchmark {drawn} --preset {preset}`",
        "serve": f"For drawn pictures: `wordmask serve --preset {preset}`",
    }
    return [examples[word]] if word in examples else []


def _methods() -> str:
    from wordmask.segmenters import listing

    return listing()
