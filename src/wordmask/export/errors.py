"""What can go wrong with ONNX files."""

from wordmask.errors import WordmaskError


class ExportError(WordmaskError):
    """A segmenter that has no ONNX form, a file that is none, or one that does not do what the segmenter does."""
