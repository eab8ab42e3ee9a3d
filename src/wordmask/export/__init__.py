"""Segmenters as ONNX files, for services that have no PyTorch, and for wordmask itself."""

from wordmask.export.errors import ExportError
from wordmask.export.runtime import load_onnx
from wordmask.export.writing import Agreement, compare, export, quantise, write_words

__all__ = ["Agreement", "ExportError", "compare", "export", "load_onnx", "quantise", "write_words"]
