"""What the world brings to `wordmask`, by the entry point that any other package would use."""

from wordmask.plugins import Plugin, Verb

_METHODS = (
    *("maskclip", "clip-diy", "clip-dinoiser", "reco", "selfmask-clip", "namedmask"),
    *("found", "seed", "selfmask", "spectral"),
)
_PRESETS = "wordmask_world.presets"

PLUGIN = Plugin(
    presets={name: {"world": f"{_PRESETS}:{name.upper().replace('-', '_')}"} for name in _METHODS},
    addresses={"world": "wordmask_world.models:find"},
    aliases={"world-clip": "world:clip-resnet", "world/dino": "world:dino"},
    verbs={
        "world": Verb(
            "wordmask_world.cli:world",
            "The built-in picture world: make pictures of it, look at it.",
            resumes=("make", "train-clip", "train-dino"),
        )
    },
)
