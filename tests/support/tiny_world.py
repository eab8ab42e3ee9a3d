"""The world's trainings, small enough for a test."""

from pathlib import Path

from wordmask_world.training.batches import Stage
from wordmask_world.training.clip import ClipSettings
from wordmask_world.training.clip_teacher import ClipArchitecture, ClipTeacherSettings

TINY = ClipArchitecture(
    embedding=16, image_size=32, width=32, blocks=6, head_width=16, text_width=16, text_blocks=1, text_heads=2
)

CHANNELS = (8, 12, 16, 20)


def teacher_settings(pictures: Path, out: Path, **changes: object) -> ClipTeacherSettings:
    stages = (Stage(pictures=8, size=32, batch=4), Stage(pictures=8, size=32, batch=4))
    options = {"architecture": TINY, "channels": CHANNELS, "precision": "fp32", "log_every": 1, **changes}
    return ClipTeacherSettings(pictures=pictures, out=out, stages=stages, **options)


def student_settings(pictures: Path, teacher: Path, out: Path, **changes: object) -> ClipSettings:
    stages = (Stage(pictures=4, size=32, batch=4), Stage(pictures=8, size=32, batch=4, keep=0.5))
    options = {"architecture": TINY, "teacher_channels": CHANNELS, "precision": "fp32", "log_every": 1, **changes}
    return ClipSettings(pictures=pictures, out=out, teacher=teacher, stages=stages, **options)
