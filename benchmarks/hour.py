"""The hour of docs/hour.md as it stands there: every command of the page in its order, and how long each step took.

python benchmarks/hour.py [--out DIR] [--pictures 400] [--steps N] [--without-browser] [--screenshots DIR]

In the review ten pictures are judged by the keyboard, in a real browser (Chromium, by playwright): a mask is right
where its intersection with a drawn thing is half of their union or more. Without a browser the same verdicts
are written as a file. `--pictures` and `--steps` (of each training) are for a run in small.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from wordmask.compute import cores, processor
from wordmask.corrections import ACCEPTED, FILE_NAME, REJECTED, Correction, MaskVerdict, write_corrections
from wordmask.corrections.run_lengths import lengths_of, mask_of
from wordmask.html_page import text_table
from wordmask.labelling.review import DATA, INDEX, masks_file, read_script
from wordmask_world import NAMES

PAGE = Path(__file__).parents[1] / "docs" / "hour.md"
SETTING_UP = "Install"
"""The step that is not taken here: whoever runs this has done so."""
ADDRESS = "127.0.0.1:8000"
SERVE = "wordmask serve "
JUDGED = 10
RIGHT = 0.5
"""Intersection over union with a thing's own pixels, from which on a mask is taken for right."""
LEAST = 32
"""Pixels of a thing that a person would miss if it had no mask: `label --min-area` leaves smaller ones out."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUALITY = 70
"""Of the page's pictures, as JPEG."""
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass(frozen=True)
class Step:
    """A section of the page: its heading, and the blocks of commands in it."""

    name: str
    blocks: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a new folder to work in")
    parser.add_argument("--pictures", type=int, help="in place of the page's")
    parser.add_argument("--steps", type=int, help="of each training, in place of the page's")
    parser.add_argument("--without-browser", action="store_true")
    parser.add_argument("--screenshots", type=Path, help="a folder for what was seen, as the page shows it")
    told = parser.parse_args()
    out = told.out or Path(tempfile.mkdtemp(prefix="wordmask-hour-"))
    out.mkdir(parents=True, exist_ok=True)
    if told.screenshots is not None:
        told.screenshots.mkdir(parents=True, exist_ok=True)
    text = PAGE.read_text()
    if told.pictures is not None:
        text = otherwise(text, r"--count 400\b", f"--count {told.pictures}")
    if told.steps is not None:
        text = otherwise(text, r"\.steps=\d+", f".steps={told.steps}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    rows = []
    for step in steps_of(text):
        start = time.perf_counter()
        take(step, out, address, told.screenshots, browser=not told.without_browser)
        rows.append([step.name, f"{time.perf_counter() - start:.0f}"])
    print(f"\n{processor().name}, {cores()[0]} cores; {out}")
    print(text_table(["step", "seconds"], rows))


def otherwise(text: str, pattern: str, new: str) -> str:
    text, count = re.subn(pattern, new, text)
    if not count:
        raise SystemExit(f"{PAGE}: there is no {pattern} in it")
    return text


def steps_of(page: str) -> Iterator[Step]:
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        name, _, text = section.partition("\n")
        blocks = tuple(re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
        if blocks and name != SETTING_UP:
            yield Step(name, blocks)


def take(step: Step, out: Path, address: str, screenshots: Path | None, *, browser: bool) -> None:
    """Do what a section says. A service that it starts runs until the section's end, as in a terminal of its own."""
    first, *others = step.blocks
    if not first.startswith(SERVE):
        for block in step.blocks:
            shell(block, out)
        return
    port = address.partition(":")[2]
    with served(f"{first.rstrip()} --port {port}", out, address):
        if "--review" in first:
            judge(out, f"http://{address}/review/", screenshots, browser=browser)
        elif screenshots is not None:
            look_at_page(out, f"http://{address}/", screenshots / "hour-service.jpg")
        for block in others:
            shell(block.replace(ADDRESS, address), out)


def shell(block: str, out: Path) -> None:
    print(f"\n{block}", end="", flush=True)
    subprocess.run(["bash", "-ec", block], cwd=out, env=environment(), check=True)


def environment() -> dict[str, str]:
    """With the `wordmask` of this Python before all others."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@contextmanager
def served(command: str, out: Path, address: str) -> Iterator[None]:
    print(f"\n{command}", flush=True)
    process = subprocess.Popen(["bash", "-ec", f"exec {command}"], cwd=out, env=environment())
    try:
        while not is_ready(f"http://{address}/readyz"):
            if process.poll() is not None:
                raise SystemExit(f"{command}: ended with status {process.returncode}")
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


# The person.


def judge(out: Path, address: str, screenshots: Path | None, *, browser: bool) -> None:
    """Judge the first ten pictures of the review, as it orders them."""
    verdicts = list(verdicts_on(out, JUDGED))
    if browser:
        with opened_browser() as page:
            page.goto(address)
            page.wait_for_selector("html[data-ready]")
            for number, verdict in enumerate(verdicts):
                if number == 3 and screenshots is not None:
                    look(page, screenshots / "hour-review.jpg")
                type_verdict(page, verdict)
            page.locator("#progress:not(:text('not saved'))").wait_for()
            print(page.locator("#progress").inner_text())
    else:
        write_corrections(out / "labels" / FILE_NAME, verdicts)


def verdicts_on(out: Path, count: int) -> Iterator[Correction]:
    """Yield what somebody says who knows the pictures' truth."""
    review = out / "labels" / DATA
    told = read_script(review / INDEX, "index")
    names = [name for name, _ in told["names"]]
    masks = [
        own
        for number in range(-(-count // told["together"]))
        for own in read_script(review / masks_file(number), "masks")
    ]
    for line, (_, counts) in list(zip(told["pictures"], masks, strict=False))[:count]:
        path, _, fingerprint, height, width = line[:5]
        labels = np.asarray(Image.open((out / "pictures" / "labels" / path).with_suffix(".png")))
        things = things_in(labels, names)
        own, seen = [], set()
        for (name, _), code in zip(line[8], counts, strict=True):
            was = names[name]
            mask = mask_of(lengths_of(code, (height, width)), (height, width))
            best, place = max(
                ((overlap(mask, thing), place) for place, (_, thing) in enumerate(things)), default=(0, -1)
            )
            if best < RIGHT:
                own.append(MaskVerdict(was, code, REJECTED))
                continue
            seen.add(place)
            now = things[place][0]
            own.append(MaskVerdict(now, code, ACCEPTED, None if now == was else was))
        verdict = ACCEPTED if len(seen) == len(things) else None if seen else REJECTED
        yield Correction(path, fingerprint, (height, width), verdict, tuple(own))


def things_in(labels: np.ndarray, names: list[str]) -> list[tuple[str, np.ndarray]]:
    """Return the parts of a picture (H, W) that bear one of the names, each as a mask."""
    found = []
    for name in names:
        parts, count = ndimage.label(labels == NAMES.index(name))
        found += [(name, parts == part) for part in range(1, count + 1) if (parts == part).sum() >= LEAST]
    return found


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def type_verdict(page: Any, correction: Correction) -> None:
    """Say by the keyboard alone what is to be said of the picture that the page shows."""
    shown = page.locator("#where").inner_text()
    if shown != correction.picture:
        raise SystemExit(f"the review shows {shown} in place of {correction.picture}")
    for mask in correction.masks:
        page.keyboard.press("]")
        if mask.was is not None:
            page.keyboard.press("n")
            page.keyboard.type(mask.name)
            page.keyboard.press("Enter")
            page.locator("#rename").wait_for(state="hidden")
        else:
            page.keyboard.press("y" if mask.verdict == ACCEPTED else "d")
    page.keyboard.press({ACCEPTED: "a", REJECTED: "r", None: "j"}[correction.verdict])


@contextmanager
def opened_browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        raise SystemExit(f"there is no browser here, one of {', '.join(BROWSERS)}: say --without-browser")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=QUIET)
        yield browser.new_page(viewport={"width": 1100, "height": 760})
        browser.close()


def look(page: Any, path: Path) -> None:
    page.wait_for_selector("#over canvas[data-drawn]")
    page.wait_for_timeout(500)  # the list's small pictures
    page.screenshot(path=path, type="jpeg", quality=QUALITY)


def look_at_page(out: Path, address: str, path: Path) -> None:
    """Show the service's page a picture."""
    with opened_browser() as page:
        page.goto(address)
        page.wait_for_selector("#wm-viewer .empty")
        page.set_input_files("#wm-picture input[type=file]", str(out / "others" / "images" / "000002.jpg"))
        page.wait_for_selector("#wm-viewer .legend button", timeout=120_000)
        page.wait_for_timeout(500)
        page.screenshot(path=path, type="jpeg", quality=QUALITY)


if __name__ == "__main__":
    main()
