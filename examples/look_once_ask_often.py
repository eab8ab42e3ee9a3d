"""The network looks at a picture once; after that any names cost milliseconds.

python examples/look_once_ask_often.py [PICTURE]
"""

import sys
import time

import wordmask
from wordmask_world import draw_scene


def main() -> None:
    picture = sys.argv[1] if len(sys.argv) > 1 else draw_scene(21, 256, kind="pairs").image
    segmenter = wordmask.load("maskclip", preset="world")  # preset="paper" for photographs
    start = time.perf_counter()
    seen = segmenter.look(picture)
    print(f"looked in {1000 * (time.perf_counter() - start):.0f} ms")
    for names in (["boat", "water", "sky", "hedge"], ["boat", "sea"], ["boat", "water", "sky", "hedge", "bridge"]):
        start = time.perf_counter()
        result = seen.segment(names)  # what none of them names is background
        shares = {name: f"{count / result.labels.size:.0%}" for name, count in result.pixels.items()}
        print(f"{shares} in {1000 * (time.perf_counter() - start):.0f} ms")


if __name__ == "__main__":
    main()
