"""docs/faithful.md: its code and its tests are there. And figures of the papers that no other test holds."""

import re
from pathlib import Path

import pytest
from torch import nn

import wordmask
from wordmask.benchmarks.names import imagenet_names
from wordmask.distillation import experts, student
from wordmask.distillation.augmentations import Augmentation
from wordmask.distillation.config import PRESETS as RUNS
from wordmask.saliency.found import SeedSettings
from wordmask.saliency.selfmask import SelfMaskSettings
from wordmask.saliency.spectral_voting import VotingSettings
from wordmask.segmenters import clip_dinoiser, reco
from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus, small_resnet_settings
from wordmask.segmenters.reco_prototypes import ATTENTION_SCALE

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "faithful.md"
PACKAGE = Path(wordmask.__file__).parent


def quoted(pattern):
    return sorted({found for text in re.findall(r"`([^`]+)`", PAGE.read_text()) for found in re.findall(pattern, text)})


def test_every_test_that_the_page_names_is_there():
    code = "\n".join(path.read_text() for path in TESTS.glob("test_*.py"))
    known = set(re.findall(r"^def (test_\w+)", code, re.M))
    named = quoted(r"\btest_\w+(?!\w|\.py)")
    assert len(named) > 60
    for name in named:
        assert any(other == name or (name.endswith("_") and other.startswith(name)) for other in known), name


def test_every_file_that_the_page_names_is_there():
    files = quoted(r"[\w/]+\.py\b")
    assert len(files) > 20
    for file in files:
        assert (PACKAGE / file).exists() or (TESTS.parent / file).exists(), file


def test_every_name_of_code_that_the_page_gives_is_there():
    """Not that it does what the row says: that is for the row's test."""
    code = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| ") and "`" in line]
    names = {name for row in rows for name in re.findall(r"`(\w+(?:\.(?!py`)\w+)?)`", row[2])}
    assert len(names) > 40
    for name in names:
        for part in name.split("."):
            assert re.search(rf"\b{part}\b", code), name


def test_reco_s_figures_are_the_paper_s():
    paper = reco.PRESETS["paper"]
    assert (paper.pictures, paper.background_threshold) == (50, 0.9)
    assert paper.context == ("tree", "sky", "building", "road", "person")
    assert paper.recipe.context == paper.context
    assert (paper.text_attention, paper.clip_at_inference, ATTENTION_SCALE) == (True, True, 10)
    assert (paper.clip, paper.archive_clip, paper.templates) == ("RN50x16/openai", "ViT-L-14-336/openai", "imagenet-85")


def test_clip_dinoiser_s_figures_are_the_paper_s():
    paper = clip_dinoiser.PRESETS["paper"]
    assert (paper.clip, paper.templates) == ("ViT-B-16/laion2b_s34b_b88k", "imagenet-80")
    assert (paper.affinity_threshold, paper.confidence) == (0.2, 0.99)
    assert (paper.affinity, paper.background) == ("trained", "trained")
    assert (paper.shorter_side, paper.window, paper.stride) == (448, 448, 224)


def test_found_s_and_selfmask_s_figures_are_the_papers():
    assert SeedSettings().similarity == 0.3
    assert VotingSettings().clusters == (2, 3, 4)
    assert SelfMaskSettings().archive_side == 512


def test_namedmask_s_network_is_the_paper_s():
    settings = DeepLabSettings()
    assert (settings.backbone, settings.output_stride, settings.rates) == ("resnet50", 8, (12, 24, 36))
    assert (settings.width, settings.low_width, settings.backbone_momentum) == (256, 48, 0.01)
    small = DeepLabV3Plus(2, small_resnet_settings())
    assert [part.p for part in small.classifier.modules() if isinstance(part, nn.Dropout)] == [0.1]
    for presets in (experts.PRESETS, student.PRESETS):
        assert (presets["paper"].network, presets["paper"].start) == (settings, "dino-resnet50")
    pace = student.PRESETS["paper"].learning_rate / student.PRESETS["paper"].backbone_rate
    assert pace == pytest.approx(10)


def test_views_are_the_paper_s():
    paper = Augmentation()
    assert (paper.crop, paper.scale) == (384, (0.1, 1.0))
    assert (paper.brightness, paper.contrast, paper.saturation, paper.hue) == (0.8, 0.8, 0.8, 0.2)


def test_imagenet_s_is_searched_with_the_clip_and_the_schedules_of_the_paper():
    config = RUNS["imagenet-s"]
    assert (config.clip, config.archive.size, config.templates) == ("ViT-L-14/openai", 500, "imagenet-85")
    assert (config.experts.steps, config.experts.batch, config.student.steps) == (10_000, 16, 80_000)


def test_cranes_and_cardigans_are_told_apart_as_in_the_paper():
    names = imagenet_names(["n02012849", "n03126707", "n02963159", "n02113186", "n02106662"]).names
    assert {"crane bird", "tower crane", "cardigan sweater", "cardigan welsh corgi"} < set(names)
    assert len(set(names)) == 6
