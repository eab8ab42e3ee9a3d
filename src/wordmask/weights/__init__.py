"""Weights: from an address to a checked file, and from a file into a network."""
