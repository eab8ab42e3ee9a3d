"""What the world brings to `wordmask`, by the entry point that any other package would use."""

from wordmask.plugins import Plugin, PluginBenchmark, PluginFolder, PluginSuite, Verb

_TABLES = tuple(f"namedmask-world-{part}" for part in (1, 2, 3, 10, "figure-3"))

_METHODS = (
    *("maskclip", "clip-diy", "clip-dinoiser", "corrclip", "reco", "selfmask-clip", "namedmask"),
    *("sclip", "clearclip", "naclip", "sc-clip", "resclip"),
    *("proxyclip", "lposs", "talk2dino"),
    *("found", "seed", "selfmask", "spectral"),
    *("panoptic-cut", "spectral-regions"),
)
_PRESETS = "wordmask_world.presets"

PLUGIN = Plugin(
    presets={
        **{name: {"world": f"{_PRESETS}:{name.upper().replace('-', '_')}"} for name in _METHODS},
        "train-found": {"world": "wordmask_world.recipes:TRAIN_FOUND"},
        "train-selfmask": {"world": "wordmask_world.recipes:TRAIN_SELFMASK"},
        "train-dinoiser": {"world": "wordmask_world.recipes:TRAIN_DINOISER"},
        "train-talk2dino": {"world": "wordmask_world.recipes:TRAIN_TALK2DINO"},
        "distill": {"world": "wordmask_world.distilling:RUN"},
        "distill-head": {"world": "wordmask_world.distilling:HEAD"},
    },
    addresses={"world": "wordmask_world.models:find"},
    aliases={"world-clip": "world:clip-resnet", "world/dino": "world:dino"},
    drawn={
        "train-found": {"world": "wordmask_world.recipes:SALIENCY_PICTURES"},
        "train-selfmask": {"world": "wordmask_world.recipes:SALIENCY_PICTURES"},
        "train-dinoiser": {"world": "wordmask_world.recipes:DINOISER_PICTURES"},
        "train-talk2dino": {"world": "wordmask_world.recipes:TALK2DINO_PICTURES"},
    },
    best={"world": ("clip-dinoiser", "maskclip")},
    verbs={
        "world": Verb(
            "wordmask_world.cli:world",
            "The built-in picture world: make pictures of it, look at it.",
            resumes=("make", "train-clip", "train-dino", "train-kinds"),
        ),
        "demo": Verb(
            "wordmask_world.cli.demo:demo",
            "Distil a segmenter from names and drawn pictures without labels, and measure it beside other methods: "
            "minutes on two cores, no download, no accelerator. A killed run goes on when started again.",
            resumes=True,
        ),
    },
    benchmarks={
        "world": PluginBenchmark(
            "the built-in world: 24 things and background",
            open="wordmask_world.benchmark:open_world",
            preset="world",
            archive="wordmask_world.tables.world:draw_archive",
        ),
        "world-stuff": PluginBenchmark(
            "the built-in world: things and stuff, no background",
            open="wordmask_world.benchmark:open_world",
            preset="world",
            background=False,
            archive="wordmask_world.tables.world:draw_archive",
        ),
    },
    tables={
        **dict.fromkeys(_TABLES, "wordmask_world.tables.namedmask:TABLES"),
        "saliency": "wordmask_world.tables.saliency:TABLES",
        "world": "wordmask_world.tables.world:TABLES",
        **dict.fromkeys(("frontier-world", "frontier-world-alone"), "wordmask_world.tables.frontier:TABLES"),
    },
    suites={"namedmask-world": PluginSuite(_TABLES, open="wordmask_world.tables.namedmask:open_suite")},
    models={"world models": "wordmask_world.models:fingerprint"},
    folders=(
        PluginFolder(
            "world.json",
            holds=frozenset({"images", "labels"}),
            is_its="wordmask_world.files.marks:is_world",
            verb="world make",
            pictures=("images",),
        ),
    ),
    examples="wordmask_world.examples:examples",
)
"""The built-in picture world: drawn scenes with captions and exact masks, and small models trained on them."""
