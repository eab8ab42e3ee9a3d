"""Options that verbs share, and what becomes of them."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordmask.plugins import preset_words

if TYPE_CHECKING:
    from wordmask.names.contrast import Contrast as Contrast_
    from wordmask.names.vocabulary import Vocabulary

NAMES_SUFFIXES = (".txt", ".yaml", ".yml", ".json", ".xml")
"""Of files of names."""


def local(path: Path | None) -> Path | None:
    """Take a path of this machine. As a path an address has lost a slash, and would be echoed so."""
    found = re.match(r"([a-z][a-z0-9+.-]+):/+(.*)", str(path))
    if path is not None and found and not os.path.lexists(path):
        way_out = "download it first" if found[1] in ("http", "https") else "mount the store, or copy what is there"
        raise typer.BadParameter(
            f"{found[1]}://{found[2]} is an address: files are read and written on disk, so {way_out}"
        )
    return path


def once(pairs: list[str] | None) -> list[str] | None:
    """Take KEY=VALUE pairs with no key twice: of two values one would be dropped unseen."""
    seen: set[str] = set()
    for key in (pair.partition("=")[0] for pair in pairs or ()):
        if key in seen:
            raise typer.BadParameter(f"{key}=... is given twice: leave one out")
        seen.add(key)
    return pairs


Names = Annotated[
    str | None,
    typer.Option(
        "--names",
        help='Names, parted by commas: "dog, traffic light" or "person: [man, woman], dog". Or a file of them: one a '
        "line; YAML or JSON, also with synonyms; YOLO's data.yaml, COCO's categories.",
    ),
]
NamesFile = Annotated[Path | None, typer.Option("--names-file", hidden=True, callback=local)]
"""How a file was given before --names took one."""
Fill = Annotated[
    bool,
    typer.Option("--fill", help="Every pixel gets one of the names. Else background is added, where it is not named."),
]
Contrast = Annotated[
    str,
    typer.Option(
        metavar="auto|concepts|none|WORDS|FILE",
        help="What a few names race against where background is added: concepts known for them, where that is known to "
        'help (auto) or in any case (concepts), none, "water, dock" ("not these"), or a file of `wordmask contrast '
        "build`.",
    ),
]
MinScore = Annotated[
    float, typer.Option(min=0, max=1, help="What scores less becomes background; the scale is the method's own.")
]
DropAbsent = Annotated[
    float, typer.Option(min=0, max=1, help="Names on less than this share of a picture are taken for absent there.")
]
Method = Annotated[str, typer.Option(help="The segmenter, by its paper; auto is the best that can be had.")]
PRESETS = f"Whose backbones and settings: {' or '.join(['paper', *preset_words()])}."
Preset = Annotated[str, typer.Option(help=PRESETS)]
Weights = Annotated[
    str | None, typer.Option(help="A file or URL in place of the weights that the method learnt itself.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE, a setting of the method; may be repeated.", callback=once)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    str, typer.Option(help="fp32, bf16, int8, or auto: whichever is fastest here, by a measurement that is kept.")
]
Runtime = Annotated[str, typer.Option(help="torch, or onnx: the network runs from a file of `wordmask export`.")]
Onnx = Annotated[Path, typer.Option(help="That file.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Pictures that are looked at together.")]
MaxPixels = Annotated[int | None, typer.Option(min=1, help="Largest picture that is decoded.")]
Every = Annotated[
    str | None, typer.Option(metavar="TIME", help="For films: how far frames are to be apart, as 1s, 500ms or 2min.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a picture.")]

Run = Annotated[Path, typer.Option("--out", "-o", help="The folder of the run: checkpoints, log, weights.")]
TrainingImages = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="A folder of pictures, or a training file. Some presets draw their own.",
        callback=local,
    ),
]
Clip = Annotated[str | None, typer.Option(help="ARCHITECTURE/TAG, or another address, in place of the preset's CLIP.")]
ClipWeights = Annotated[str | None, typer.Option(help="Its weights: a file, a URL or a catalogue's name.")]
Dino = Annotated[str | None, typer.Option(help="A timm name, or another address, in place of the preset's DINO.")]
DinoWeights = Annotated[str | None, typer.Option(help="Its weights: a file, a URL or a catalogue's name.")]
TrainingPrecision = Annotated[str | None, typer.Option("--precision", help="fp32 or bf16; by default the preset's.")]
Seed = Annotated[int, typer.Option(min=0, help="Of all that is left to chance.")]


def _stated(precision: str) -> str:
    if precision == "auto":
        raise typer.BadParameter("a figure must not depend on the machine that measures it: choose fp32, bf16 or int8")
    return precision


StatedPrecision = Annotated[
    str, typer.Option("--precision", help="fp32, as the papers' figures, bf16 or int8.", callback=_stated)
]


def paths(arguments: list[str]) -> list[Path]:
    for argument in arguments:
        if not argument:
            raise typer.BadParameter("an empty picture argument (perhaps a variable that is not set?)")
        local(Path(argument))
    return [Path(argument) for argument in arguments]


def vocabulary(given: str | None, file: Path | None = None, *, method: str, fill: bool) -> "Vocabulary | None":
    """Return the names with room for what none of them names, unless they are to fill the picture. None where a student
    is to bring its own: any may still be chosen from them.
    """
    if given is None and file is None and method == "namedmask":
        return None
    if given is not None and file is not None:
        raise typer.BadParameter("--names-file is how --names FILE was given before: give one of the two")
    if given is None and file is None:
        raise typer.BadParameter('give --names "dog, cat" or --names FILE')
    if given is not None:
        found = names(given)
    else:
        from wordmask.names.lists import read_names

        found = read_names(file)  # type: ignore[arg-type]
    return found if fill else found.with_room()


def contrast(given: str) -> "Contrast_":
    """Return what names are to race against, as it was typed."""
    from wordmask.names.contrast import WORDS_FOR_CONTRAST, read_concepts
    from wordmask.names.lists import parse_names

    if given in WORDS_FOR_CONTRAST:
        return given
    if given.lower().endswith(".json"):
        return read_concepts(given)
    return parse_names(given).names


def names(given: str) -> "Vocabulary":
    """Return names as they are typed, or those in a file."""
    from wordmask.names.lists import parse_names, read_names

    return read_names(given) if _is_file_of_names(given) else parse_names(given)


def _is_file_of_names(given: str) -> bool:
    """Return whether --names is a file, as its suffix or its folder tells. What may be a name as well is refused."""
    path = Path(given)
    local(path)
    if path.suffix.lower() in NAMES_SUFFIXES or given.startswith(("/", "./", "../")):
        return True
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # too long for a path
        return False
    if is_file and path.parent == Path():
        raise typer.BadParameter(
            f"--names {given} may be a name or a file that is called so: ./{given} is the file, '{given},' the name"
        )
    return is_file


def method(given: str, preset: str, weights: str | None) -> str:
    """Return the method that is meant by "auto", which stderr is told, or the one that is named."""
    from wordmask.segmenters.choosing import settled

    return settled(given, preset, weights)


def segmenter(
    method: str, preset: str, weights: str | None, device: str, precision: str, settings: list[str] | None
) -> dict[str, Any]:
    """Return the arguments of `wordmask.load`."""
    chosen = {"method": method, "preset": preset, "weights": weights, "device": device, "precision": precision}
    changes = _settings(settings or [])
    for key in changes:
        if key in chosen:
            raise typer.BadParameter(f"--set {key}=... is an option of its own: --{key}")
    return chosen | changes


def changes(settings: list[str] | None, **given: Any) -> dict[str, Any]:
    """Return what the options and --set change of a preset; an option that is not given changes nothing."""
    told = {name: value for name, value in given.items() if value is not None}
    pairs = _settings(settings or [])
    for key in pairs:
        if key in given:
            raise typer.BadParameter(f"--set {key}=... is an option of its own: --{key.replace('_', '-')}")
    return pairs | told


def runtime(name: str, onnx: Path) -> dict[str, Any]:
    """Return what --runtime adds to the arguments of `wordmask.load`."""
    if name not in ("torch", "onnx"):
        raise typer.BadParameter(f"--runtime is torch or onnx, not {name!r}")
    return {"onnx": onnx} if name == "onnx" else {}


def _settings(pairs: list[str]) -> dict[str, Any]:
    """["key=value", ...] -> {"key": value}, values read as YAML does: 3, 0.25, true, null, text."""
    from wordmask.text_files import TextFileError, parse_yaml, shown

    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise typer.BadParameter(f"--set takes KEY=VALUE, not {shown(pair)}")
        try:
            settings[key] = parse_yaml(value)
        except TextFileError:
            settings[key] = value
    return settings
