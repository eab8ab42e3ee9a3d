"""Opening an ONNX file that `export` wrote."""

import json
from pathlib import Path
from typing import Any

from wordmask.export.errors import ExportError

FORMAT = "wordmask-onnx/1"
METADATA = "wordmask"


def open_session(path: str | Path, threads: int | None = None) -> Any:
    """On the processor. `threads` None leaves it to the runtime."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError("onnxruntime is not installed: pip install 'wordmask[export]'") from error
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


def read_told(session: Any, path: str | Path) -> dict[str, Any]:
    """What `export` told about the network in the file."""
    try:
        told: dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
        if told["format"] != FORMAT:
            raise ExportError(f"{path} is in the format {told['format']!r}, and {FORMAT!r} is what can be read")
    except (KeyError, ValueError, TypeError) as error:
        raise ExportError(f"{path} was not written by `wordmask export`") from error
    return told
