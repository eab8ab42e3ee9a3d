"""Presets of this package's own: the settings that differ from the method's."""

SURE = {"contrast": 0.4}
"""Of `brightness`: only what is very dark or very bright has a name."""
COARSE = {"stride": 448}
"""Of the built-in `maskclip`: windows that do not overlap."""
