"""Segmenters as ONNX files, for services that have no PyTorch, and for wordmask itself."""

from wordmask.export.writing import Agreement, compare, export, quantise, write_words
from wordmask.segmenters.onnx_file import ExportError, load_onnx

__all__ = ["Agreement", "ExportError", "compare", "export", "load_onnx", "quantise", "write_words"]
