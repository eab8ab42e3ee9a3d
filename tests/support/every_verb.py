"""Runs every verb under one condition of a hard life, and tells what came of each.

As a script: `python tests/support/every_verb.py CONDITION FOLDER` prints one JSON object, the words of a line -> what
it did. Everything is imported once, and every line runs in a fork of its own, so that it costs what it does and no
start of Python.
"""

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import sys
import time
import tomllib
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
MOST_SECONDS = 60
"""Of the clock, on a machine that does other things too, after which a line is ended."""
WORLD = "--preset world"
NAMES = "--names dog,background"
FEW = "--set steps=2"
FEW_OF_SELFMASK = "--set epochs=1 --set most_pictures=2 --voters world --workers 1"
TINY = {
    "preset": "world",
    "device": "cpu",
    "archive": {"size": 2},
    "masks": {"saliency": "seed", "refine": "none"},
    "experts": None,
    "student": {"steps": 1, "batch": 2},
}
"""A distillation of seconds."""

READING = {
    "segment": f"segment data/images {NAMES} {WORLD} --out masks",
    "segment compare": f"segment data/images {NAMES} {WORLD} --compare --method maskclip --out sheets",
    "saliency": f"saliency data/images {WORLD} --out maps",
    "label": f"label data/images {NAMES} {WORLD} --out labels",
    "embed": f"embed data/images {WORLD} --out embeddings",
    "label convert": "label convert labelled --format yolo --rename dog=hound --out converted",
    "label convert, asking": "label convert labelled --names dog,tree --out asked",
    "search": f"search dog --collection data/images {WORLD} --sheet sheet.html",
    "contrast build": "contrast build data/shards --out contrast.json",
    "bank build": f"bank build data/images {WORLD} --set regions=support.own_regions:halves --out bank",
    "evaluate": f"evaluate --benchmark folder --root data {WORLD} --out evaluated",
    "tables": "tables clip-diy-2 --root data --only w/o --pictures 1 --out-dir tables --out table.html",
    "train-found": f"train-found --images data/images {WORLD} {FEW} --out found",
    "train-selfmask": f"train-selfmask --images data/images {WORLD} {FEW_OF_SELFMASK} --out selfmask",
    "train-dinoiser": f"train-dinoiser --images data/images {WORLD} {FEW} --out dinoiser",
    "train-talk2dino": f"train-talk2dino --captions data/shards {WORLD} --set epochs=1 --set batch=2 --out talk2dino",
    "distill": "distill --config tiny.json --names names.txt --images data/images --out run",
}
"""Verbs that read a folder of pictures."""
DRAWING = {
    "export": f"export {WORLD} --out network.onnx",
    "world make": "world make --out made --count 4 --size 32 --workers 1",
    "world show": "world show --count 2 --out shown.png",
}
"""Verbs that write and read nothing of the user's."""
LOOKING = {
    "methods": "methods",
    "models": "models",
    "doctor": "doctor",
    "tables, all": "tables",
    "help": "distill --help",
}
"""Verbs that write nothing."""
NEEDING_EXTRAS = {
    "serve": f"serve {WORLD} --port 0",
    "serve without a page": f"serve {WORLD} --port 0 --no-page",
    "export": f"export {WORLD} --out network.onnx",
    "segment by onnx": f"segment data/images {NAMES} {WORLD} --runtime onnx --out masks",
    "segment a film": f"segment film.mp4 {NAMES} {WORLD} --out film-masks.mp4",
    "label a film": f"label film.mp4 {NAMES} {WORLD} --out film-labels",
    "saliency, spectral": f"saliency data/images {WORLD} --method spectral --out spectral",
    "demo": "demo --pictures 4",
    **{verb: READING[verb] for verb in ("embed", "search", "train-selfmask", "distill")},
}
NEEDING_OPENCV = {
    "distill without faces": "distill --config faceless.json --names names.txt --images data/images --out faceless",
}
NEEDING_A_NETWORK = {
    "segment": f"segment data/images {NAMES} --out masks",
    "segment compare": f"segment data/images {NAMES} --compare --method maskclip,clip-diy --out sheets",
    "segment, namedmask": "segment data/images --names dog --method namedmask --out masks",
    "segment, clip-dinoiser": f"segment data/images {NAMES} --method clip-dinoiser --out masks",
    "segment, reco": f"segment data/images {NAMES} --method reco --set archive=data/images --out masks",
    "segment, selfmask-clip": f"segment data/images {NAMES} --method selfmask-clip --out masks",
    "segment, a URL": "segment data/images --names dog --method clip-dinoiser --weights https://example.org/w.pt",
    "saliency": "saliency data/images --out maps",
    "label": f"label data/images {NAMES} --out labels",
    "embed": "embed data/images --out embeddings",
    "search": "search dog --collection data/images",
    "bank build": "bank build data/images --out bank",
    "evaluate": "evaluate --benchmark folder --root data --out evaluated",
    "train-found": "train-found --images data/images --out found",
    "train-selfmask": "train-selfmask --images data/images --out selfmask",
    "train-dinoiser": "train-dinoiser --images data/images --out dinoiser",
    "train-talk2dino": "train-talk2dino --captions data/shards --out talk2dino",
    "distill": "distill --names names.txt --images data/images --out run",
    "models": "models --fetch found",
    "models of the hub": "models --fetch clip-vit-b-16-laion2b",
    "serve": "serve --port 0 --no-page",
    "export": "export --out network.onnx",
}
OF_HOURS = {
    "demo": "demo --pictures 4",
    "world train-clip": "world train-clip --out clip --machine cpu",
    "world train-dino": "world train-dino --out dino --machine cpu",
    "world train-kinds": "world train-kinds --out kinds",
}
"""Are not run where nothing stops them."""
LATER: dict[str, dict[str, str]] = {
    "full disk, finished before": READING | DRAWING,
    "source gone": READING,
    "source empty": READING,
}
"""After all these lines have been run once where everything was well."""
CONDITIONS: dict[str, dict[str, str]] = {
    "no extras": NEEDING_EXTRAS | READING | LOOKING,
    "no extra but distill": NEEDING_OPENCV | READING,
    "no network": NEEDING_A_NETWORK,
    "full disk": READING | DRAWING | OF_HOURS,
    **LATER,
}


HEAVY = (
    "wordmask.benchmarks.spreading",
    "wordmask.benchmarks.saliency",
    "wordmask.benchmarks.tables.run",
    "wordmask.cli.compare",
    "wordmask.cli.train_saliency",
    "wordmask.collection.search",
    "wordmask.distillation.pipeline",
    "wordmask.export",
    "wordmask.labelling.convert",
    "wordmask.labelling.run",
    "wordmask.segmenters.bank_building",
    "wordmask.training.clip_dinoiser",
    "wordmask.training.found",
    "wordmask.training.selfmask",
    "wordmask.training.talk2dino",
    "wordmask_world.training.ship",
)
"""What verbs import when they are called."""


def main(condition: str, folder: Path) -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "WORDMASK_CACHE": str(folder / "cache"), "HF_HOME": str(folder / "hub")}
    for switch in ("WORDMASK_OFFLINE", "HF_HUB_OFFLINE"):
        os.environ[switch] = "0" if condition == "no network" else "1"
    if condition.startswith("no extra"):
        forget(packages_of_extras(but="distill" if condition.endswith("distill") else None))
    import_all()
    folder.mkdir(parents=True)
    os.chdir(folder)
    Path("names.txt").write_text("dog\ncat\n")
    Path("film.mp4").write_text("no film")
    Path("tiny.json").write_text(json.dumps(TINY))
    Path("faceless.json").write_text(json.dumps(TINY | {"archive": {"size": 2, "filters": {"faces": "opencv"}}}))
    done("world make --out data --count 4 --size 32 --workers 1")
    done("world make --out data/shards --shards --count 4 --size 128 --workers 1")
    done(f"label data/images {NAMES} {WORLD} --keep-features --out labelled")
    if condition == "no network":
        cut_the_network()
    elif condition == "later":
        for line in (READING | DRAWING).values():
            done(line)
    told = {}
    for each in LATER if condition == "later" else (condition,):
        if each.startswith("source"):
            take_away(empty=each.endswith("empty"))
        before = fill_the_disk if each.startswith("full disk") else None
        told[each] = {name: run(line, before) for name, line in CONDITIONS[each].items()}
    json.dump(told, sys.stdout)


def take_away(*, empty: bool) -> None:
    """The pictures: as if their disk were not there, or as if it were, with nothing on it."""
    if empty:
        for part in ("images", "labels"):
            Path("data", part).mkdir(parents=True)
        shutil.copy("elsewhere/names.txt", "data/names.txt")
    else:
        Path("data").rename("elsewhere")


def done(line: str) -> None:
    told = run(line)
    if told["status"]:
        raise RuntimeError(f"{line}: {told['stderr']}")


def run(line: str, before: Callable[[], None] | None = None) -> dict[str, Any]:
    """One line in a process of its own: its exit status, what it said, what it cost, and which files it changed."""
    from wordmask import cli

    there = files_in(Path())
    pipes = [os.pipe(), os.pipe()]
    start = time.monotonic()
    process = os.fork()
    if not process:
        status = 99
        try:
            os.setsid()
            for stream, (_, write) in enumerate(pipes, start=1):
                os.dup2(write, stream)
            for pair in pipes:
                for end in pair:
                    os.close(end)
            sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115
            sys.argv = ["wordmask", *line.split()]
            if before is not None:
                before()
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    for _, write in pipes:
        os.close(write)
    said = read_all([read for read, _ in pipes], process, start + MOST_SECONDS)
    _, ended, usage = os.wait4(process, 0)
    now = files_in(Path())
    return {
        "status": os.waitstatus_to_exitcode(ended),
        "stdout": said[0],
        "stderr": said[1],
        "seconds": time.monotonic() - start,
        "processor": usage.ru_utime + usage.ru_stime,
        "changed": sorted(path for path in there if now.get(path) != there[path]),
        "lost": sorted(path for path in there if path not in now),
        "new": sorted(path for path in now if path not in there and now[path][0]),
        "new and empty": sorted(path for path in now if path not in there and not now[path][0]),
    }


def read_all(pipes: list[int], process: int, deadline: float) -> list[str]:
    """What comes out of pipes until all who hold them are gone, or the time is up: then they are ended."""
    import selectors

    texts = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as waiting:
        for pipe in pipes:
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                os.killpg(process, signal.SIGKILL)
                deadline = time.monotonic() + MOST_SECONDS
            for key, _ in ready:
                if content := os.read(key.fd, 2**16):
                    texts[key.fd] += content
                else:
                    waiting.unregister(key.fd)
                    os.close(key.fd)
    return [texts[pipe].decode(errors="replace") for pipe in pipes]


def files_in(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file: its size and a digest of its content. One that is written again with the same content is the same."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found[str(path.relative_to(folder))] = (len(content), hashlib.sha256(content).hexdigest())
    return found


def import_all() -> None:
    """What verbs import, so that their forks need not."""
    import torch

    from wordmask.extras import MissingExtraError

    torch.set_num_threads(1)
    for module in HEAVY:
        with suppress(MissingExtraError):
            import_module(module)


def fill_the_disk() -> None:
    """No file can grow by a byte. The system says so with EFBIG, which counts as a full disk; folders can be made."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def cut_the_network() -> None:
    """All ways lead through a port at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
    os.environ |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere) | {"no_proxy": ""}


def forget(modules: set[str]) -> None:
    """These cannot be found any more, as if they had never been installed."""

    class Without:
        def __init__(self, finder: Any):
            self.finder = finder

        def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
            return None if name.partition(".")[0] in modules else self.finder.find_spec(name, path, target)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.finder, name)

    sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]  # type: ignore[misc]


def project() -> dict[str, Any]:
    told: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return told


def extras() -> dict[str, list[str]]:
    needs: dict[str, list[str]] = project()["optional-dependencies"]
    return needs


def packages_of_extras(but: str | None = None) -> set[str]:
    """The modules of all that only the extras bring, or all of them but one."""
    core = installed_by([*project()["dependencies"], *(extras()[but] if but else ())])
    brought = installed_by([need for needs in extras().values() for need in needs])
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if {normal(owner) for owner in owners} <= brought - core - {"wordmask"}
    }


def installed_by(requirements: list[str]) -> set[str]:
    """The distributions that these bring, with all that they need in turn."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    asked = set()
    waiting = [(Requirement(each), "") for each in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if (str(requirement), extra) in asked or (
            requirement.marker and not requirement.marker.evaluate({"extra": extra})
        ):
            continue
        asked.add((str(requirement), extra))
        try:
            needs = metadata.requires(requirement.name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(normal(requirement.name))
        waiting += [(Requirement(need), own) for need in needs for own in ("", *requirement.extras)]
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
