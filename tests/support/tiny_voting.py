"""FOUND's training and voted masks, small enough for a test."""

from support import plain_saliency
from wordmask.saliency.spectral_voting import VotedMasks, VotingSettings
from wordmask.training.found import FoundTraining


def found_settings(folder, out, **changes):
    options = {"crop": 40, "batch": 2, "steps": 4, "seed_steps": 2, "decay_every": 2, "device": "cpu"}
    return FoundTraining(pictures=folder, out=out, **{**options, "log_every": 1, **changes})


def voters():
    return VotedMasks([plain_saliency.tiny_dino()], VotingSettings(clusters=(2, 3)))
