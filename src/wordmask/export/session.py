"""Opening an ONNX file that `export` wrote."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from wordmask.export.errors import ExportError
from wordmask.extras import need

FORMAT = "wordmask-onnx/1"
METADATA = "wordmask"


def open_session(path: str | Path, threads: int | None = None) -> Any:
    """On the processor. `threads` None leaves it to the runtime."""
    need("onnxruntime")
    import onnxruntime

    if not Path(path).is_file():
        raise ExportError(f"there is no ONNX file {path}; `wordmask export --out {path}` writes one")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class for every way of failing
        raise ExportError(f"{path} cannot be read as ONNX: {str(error).strip().splitlines()[0][:200]}") from error


class Told(BaseModel):
    """What `export` told about the network in the file.

    names: a student's, each with its phrases. settings: all that it was exported with. fixed: those of them that are in
    the graph. text_fingerprint: of the tower that reads the words.
    """

    method: str
    preset: str
    outputs: list[str]
    settings: dict[str, Any]
    names: dict[str, list[str]] | None = None
    patch_size: int | None = None
    text_fingerprint: str | None = None
    fixed: dict[str, Any] | None = None


def read_told(session: Any, path: str | Path) -> Told:
    try:
        data = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
        if data["format"] != FORMAT:
            raise ExportError(f"{path} is in the format {data['format']!r}, and {FORMAT!r} is what can be read")
        told = Told(**data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ExportError(
            f"{path} was not written by `wordmask export`: its {where}: {first['msg'].lower()}"
        ) from error
    except (KeyError, ValueError, TypeError) as error:
        raise ExportError(f"{path} was not written by `wordmask export`") from error
    there = [output.name for output in session.get_outputs()]
    if lacking := [name for name in told.outputs if name not in there]:
        raise ExportError(f"{path} was not written by `wordmask export`: its network has no output {lacking[0]!r}")
    return told
