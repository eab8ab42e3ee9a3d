"""What this package brings. It is imported whenever methods are listed, so it must be light: no torch, no NumPy."""

from wordmask.methods import Method
from wordmask.plugins import Plugin, PluginBenchmark, Verb

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
    presets={
        "brightness": {"sure": "wordmask_brightness.presets:SURE"},
        "maskclip": {"coarse": "wordmask_brightness.presets:COARSE"},
    },
    addresses={"shelf": "wordmask_brightness.shelf:find"},
    verbs={"brightness": Verb("wordmask_brightness.verb:brightness", "Say how bright pictures are, from 0 to 1.")},
    benchmarks={"halves": PluginBenchmark("halves, dark and bright", open="wordmask_brightness.benchmark:open_halves")},
    tables={"brightness": "wordmask_brightness.tables:TABLES"},
)
