"""Segmentations and what is made of them: instances, overlays, other libraries' types."""
