"""Trainings that the system kills, at any moment: started again, they end as if nothing had happened."""

import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from wordmask.training.checkpoints import CHECKPOINT, read_checkpoint
from wordmask_world.files.training_file import write_array

pytestmark = pytest.mark.slow

_RUN = """
import sys
from pathlib import Path
from wordmask_world.training import figures
from wordmask_world.training.batches import Stage
from wordmask_world.training.clip_teacher import ClipArchitecture, ClipTeacherSettings, train_clip_teacher
from wordmask_world.training.dino import DinoSettings, train_dino
figures.NAMED_PICTURES = figures.SOUGHT_PICTURES = figures.MASKED_PICTURES = 4
recipe, pictures, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
common = dict(precision="fp32", pictures=pictures, out=out, threads=1, log_every=1, save_every=2,
              channels=(8, 12, 16, 20), stages=(Stage(pictures=160, size=32, batch=4),))
if recipe == "teacher":
    tiny = ClipArchitecture(embedding=16, image_size=32, width=32, head_width=16, text_width=16, text_blocks=1,
                            text_heads=2)
    train_clip_teacher(ClipTeacherSettings(architecture=tiny, **common))
else:
    train_dino(DinoSettings(network=recipe, image_size=32, width=24, blocks=2, heads=2, prototypes=16, hidden=16,
                            bottleneck=8, local_crops=1, local_size=16, **common))
"""


@pytest.mark.parametrize("recipe", ["teacher", "vit", "resnet"])
def test_a_training_killed_by_the_system_ends_like_one_never_killed(recipe, tmp_path):
    pictures = write_array(tmp_path / "train.npy", 24, size=32)

    def start(out):
        return subprocess.Popen([sys.executable, "-c", _RUN, recipe, str(pictures), str(tmp_path / out)])

    assert start("whole").wait() == 0
    chance, kills = random.Random(0), 0
    while True:
        log = tmp_path / "killed" / "log.jsonl"
        child = start("killed")
        more = _lines(log) + chance.randint(3, 12)
        while child.poll() is None and _lines(log) < more:
            time.sleep(0.002)
        if child.poll() is not None:
            assert child.returncode == 0
            break
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
    assert kills >= 3
    whole, killed = (read_checkpoint(tmp_path / out / CHECKPOINT)["averaged"] for out in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    for name, value in whole.items():
        assert torch.equal(value, killed[name]), name


def _lines(log):
    return log.read_bytes().count(b"\n") if log.exists() else 0
