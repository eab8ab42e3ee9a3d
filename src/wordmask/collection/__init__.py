"""Piles of unlabelled pictures: folders, lists and tars, their embeddings, and the search in them."""

from wordmask.extras import need

need("pyarrow")  # whose tables lie beside the embeddings
