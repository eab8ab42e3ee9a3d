"""Where the weights of the world's small networks lie; they are part of the package."""

from pathlib import Path

WEIGHTS = Path(__file__).parent
