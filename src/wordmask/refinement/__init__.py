"""Score maps made to follow their picture's edges: `pamr.py`, the bilateral solver, and how segmenters use them."""
