"""Arrow, whose tables lie beside the embeddings. Piles of pictures and their captions are read without it."""

from wordmask.extras import need

need("pyarrow")

import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

__all__ = ["pa", "pc", "pq"]
