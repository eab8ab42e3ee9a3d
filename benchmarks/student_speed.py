"""How fast students learn and segment, as ratios to the plain way, measured in one run.

    python benchmarks/student_speed.py [--crop 384] [--pictures 16] [--threads 1] [--rounds 3]

Samples: the views, colours and pasted things of a batch, against the same pipeline picture by picture with
torchvision's transforms (both on pictures in memory, and with as many pasted things). Inference: pictures of one size
together against one by one, and asking a second question against segmenting anew. Times are of the processor, so that
other processes count for little; the best of the rounds.
"""

import argparse
import random
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from wordmask.distillation.augmentations import Augmentation
from wordmask.distillation.batches import Examples, Samples
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus, small_resnet_settings
from wordmask.segmenters.namedmask import NamedMask
from wordmask.segmenters.student_file import Student
from wordmask_world import NAMES as NAMED
from wordmask_world import draw_scene

IGNORE = 255
NAMES = ["background", *(f"thing {number}" for number in range(20))]


class InMemory:
    """What `Samples` asks of its examples: a picture, a mask, a label, and what of it is pasted."""

    thing = Examples.thing

    def __init__(self, size: tuple[int, int], count: int = 8):
        self.items = []
        for label in range(1, count + 1):
            scene = draw_scene(label, size, kind="single")
            thing = np.isin(scene.labels, [NAMED.index(one.name) for one in scene.objects])
            self.items.append((np.asarray(scene.image), thing, label))

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        return self.items[index]


class PlainWay:
    """The paper's augmentations, one picture after the other, out of torchvision's box."""

    def __init__(self, examples: InMemory, settings: Augmentation, most_pasted: int):
        self.examples, self.settings, self.most_pasted = examples, settings, most_pasted
        kernel = int(0.1 * settings.crop // 2 * 2) + 1
        jitter = v2.ColorJitter(settings.brightness, settings.contrast, settings.saturation, settings.hue)
        self.colours = v2.Compose(
            [
                v2.RandomApply([jitter], settings.jitter),
                v2.RandomGrayscale(settings.grey),
                v2.RandomApply([v2.GaussianBlur(kernel, settings.sigma)], settings.blur),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def view(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask, label = self.examples.read(index)
        crop = self.settings.crop
        scale = random.uniform(*self.settings.scale)
        size = [max(1, round(side * scale)) for side in mask.shape]
        pixels = v2.functional.resize(torch.from_numpy(image).permute(2, 0, 1), size)
        labels = v2.functional.resize(
            torch.from_numpy(mask)[None].to(torch.uint8) * label, size, v2.InterpolationMode.NEAREST
        )
        rest = [max(0, crop - side) for side in size]
        left, top = (random.choice([0, spare]) for spare in (rest[1], rest[0]))
        padding = [left, top, rest[1] - left, rest[0] - top]
        pixels = v2.functional.pad(pixels, padding, fill=pixels.float().mean(dim=(1, 2)).tolist())
        labels = v2.functional.pad(labels, padding, fill=IGNORE)
        y, x = (random.randint(0, side - crop) for side in pixels.shape[-2:])
        pixels, labels = (v2.functional.crop(one, y, x, crop, crop) for one in (pixels, labels))
        if random.random() < self.settings.flip:
            pixels, labels = v2.functional.horizontal_flip(pixels), v2.functional.horizontal_flip(labels)
        return self.colours(pixels), labels[0]

    def at(self, places: range) -> torch.Tensor:
        images = []
        for place in places:
            image, labels = self.view(place % len(self.examples))
            for _ in range(random.randint(1, self.most_pasted) - 1):
                other, other_labels = self.view(random.randrange(len(self.examples)))
                thing = (other_labels > 0) & (other_labels != IGNORE)
                rows, columns = torch.nonzero(thing, as_tuple=True)
                if len(rows):
                    y, x = rows.min(), columns.min()
                    height, width = rows.max() - y + 1, columns.max() - x + 1
                    down = random.randint(0, self.settings.crop - int(height))
                    right = random.randint(0, self.settings.crop - int(width))
                    image[:, rows - y + down, columns - x + right] = other[:, rows, columns]
                    labels[rows - y + down, columns - x + right] = other_labels[rows, columns]
            images.append(image)
        return torch.stack(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crop", type=int, default=384)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", choices=["paper", "world"], default="world")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    random.seed(0)
    crop, count, rounds = arguments.crop, arguments.pictures, arguments.rounds
    size = (crop, crop * 4 // 3)
    print(f"pictures of {size[1]} x {size[0]}, crops of {crop}, batches of {count}; {arguments.threads} thread(s)")

    examples, settings = InMemory(size), Augmentation(crop=crop)
    samples = Samples(examples, settings, most_pasted=2, seed=0, ignore=IGNORE)  # type: ignore[arg-type]
    plain = PlainWay(examples, settings, 2)
    ours = best(lambda: samples.at(range(count)), rounds)
    theirs = best(lambda: plain.at(range(count)), rounds)
    print(f"samples     {ours:6.2f} s a batch, plain {theirs:6.2f} s: {theirs / ours:4.1f} times faster")

    settings_of = {"paper": DeepLabSettings(), "world": small_resnet_settings()}
    network = DeepLabV3Plus(len(NAMES), settings_of[arguments.network])
    batch = samples.at(range(count))
    step = best(lambda: learn(network, batch.images, batch.labels.long()), rounds)
    print(
        f"a step      {step:6.2f} s in the {arguments.network}'s network: with samples {step + ours:.2f} s, "
        f"with plain ones {step + theirs:.2f} s: {(step + theirs) / (step + ours):4.2f} times faster"
    )

    segmenter = NamedMask(Student(network.eval(), Vocabulary.of(NAMES), {}), device="cpu", precision="fp32")
    pictures = [np.asarray(draw_scene(seed, size).image) for seed in range(8)]
    together = best(lambda: segmenter.look_many(pictures, [""] * len(pictures)), rounds) / len(pictures)
    alone = best(lambda: [segmenter.look(picture) for picture in pictures], rounds) / len(pictures)
    whole = best(lambda: segmenter.segment(pictures[0], NAMES), rounds)
    seen = segmenter.look(pictures[0])
    asked = best(lambda: seen.segment(NAMES[:3]), rounds)
    print(f"look        {1000 * together:6.0f} ms a picture together, {1000 * alone:6.0f} ms one by one")
    print(f"ask again   {1000 * asked:6.0f} ms, segment anew {1000 * whole:6.0f} ms: {whole / asked:4.1f} times faster")


def learn(network: DeepLabV3Plus, images: torch.Tensor, labels: torch.Tensor) -> None:
    network.train()
    network.zero_grad()
    F.cross_entropy(network(images), labels, ignore_index=IGNORE).backward()


def best(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the processor's time."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
