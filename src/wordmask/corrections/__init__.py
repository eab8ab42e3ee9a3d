"""What a person said of pictures and their masks: a small file that labels, exports and distillation honour."""

from wordmask.corrections.file import (
    ACCEPTED,
    FILE_NAME,
    REJECTED,
    Correction,
    Corrections,
    CorrectionsError,
    MaskVerdict,
    read_corrections,
    write_corrections,
)

__all__ = [
    "ACCEPTED",
    "FILE_NAME",
    "REJECTED",
    "Correction",
    "Corrections",
    "CorrectionsError",
    "MaskVerdict",
    "read_corrections",
    "write_corrections",
]
