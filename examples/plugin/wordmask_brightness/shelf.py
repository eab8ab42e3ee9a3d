"""A scheme of this package's own: `shelf:NAME` is a weight file in the folder that the variable SHELF names."""

import os
from pathlib import Path

from wordmask.errors import WordmaskError
from wordmask.weights.addresses import Found


def find(name: str) -> Found:
    """Return what `shelf:NAME` stands for."""
    path = Path(os.environ.get("SHELF", "shelf")) / name
    if not path.is_file():
        raise WordmaskError(f"shelf:{name} would be {path}, which is not there: let SHELF name the folder that has it")
    return Found(path, name=f"shelf/{name}")
