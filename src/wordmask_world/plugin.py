"""What the world brings to `wordmask`, by the entry point that any other package would use."""

from wordmask.plugins import Plugin

PLUGIN = Plugin()
