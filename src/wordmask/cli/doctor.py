"""`wordmask doctor`: what this machine has, and what was chosen on it."""

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordmask.cli import options
from wordmask.console import show
from wordmask.errors import WordmaskError
from wordmask.text_files import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wordmask.encoders.precision import Measurement


class DoctorError(WordmaskError):
    """A method cannot be measured with what is on this machine."""


def doctor(
    measure: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="Measure this method's networks now, with weights that are here."),
    ] = None,
    preset: options.Preset = "paper",
    as_json: options.Json = False,
) -> None:
    """Say what this machine has, what networks compute with here and why, and what could be installed.

    Nothing is fetched, and nothing imported that is not installed.

    Example: `wordmask doctor` or `wordmask doctor --measure clip-dinoiser`
    """
    from wordmask.cli.checkup import as_row, checkup

    new = [] if measure is None else [as_row(one, now=True) for one in _measured(measure, preset)]
    found = checkup()
    kept = [row for row in found["precision"]["measured"] if row | {"now": True} not in new]
    found["precision"]["measured"] = [*new, *kept]
    show(json.dumps(found, indent=1, ensure_ascii=False) if as_json else "\n".join(_lines(found)))


def _measured(method: str, preset: str) -> "list[Measurement]":
    from wordmask import saliency, segmenters
    from wordmask.encoders.precision import MEASURED, offered_here
    from wordmask.methods import methods_of
    from wordmask.weights.cache import offline
    from wordmask.weights.download import DownloadError

    if len(offered_here()) == 1:
        raise DoctorError("there is nothing to measure: this processor, or what is installed for it, has fp32 alone")
    load = (
        saliency.load if method not in methods_of("segmenter") and method in methods_of("saliency") else segmenters.load
    )
    with offline("for doctor, not for other commands"), _chosen_by_times(), MEASURED.anew() as found:
        try:
            load(method, preset=preset, device="cpu")
        except DownloadError as error:
            raise DoctorError(f"doctor fetches nothing, and not all that {method} needs is here: {error}") from error
    return found


@contextmanager
def _chosen_by_times() -> "Iterator[None]":
    """Let nothing but times choose."""
    from wordmask.compute import VARIABLE

    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "auto"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def _lines(found: dict[str, Any]) -> "Iterator[str]":
    processor, libraries = found["processor"], found["libraries"]
    yield _line("wordmask", f"{found['wordmask']}, Python {found['python']}, {found['system']}")
    model = f" ({processor['model']})" if processor["model"] else ""
    yield _line("processor", f"{processor['name']}{model}")
    yield _line(
        "", f"{processor['cores']} of {counted(processor['all_cores'], 'core')}; threads: {processor['threads']}"
    )
    flags = processor["flags"]
    yield _line(
        "", "instructions unknown" if flags is None else " ".join(flags) or "none of those that networks profit from"
    )
    memory = found["memory"]
    free = "" if memory["free"] is None else f", {_size(memory['free'])} free"
    yield _line("memory", "unknown" if memory["bytes"] is None else f"{_size(memory['bytes'])}{free}")
    for own in found["accelerators"]:
        size = "" if own["bytes"] is None else f", {_size(own['bytes'])}"
        yield _line("accelerator", f"{own['device']}: {own['name']}{size}, {'with' if own['bf16'] else 'without'} bf16")
    if not found["accelerators"]:
        yield _line("accelerator", "none that torch can use")
    match = {True: "which match", False: "which do NOT match", None: "which may or may not match"}[
        found["torch_matches"]
    ]
    yield _line("torch", f"{libraries['torch']}, torchvision {libraries['torchvision']}, {match}")
    for extra, told in found["extras"].items():
        state = f"needs {', '.join(told['missing'])}" if told["missing"] else "installed"
        yield _line(f"[{extra}]", f"{state}; for {told['for']}")
    for plugin in found["plugins"]:
        yield _line("plug-in", f"{plugin['name']} of {plugin['package']} {plugin['version']}".rstrip())
    cache = found["cache"]
    yield _line("cache", f"{cache['folder']}, {_size(cache['bytes']) if cache['exists'] else 'not there yet'}")
    yield _line("", f"of the hub: {cache['hub']}")
    switches = [name for name, on in found["offline"].items() if on]
    yield _line("downloads", f"switched off by {', '.join(switches)}" if switches else "allowed")
    yield _line("precision", found["precision"]["rule"])
    for row in found["precision"]["measured"]:
        times = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in row["seconds"].items())
        when = "now" if row["now"] else row["when"]
        yield _line("", f"{row['network']}: {row['chosen']}; a part of it takes {times} (measured {when})")
    for row in found["precision"]["int8"]:
        verdict = "enough for auto" if row["enough"] else "too few for auto"
        yield _line("", f"{row['network']} in int8: the same on {row['same']:.2%} of drawn patches, {verdict}")
    for advice in found["faster"]:
        yield _line("faster", advice)


def _line(what: str, told: str) -> str:
    return f"{what:12} {told}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
