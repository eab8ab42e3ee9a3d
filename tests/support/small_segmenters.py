"""Open-vocabulary segmenters on a small CLIP, and a small student."""

import numpy as np
import torch

from support.small_archive import TINY
from support.small_clip import WIDTH, small_clip
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.clip_dinoiser import ClipDinoiser, ClipDinoiserSettings, DinoiserHeads
from wordmask.segmenters.clip_diy import ClipDiy, ClipDiySettings
from wordmask.segmenters.deeplab import DeepLabV3Plus
from wordmask.segmenters.namedmask import NamedMask
from wordmask.segmenters.student_file import Student

SIDE = 48


def all_objects(images):
    return [np.full(image.shape[:2], 0.75, np.float32) for image in images]


def segmenter(method):
    torch.manual_seed(0)
    clip = small_clip()
    if method == "clip-diy":
        windows = ClipDiySettings(windows=(32, 16), shorter_side=SIDE, longest_side=256)
        return ClipDiy(clip, windows, objectness=all_objects)
    sliding = ClipDinoiserSettings(templates="photo", shorter_side=SIDE, longest_side=256, window=SIDE, stride=24)
    return ClipDinoiser(clip, DinoiserHeads(WIDTH, 8), sliding)


def small_student(names, told=None):
    torch.manual_seed(2)
    network, vocabulary = DeepLabV3Plus(len(names), TINY).eval(), Vocabulary.of(names)
    return NamedMask(Student(network, vocabulary, told or {}), device="cpu", precision="fp32")


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
