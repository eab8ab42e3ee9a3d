"""A REST service and a web page over the segmenters, in one process."""

from wordmask.app.server import build_app
from wordmask.app.settings import ServeSettings

__all__ = ["ServeSettings", "build_app"]
