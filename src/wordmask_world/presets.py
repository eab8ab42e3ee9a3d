"""The preset "world" of every method: the world's own models, and what suits pictures of 128 x 128 pixels."""

from typing import Any

WORLD = "world"
CORRELATED = 0.95
"""Gamma for the values of the world's DINO, of which nearly all correlate above the paper's 0.2. The head that learns
what is above this is read at 0.2, as in the paper."""
SIMILARITY = 0.7
"""The keys of the world's DINO are more alike than the paper's, whose figure is 0.3. Chosen on validation pictures."""

SHARPNESS = 100.0
"""Of the cosines of those values in LPOSS, whose figure is 3. Of 3, 10, 30, 50, 100, 200 and 400 the one that MaskCLIP
gains most by without background, and second most with it, on 60 validation pictures of several things."""

_SLIDING: dict[str, Any] = {
    "shorter_side": 128,
    "window": 128,
    "stride": 64,
    "refine_dino": WORLD,
    "refine_sharpness": SHARPNESS,
}

MASKCLIP: dict[str, Any] = {"clip": WORLD, "templates": "photo", **_SLIDING}
_PATCH_COSINES: dict[str, Any] = {**MASKCLIP, "background_threshold": 0.8}
"""Of 0.1 to 0.99 the best for SCLIP, ClearCLIP and NACLIP on validation pictures, 200, 200 and 100 of them."""
SCLIP: dict[str, Any] = _PATCH_COSINES
CLEARCLIP: dict[str, Any] = _PATCH_COSINES
NACLIP: dict[str, Any] = _PATCH_COSINES
SC_CLIP: dict[str, Any] = {
    **_PATCH_COSINES,
    "background_threshold": 0.7,
    "middle_block": 3,
    "low_block": 1,
    "levels": (1, 4),
    "similarity": 0.7,
}
"""The world's CLIP has 6 blocks: where the paper's lie among 12, and of two ends the better one. Patches are more alike
than the paper's, whose figure is 0.4. Chosen on 150 validation pictures, the threshold too."""
RESCLIP: dict[str, Any] = {**_PATCH_COSINES, "background_threshold": 0.85, "middle_blocks": (2, 4)}
"""Blocks where the paper's lie among 12. The threshold was chosen on 60 validation pictures."""
PROXYCLIP: dict[str, Any] = {
    **_PATCH_COSINES,
    "background_threshold": 0.7,
    "proxy": WORLD,
    "pad_multiple": 8,
    "beta": 1.1,
    "gamma": 200.0,
}
"""The patches of the world's DINO are nearly all alike, half of their cosines above 0.88, so that the paper's figures
would mix all of a picture. Chosen on 60 validation pictures of several things, among betas of 0.8 to 1.2, gammas of 3
to 400 and thresholds of 0.3 to 0.9."""
LPOSS: dict[str, Any] = _PATCH_COSINES
"""Its threshold too is the best of 0.3 to 0.9 on 60 validation pictures; the paper has none."""
CLIP_DIY: dict[str, Any] = {
    "clip": WORLD,
    "templates": "photo",
    "windows": (128, 64, 32),
    "shorter_side": 128,
    "positive": True,
    "saliency_preset": WORLD,
}
CLIP_DINOISER: dict[str, Any] = {
    "clip": WORLD,
    "heads": WORLD,
    "dino": WORLD,
    "dino_threshold": CORRELATED,
    "found_preset": WORLD,
    "templates": "photo",
    **_SLIDING,
}
# By the paper's figures all features of the world's DINO are alike: at a sharpness of 4 the patches of a region are
# just averaged, and at a distance of 0.2 all regions are one. Chosen on pictures from the seed 5,000,000 on, which are
# for validation: a sharpness of 4, 20, 60 and 200; a threshold of 0.1, 0.2, 0.4, 0.6 and 0.8.
CORRCLIP: dict[str, Any] = {
    "clip": WORLD,
    "dino": WORLD,
    "vfm": WORLD,
    "bank_shorter_side": 128,
    "regions_preset": WORLD,
    "templates": "photo",
    "pad_multiple": "patch",
    "sharpness": 60.0,
    "merge_distance": None,
    "background_threshold": 0.6,
    **_SLIDING,
}
TALK2DINO: dict[str, Any] = {
    "clip": WORLD,
    "dino": WORLD,
    "mapper": WORLD,
    "templates": "photo",
    "square": 128,
    "background_threshold": 0.53,
    **_SLIDING,
}
"""The threshold is the best of 0.5, 0.53 and 0.56 on 30 validation pictures, without PAMR."""
RECO: dict[str, Any] = {
    "clip": WORLD,
    "archive_clip": WORLD,
    "encoder": WORLD,
    "templates": "photo",
    "archive_side": 128,
    "context": ("sky", "road", "person"),
    **_SLIDING,
}
SELFMASK_CLIP: dict[str, Any] = {"clip": WORLD, "templates": "photo", "saliency_preset": WORLD}
NAMEDMASK: dict[str, Any] = {"student": WORLD}
FOUND: dict[str, Any] = {"dino": WORLD, "head": WORLD, "zoom": 2}
SEED: dict[str, Any] = {"dino": WORLD, "similarity": SIMILARITY, "zoom": 2}
SELFMASK: dict[str, Any] = {"network": WORLD, "zoom": 2, "archive_side": 256}
SPECTRAL: dict[str, Any] = {"dinos": (WORLD,), "zoom": 2}
# Of a threshold of 0.3, 0.8 and 0.9, a side of 128 and 256, and a rest that is a region or none: by the same pictures.
PANOPTIC_CUT: dict[str, Any] = {"dino": WORLD, "side": 128, "threshold": 0.8, "refine": "none", "rest": "none"}
SPECTRAL_REGIONS: dict[str, Any] = {"dino": WORLD, "zoom": 2}
