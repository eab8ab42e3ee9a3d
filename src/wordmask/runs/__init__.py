"""A run: a folder that a long command owns, resumes and never shares.

`claim` holds it, `records` compares what was asked for, `stages` and `shards` make what is missing, `parts` tells what
is whole, and `processes` share the work. `marks` and `collecting` know files of ours among a person's.
"""
