"""What the world brings to `wordmask`, by the entry point that any other package would use."""

from wordmask.plugins import Plugin, Verb

PLUGIN = Plugin(
    verbs={
        "world": Verb(
            "wordmask_world.cli:world",
            "The built-in picture world: make pictures of it, look at it.",
            resumes=("make", "train-clip", "train-dino"),
        )
    }
)
