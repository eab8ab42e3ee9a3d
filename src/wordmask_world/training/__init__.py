"""Recipes for the world's small models: from its pictures and their captions alone, never from masks."""
