"""A pipeline whose CLIP, saliency and teacher know colours, also in processes of its own."""

from support.tiny_collection import ColourClip
from support.tiny_run import Bright
from support.tiny_teacher import ColourTeacher
from wordmask.distillation.pipeline import Pipeline


class Tiny(Pipeline):
    clip, saliency, teacher = ColourClip(), Bright(), ColourTeacher()  # type: ignore[assignment]
