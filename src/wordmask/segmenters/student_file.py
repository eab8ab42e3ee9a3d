"""A student as one file: safetensors, with its names and the shape of its network among the metadata.

Of a head on frozen towers the file holds the decoder alone, and says which towers those are: their addresses, and the
fingerprints of their weights.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, PositiveInt, TypeAdapter
from pydantic.dataclasses import dataclass as settings_class
from safetensors import safe_open
from torch import Tensor

from wordmask.compute import PLAIN, Compute
from wordmask.encoders.towers import ROLE, Tower, tower_at
from wordmask.errors import WordmaskError
from wordmask.files import Writer, atomic_write
from wordmask.names.vocabulary import Vocabulary, VocabularyError
from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus, told_of
from wordmask.segmenters.head import Decoder, HeadNetwork, HeadSettings
from wordmask.segmenters.student_tower import StudentTower
from wordmask.text_files import counted
from wordmask.weights.addresses import file_at, find, is_brought
from wordmask.weights.building import built_from, check_numbers
from wordmask.weights.loading import WeightsError, read_metadata, read_state_dict, write_state_dict

FORMAT, HEAD_FORMAT, OPEN_FORMAT = "wordmask-student/1", "wordmask-head/1", "wordmask-open-student/1"
OWN = ("format", "names", "network", "backbones")
MOST_BACKBONES, MOST_CHANNELS = 16, 2**16

StudentNetwork = DeepLabV3Plus | HeadNetwork


@settings_class(frozen=True)
class Backbone:
    """A frozen tower that a head was distilled on: where it was, how wide it is, and what its weights are known by."""

    address: str
    channels: Annotated[PositiveInt, Field(le=MOST_CHANNELS)]
    fingerprint: str


_SETTINGS = TypeAdapter(DeepLabSettings)
_HEAD = TypeAdapter(HeadSettings)
_BACKBONES = TypeAdapter(Annotated[list[Backbone], Field(min_length=1, max_length=MOST_BACKBONES)])


@dataclass(frozen=True)
class Student:
    """A network and what its classes are called: class i is `vocabulary.names[i]`."""

    network: StudentNetwork
    vocabulary: Vocabulary
    metadata: Mapping[str, str]
    """How it came about."""


def write_student(
    path: str | Path,
    network: StudentNetwork,
    vocabulary: Vocabulary,
    metadata: Mapping[str, str] | None = None,
    *,
    write: Writer = atomic_write,
) -> None:
    """Whole or not at all; equal students give equal bytes."""
    if len(vocabulary) != network.classes:
        names, classes = counted(len(vocabulary), "name"), counted(network.classes, "class", "classes")
        raise WeightsError(f"{path}: {names} for a network of {classes}")
    _write(path, network, vocabulary, metadata, write=write)


def halve_student(
    source: str | Path, path: str | Path, metadata: Mapping[str, str], *, fraction: int | None = None
) -> None:
    """Write the same student in half the bytes, as it ships: it is single again once it is read. fraction: how many
    bits of each weight's fraction are kept, if not all ten of a half float; with fewer, the file packs better.
    """
    student = read_student(source)
    _write(path, student.network, student.vocabulary, {**student.metadata, **metadata}, half=True, fraction=fraction)


def _halved(values: Tensor, fraction: int | None) -> Tensor:
    if fraction is not None:
        mantissa, exponent = torch.frexp(values)  # 0.5 to 1, whose first bit a float does not write
        values = torch.ldexp((mantissa * 2 ** (fraction + 1)).round() / 2 ** (fraction + 1), exponent)
    return values.half()


def _write(
    path: str | Path,
    network: StudentNetwork,
    vocabulary: Vocabulary,
    metadata: Mapping[str, str] | None,
    *,
    half: bool = False,
    fraction: int | None = None,
    write: Writer = atomic_write,
) -> None:
    learnt = network.decoder if isinstance(network, HeadNetwork) else network
    written = {**(metadata or {}), "names": write_names(vocabulary)}
    if isinstance(network, HeadNetwork):
        told = [Backbone(tower.address, tower.channels, tower.fingerprint) for tower in network.own_towers]
        written |= {
            "format": HEAD_FORMAT,
            "network": _HEAD.dump_json(network.settings).decode(),
            "backbones": _BACKBONES.dump_json(told).decode(),
        }
    else:
        written |= {"format": FORMAT, "network": json.dumps(told_of(network.settings), separators=(",", ":"))}
    state = {
        name: _halved(value, fraction) if half and value.is_floating_point() else value
        for name, value in learnt.state_dict().items()
    }
    write_state_dict(path, state, written, write=write)


def write_names(vocabulary: Vocabulary) -> str:
    return json.dumps(dict(zip(vocabulary.names, vocabulary.phrases, strict=True)), ensure_ascii=False)


def read_names(written: str) -> Vocabulary:
    return Vocabulary.of({name: {"instead": phrases} for name, phrases in json.loads(written).items()})


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong with a student's metadata is damage to its file."""
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, VocabularyError) as error:
        why = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} is damaged: its names or its network cannot be read ({why})") from error


def is_student_file(path: str | Path, *kinds: str) -> bool:
    """Return whether `write_student` wrote this, or what writes other `kinds` of students; a published checkpoint is a
    pickle of torch's.
    """
    with Path(path).open("rb") as file:
        if file.read(9)[8:] != b"{":
            return False
    try:
        with safe_open(path, framework="pt") as tensors:
            return (tensors.metadata() or {}).get("format") in (kinds or (FORMAT, HEAD_FORMAT))
    except Exception as error:  # a file cut short; safetensors says how
        raise WeightsError(f"{path} is no readable safetensors file: {error}") from error


def read_student(path: str | Path, backbones: Sequence[str] | None = None) -> Student:
    """On the CPU, in evaluation mode. backbones: where a head's frozen towers are, if no longer where it says."""
    metadata = read_metadata(path)
    kind = metadata.get("format")
    if kind not in (FORMAT, HEAD_FORMAT):
        raise WeightsError(f"{path} is no student: its format is {kind!r}, not {FORMAT!r} or {HEAD_FORMAT!r}")
    if kind == FORMAT and backbones is not None:
        raise WeightsError(f"{path} is a whole network, which stands on no backbones: leave backbones out")
    with reading(path):
        vocabulary = read_names(metadata["names"])
        told = metadata["network"]
        settings = _SETTINGS.validate_json(told) if kind == FORMAT else _HEAD.validate_json(told)
        known = [] if kind == FORMAT else _BACKBONES.validate_json(metadata["backbones"])
    what, state = f"student {path}", read_state_dict(path)
    network: StudentNetwork
    if isinstance(settings, HeadSettings):
        channels = [backbone.channels for backbone in known]
        decoder = built_from(lambda: Decoder(len(vocabulary), channels, settings), state, what=what)
        network = HeadNetwork(find_towers(path, known, backbones), decoder)
    else:
        check_numbers(settings.backbone_options, state, what)
        deeplab = settings
        network = built_from(lambda: DeepLabV3Plus(len(vocabulary), deeplab), state, what=what)
    beside = {key: value for key, value in metadata.items() if key not in OWN}
    return Student(network.eval(), vocabulary, beside)


def tower_of(address: str, compute: Compute = PLAIN) -> Tower:
    """Return the frozen tower at an address of a student that is a whole network, or at one that `tower_at` takes."""
    path = Path(find(address, ROLE).path) if is_brought(address) else file_at(address)
    if path is None or not path.is_file() or not is_student_file(path):
        return tower_at(address, compute)
    network = read_student(path).network
    if isinstance(network, HeadNetwork):
        raise WeightsError(f"{address} is a light head, which stands on frozen encoders itself: give those")
    return StudentTower(address, network.to(compute.device)).eval().requires_grad_(False)


def towers_of(addresses: Sequence[str], compute: Compute = PLAIN) -> list[Tower]:
    return [tower_of(address, compute) for address in addresses]


def find_towers(path: str | Path, known: Sequence[Backbone], backbones: Sequence[str] | None) -> list[Tower]:
    """Return the towers that a head was distilled on, and no others."""
    addresses = [backbone.address for backbone in known] if backbones is None else list(backbones)
    if len(addresses) != len(known):
        raise WeightsError(
            f"{path} stands on {counted(len(known), 'backbone')} ({', '.join(each.address for each in known)}), and "
            f"{len(addresses)} were given: give an address for each, in this order"
        )
    towers = []
    for address, backbone in zip(addresses, known, strict=True):
        try:
            tower = tower_of(address)
        except WordmaskError as error:
            raise WeightsError(
                f"{path} stands on the frozen backbone {backbone.address}, which is not to be had as {address!r} "
                f"({error}): say where it is by backbones=ADDRESS"
            ) from error
        if tower.fingerprint != backbone.fingerprint:
            raise WeightsError(
                f"{path} was distilled on {backbone.address} with other weights than {address!r} has now "
                f"({backbone.fingerprint}, not {tower.fingerprint}): give those by backbones=ADDRESS, or distil anew"
            )
        towers.append(tower)
    return towers
