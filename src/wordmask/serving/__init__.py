"""A REST service and a web page over the segmenters, in one process."""

from wordmask.extras import need

need("gradio", "fastapi", "uvicorn", "python_multipart")  # before the modules below, which import them

from wordmask.serving.server import build_app  # noqa: E402
from wordmask.serving.settings import ServeSettings  # noqa: E402

__all__ = ["ServeSettings", "build_app"]
