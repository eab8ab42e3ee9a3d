"""Packages that only some tasks need, each with the extra of this package that brings it."""

from importlib.util import find_spec

from wordmask.errors import WordmaskError

EXTRA_OF = {
    "pyarrow": "distill",
    "sklearn": "distill",
    "threadpoolctl": "distill",
    "accelerate": "distill",
    "gradio": "app",
    "fastapi": "app",
    "uvicorn": "app",
    "python_multipart": "app",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "cv2": "labels",
    "supervision": "labels",
    "ray": "cluster",
    "upath": "cluster",
    "tensorboard": "curves",
    "pillow_heif": "heic",
    "transformers": "sam",
    "faiss": "faiss",
    "sentencepiece": "tips",
    "fiftyone": "fiftyone",
    "av": "films",
}
"""The name that is imported -> the extra."""
BRINGS = {
    "distill": "`distill`, `search` and the trainings",
    "app": "`serve`: a web page and a REST interface",
    "export": "`export`, networks run from ONNX files, and int8 on processors",
    "labels": "masks for supervision, and archives without faces",
    "cluster": "several machines (Ray), and pictures in object stores",
    "curves": "TensorBoard's curves of a training",
    "heic": "HEIC and HEIF photographs",
    "sam": "regions by SAM 2 or SAM 3, which were trained on masks",
    "faiss": "an approximate index for banks of many millions of regions",
    "tips": "the words of TIPSv2",
    "fiftyone": "masks and label folders for FiftyOne",
    "films": "films: frames in, masks out, masks back as a film",
}
"""The extra -> what it is for."""


class MissingExtraError(WordmaskError):
    """A package is not installed: names it, and the extra that brings it."""


def need(*packages: str) -> None:
    """Refuse where one of these is not installed. Called before any other work; it looks for them and imports none."""
    for package in packages:
        if not is_installed(package):
            raise MissingExtraError(f"{package} is not installed: pip install 'wordmask[{EXTRA_OF[package]}]'")


def is_installed(package: str) -> bool:
    return find_spec(package) is not None
