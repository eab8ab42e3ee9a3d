"""Folders and files that are ours: claimed, marked, and known again."""
