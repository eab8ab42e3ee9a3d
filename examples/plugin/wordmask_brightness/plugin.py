"""What this package brings. It is imported whenever methods are listed, so it must be light: no torch, no NumPy."""

from wordmask.methods import Method
from wordmask.plugins import Plugin

BRIGHTNESS = Method(
    name="brightness",
    kind="segmenter",
    at="wordmask_brightness.brightness:Brightness",
    paper="an example, of no paper",
    about="the first name gets the darkest pixels, the last the brightest",
    licence="no weights",
)
PLUGIN = Plugin(
    methods={"brightness": "wordmask_brightness.plugin:BRIGHTNESS"},
    tables={"brightness": "wordmask_brightness.tables:TABLES"},
)
