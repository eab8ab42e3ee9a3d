"""A real browser for tests: Chromium of the system's, driven by playwright; and what its pages are judged by."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def browser_or_skip() -> Iterator[Any]:
    """A browser; where there is none, the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        pytest.skip(f"needs a browser, one of {', '.join(BROWSERS)}: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=list(QUIET))
        yield opened
        opened.close()


def contrast(page: Any, selector: str) -> float:
    """Of the text to its ground, as WCAG reckons it."""
    told = page.locator(selector).first.evaluate(
        "box => [getComputedStyle(box).color, getComputedStyle(box).backgroundColor]"
    )
    channels = np.array([re.findall(r"\d+", colour)[:3] for colour in told], float) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return float(light / dark)
