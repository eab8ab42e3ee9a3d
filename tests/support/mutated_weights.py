"""Reads weight files whose bytes were changed at random, and prints what it came to; run by `test_weights_mutated`.

In a process of its own: a reader may end it, and its memory is bounded.
"""

import json
import pickle
import random
import resource
import signal
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from support.tiny_run import NETWORK
from wordmask.encoders.clip_building import load_clip_folder
from wordmask.errors import WordmaskError
from wordmask.names.vocabulary import Vocabulary
from wordmask.saliency.found import load_head
from wordmask.saliency.selfmask import load_network, write_network
from wordmask.saliency.selfmask_network import SelfMaskNetwork, SelfMaskShape
from wordmask.segmenters.clip_dinoiser import DinoiserHeads, load_heads
from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus
from wordmask.segmenters.student_file import is_student_file, read_student, write_student
from wordmask.weights.loading import read_embedding_pickle, read_metadata, read_state_dict, write_state_dict

ROOM = 2 * 2**30
"""Addresses that reading one may take beside what the process has; torch itself takes some for its threads."""
SECONDS = 20
STATE = {"weight": torch.arange(600.0).reshape(20, 30), "bias": torch.ones(20), "half": torch.ones(5).half()}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


def files(folder: Path) -> list[tuple[Path, Callable[[Path], Any]]]:
    """Every kind of weights, small, and its reader."""
    torch.manual_seed(0)
    write_state_dict(folder / "plain.safetensors", STATE, {"a": "b"})
    torch.save({"model": STATE, "epoch": 3}, folder / "zip.pt")
    torch.save(STATE, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    (folder / "embeddings.pkl").write_bytes(pickle.dumps({f"n{i}_{i}.JPEG": torch.randn(8) for i in range(3)}))
    torch.jit.script(Block()).save(folder / "script.pt")
    network = DeepLabV3Plus(2, DeepLabSettings(**NETWORK))
    write_student(folder / "student.safetensors", network, Vocabulary.of(["background", "dog"]), {"steps": "1"})
    torch.save({"decoder": {"weight": torch.ones(1, 6, 1, 1), "bias": torch.ones(1)}}, folder / "found.pt")
    torch.save({"model_state_dict": DinoiserHeads(4, 8).state_dict()}, folder / "heads.pt")
    shape = SelfMaskShape(image_size=16, patch=8, width=8, blocks=1, heads=2, queries=2, layers=1)
    write_network(folder / "selfmask.safetensors", SelfMaskNetwork(shape))

    def read_plainly(path: Path) -> None:
        read_state_dict(path, unwrap=("model",), strip=("module.",))
        if path.suffix == ".safetensors":
            read_metadata(path)

    def read_any_student(path: Path) -> None:
        is_student_file(path)
        read_student(path)

    readers = {
        "plain.safetensors": read_plainly,
        "zip.pt": read_plainly,
        "legacy.pt": read_plainly,
        "embeddings.pkl": read_embedding_pickle,
        "script.pt": read_plainly,
        "student.safetensors": read_any_student,
        "found.pt": load_head,
        "heads.pt": load_heads,
        "selfmask.safetensors": load_network,
    }
    return [(folder / name, reader) for name, reader in readers.items()]


def bombs(folder: Path) -> list[tuple[str, Path, Callable[[Path], Any]]]:
    """Files of some kilobytes that ask for gigabytes."""
    network = DeepLabV3Plus(2, DeepLabSettings(**NETWORK))
    student = folder / "student.safetensors"
    write_student(student, network, Vocabulary.of(["background", "dog"]))
    told, state = read_metadata(student), network.state_dict()
    made = []

    def asking(name: str, **settings: Any) -> None:
        path = folder / f"{name}.safetensors"
        described = {**json.loads(told["network"]), **settings}
        write_state_dict(path, state, {**told, "network": json.dumps(described)})
        made.append((name, path, read_student))

    options = NETWORK["backbone_options"]
    asking("width", width=30_000)
    asking("low_width", low_width=10**12)
    asking("rates", rates=[1] * 20_000)
    asking("large rate", rates=[10**9])
    asking("blocks", backbone_options={**options, "layers": [10**7] * 4})
    asking("some blocks", backbone_options={**options, "layers": [4000] * 4})
    asking("channels", backbone_options={**options, "channels": [4000] * 4})
    asking("other network", backbone="resnet152", backbone_options={})
    (folder / "memo.pkl").write_bytes(b"\x80\x02}r" + (2**30).to_bytes(4, "little") + b".")
    (folder / "bytes.pkl").write_bytes(b"\x80\x04\x8e" + (2**36).to_bytes(8, "little") + b"ab.")
    (folder / "bytearray.pkl").write_bytes(b"\x80\x05\x96" + (2**32).to_bytes(8, "little") + b"ab.")
    made += [(name, folder / name, read_embedding_pickle) for name in ("memo.pkl", "bytes.pkl", "bytearray.pkl")]
    for name in ("zip bomb", "script bomb"):
        with zipfile.ZipFile(folder / f"{name}.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("a/data.pkl", "w", force_zip64=True) as entry:
                for _ in range(600):
                    entry.write(bytes(2**20))
            archive.writestr("a/version", "3")
            if name == "script bomb":
                archive.writestr("a/constants.pkl", "")
        made.append((name, folder / f"{name}.pt", read_state_dict))
    torch.save({"w": torch.ones(1).expand(2**30, 8)}, folder / "repeated.pt")
    made.append(("repeated", folder / "repeated.pt", read_state_dict))
    torch.save({"weight": torch.ones(0, 2**34, 1, 1), "bias": torch.ones(1)}, folder / "empty.pt")
    made.append(("empty tensor", folder / "empty.pt", load_head))
    shape = SelfMaskShape(image_size=16, patch=8, width=8, blocks=1, heads=2, queries=2, layers=1)
    last = {**SelfMaskNetwork(shape).state_dict(), "encoder.blocks.99999999.norm1.weight": torch.ones(8)}
    torch.save(last, folder / "many blocks.pt")
    made.append(("many blocks", folder / "many blocks.pt", load_network))
    clip = folder / "clip"
    clip.mkdir()
    write_state_dict(clip / "open_clip_model.safetensors", STATE, {})
    vision = {"image_size": 224, "layers": 12, "width": 3_200, "patch_size": 16}
    words = {"context_length": 77, "vocab_size": 4_000, "width": 3_200, "heads": 8, "layers": 40}
    config = {"model_cfg": {"embed_dim": 4000, "vision_cfg": vision, "text_cfg": words}, "preprocess_cfg": {}}
    (clip / "open_clip_config.json").write_text(json.dumps(config))
    made.append(("clip", clip, load_clip_folder))
    return made


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Most changes are where the file says what is in it, and not among the values."""
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 4))):
        place = min(int(dice.paretovariate(0.4)) - 1, len(changed) - 1) if dice.random() < 0.6 else None
        place = dice.randrange(len(changed)) if place is None else place
        kind = dice.randrange(7)
        if kind == 0:
            changed[place] ^= 1 << dice.randrange(8)
        elif kind == 1:
            changed[place] = dice.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            changed[place : place + 4] = dice.choice(
                (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x10", bytes(4))
            )
        elif kind == 3:
            del changed[place : place + dice.choice((1, 4, 100))]
        elif kind == 4:
            changed[place:place] = dice.choice((b"r\xff\xff\xff\x3f", b"9" * 30, b"0", b"\x8d" + b"\xff" * 7 + b"\0"))
        elif kind == 5:
            other = dice.randrange(len(changed))
            changed[place : place + 16] = changed[other : other + 16]
        else:
            digits = [at for at, byte in enumerate(changed[:4000]) if 48 <= byte < 58]
            if digits:
                changed[(at := dice.choice(digits)) : at + 1] = dice.choice((b"99999", b"-1", b"0", b"1e9"))
        if not changed:
            return b""
    return bytes(changed)


def bounded() -> None:
    """Let this process have little more than it has, and be interrupted."""

    def late(*_: object) -> None:
        raise TimeoutError("it took too long")

    signal.signal(signal.SIGALRM, late)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, resource.RLIM_INFINITY))


def read_bombs() -> None:
    """How many megabytes the largest took so far, and what was said, for every one."""
    with tempfile.TemporaryDirectory() as place:
        made = bombs(Path(place))
        read_student(Path(place) / "student.safetensors")
        bounded()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        told = {}
        for name, path, reader in made:
            signal.alarm(SECONDS)
            try:
                reader(path)
                said = "read"
            except BaseException as error:
                said = f"{'' if isinstance(error, WordmaskError) else 'foreign '}{type(error).__name__}: {error}"
            finally:
                signal.alarm(0)
            told[name] = [(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, said]
    print(json.dumps(told))


def main(first: int, count: int) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    foreign, outcomes = [], {"read": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as place:
        known = files(Path(place))
        for path, reader in known:
            reader(path)  # what is loaded only now is none of a mutant's doing
        bounded()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        originals = {path: path.read_bytes() for path, _ in known}
        for number in range(first, first + count):
            path, reader = known[number % len(known)]
            path.write_bytes(mutated(originals[path], random.Random(number)))
            signal.alarm(SECONDS)
            try:
                reader(path)
                outcomes["read"] += 1
            except WordmaskError as error:
                outcomes["refused"] += 1
                if "\n" in str(error) or len(str(error)) > 3000:
                    foreign.append([number, path.name, f"a long message: {str(error)[:300]!r}"])
            except BaseException as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                foreign.append([number, path.name, f"{type(error).__name__}: {error} at {last.name}:{last.lineno}"])
            finally:
                signal.alarm(0)
            path.write_bytes(originals[path])
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**outcomes, "foreign": foreign, "grown": (after - before) / 1024}))


if __name__ == "__main__":
    read_bombs() if sys.argv[1:] == ["bombs"] else main(int(sys.argv[1]), int(sys.argv[2]))
