"""Count the files of the package that a verb can reach by imports: how much there is to read, and to break.

    python scripts/closure.py [--src src] [--list segment] [--run]

From `cli/VERB.py` every import is followed, those inside functions too; those for type checkers alone are not. What a
registry names by a string is followed for the verb's default method. A package that is merely on the way to a module
is not followed. `--list` prints the files of one verb; `--run` also segments a picture with the default method on the
built-in world's weights, and counts what that has imported.
"""

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("wordmask", "wordmask_world")
VERBS = {
    "segment": "wordmask.segmenters.clip_dinoiser",
    "distill": "wordmask.saliency.selfmask",
    "tables": "wordmask.segmenters.clip_dinoiser",
}
"""And the module of each one's default method, which a registry names."""
HOMES = ("cli", "commands")
"""Where a verb's module is, or its two."""


def modules_in(source: Path) -> dict[str, Path]:
    """Return every module's path, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in (source / package).rglob("*.py"):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(tree: ast.AST, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the package's modules that a file imports, in its functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            own = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in own if name in modules)
            if not all(name in modules for name in own):
                yield node.module
        else:
            yield from imports_of(node, modules)


def closure(source: Path, verb: str) -> set[Path]:
    """Return the files that the verb's module reaches, itself included."""
    modules = modules_in(source)
    todo = [name for home in HOMES if (name := f"wordmask.{home}.{verb}") in modules]
    if not todo:
        raise SystemExit(f"{source} has no verb {verb}")
    todo.append(VERBS[verb])
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += imports_of(ast.parse(modules[name].read_text(encoding="utf-8")), modules)
    return {modules[name] for name in seen}


PROGRAM = """
import sys
import numpy as np
import wordmask

wordmask.load(preset="world").segment(np.zeros((96, 128, 3), np.uint8), ["dog", "grass"])
own = [module for name, module in sys.modules.items() if name.split(".")[0] in ("wordmask", "wordmask_world")]
print(*(module.__file__ for module in own), sep="\\n")
"""


def imported_by_a_picture(source: Path) -> list[Path]:
    """Return the files that segmenting one picture imports, but for those that hold a docstring alone."""
    environment = {**os.environ, "PYTHONPATH": str(source.resolve())}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    files = [Path(line) for line in done.stdout.splitlines()]
    return [path for path in files if len(ast.parse(path.read_text(encoding="utf-8")).body) > 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--src", type=Path, default=Path(__file__).parents[1] / "src")
    parser.add_argument("--list", choices=VERBS)
    parser.add_argument("--run", action="store_true")
    chosen = parser.parse_args()
    if chosen.list:
        print(*sorted(str(path.relative_to(chosen.src)) for path in closure(chosen.src, chosen.list)), sep="\n")
        return
    for verb in VERBS:
        files = closure(chosen.src, verb)
        lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
        print(f"{verb:8} {len(files):4} files {lines:6} lines")
    if chosen.run:
        print(f"a picture segmented has imported {len(imported_by_a_picture(chosen.src))} files")


if __name__ == "__main__":
    main()
