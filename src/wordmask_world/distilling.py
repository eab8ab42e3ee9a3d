"""What `wordmask distill --preset world` does: the paper's steps on small pictures, in minutes on two cores."""

from dataclasses import replace
from typing import Any

from wordmask.distillation.archive import ArchiveSettings
from wordmask.distillation.augmentations import Augmentation
from wordmask.distillation.config import RunConfig
from wordmask.distillation.experts import ExpertSettings
from wordmask.distillation.head_student import HeadStudentSettings
from wordmask.distillation.pseudo_masks import MaskSettings
from wordmask.distillation.student import StudentSettings
from wordmask.segmenters.deeplab import small_resnet_settings
from wordmask.segmenters.head import HeadSettings

VIEWS = Augmentation(crop=96, scale=(0.75, 1.25), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
"""The world's pictures are small: at a tenth of their size nobody would know what is on them. A training of minutes
has no time for colours as strange as the paper's."""
SMALL: dict[str, Any] = {
    "network": small_resnet_settings(),
    "start": "world-clip",
    "augmentation": VIEWS,
    "learning_rate": 3e-3,
    "backbone_rate": 5e-4,
    "save_every": 50,
    "log_every": 10,
    "check_every": 200,
}
"""A small network that has minutes: it learns faster than the paper's. It begins with what CLIP's teacher learnt from
captions. The paper's begins with DINO's ResNet; the world's, which pictures alone have taught, can hardly tell things
apart."""
RUN = RunConfig(
    clip="world",
    templates="photo",
    archive=ArchiveSettings(size=100),
    masks=MaskSettings(side=128),
    experts=ExpertSettings(steps=200, edges="pamr", **SMALL),
    student=StudentSettings(steps=2400, **SMALL),
)
HEAD = HeadStudentSettings(
    backbones=("world:kinds",),
    head=HeadSettings(width=96, fine=48, guide=16, stride=4),
    augmentation=replace(VIEWS, crop=128),
    views=2,
    steps=500,
    learning_rate=2e-3,
    save_every=50,
    log_every=10,
    check_every=100,
)
"""What `--set student.kind=head` makes of it. On the world's CLIP and DINO, which are small, it is worth far less."""
