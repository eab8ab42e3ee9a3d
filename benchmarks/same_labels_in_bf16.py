"""How many pixels keep their label when networks compute in bf16 in place of fp32, with the world's trained weights.

    python benchmarks/same_labels_in_bf16.py [--pictures 50] [--methods maskclip clip-diy clip-dinoiser]

With random weights, as the speed scripts have them, all names score alike and rounding decides; here they do not.
Held-out pictures of all kinds, asked for the world's things and for background, and for all its names.
"""

import argparse

import numpy as np

import wordmask
from wordmask.names.vocabulary import BACKGROUND
from wordmask_world import NAMES, THINGS
from wordmask_world.benchmark import World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--methods", nargs="+", default=["maskclip", "clip-diy", "clip-dinoiser", "selfmask-clip"])
    arguments = parser.parse_args()
    images = [sample.image for sample in World("all", pictures=arguments.pictures)]
    questions = {"things and background": [*THINGS, BACKGROUND], "things and stuff": list(NAMES)}
    print(f"{'method':16}{'asked for':24}same label (%)")
    for method in arguments.methods:
        loaded = [wordmask.load(method, preset="world", precision=precision) for precision in ("fp32", "bf16")]
        for question, names in questions.items():
            answers = [[found.labels for found in each.segment_many(images, names, fill=True)] for each in loaded]
            same = np.mean([np.mean(whole == half) for whole, half in zip(*answers, strict=True)])
            print(f"{method:16}{question:24}{100 * same:.2f}", flush=True)


if __name__ == "__main__":
    main()
