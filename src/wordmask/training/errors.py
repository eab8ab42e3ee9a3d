"""What stops a training that would teach nothing."""

from wordmask.errors import WordmaskError


class TrainingError(WordmaskError):
    """This run cannot begin, or cannot go on."""
