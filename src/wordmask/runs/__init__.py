"""A run: a folder that a long command owns, resumes and never shares.

`claim` holds it, `records` compares what was asked for, `stages` and `shards` make what is missing, `parts` tells what
is whole, and `processes`, or a `crew` of a cluster, share the work. `marks` know files of ours among a person's.
"""
