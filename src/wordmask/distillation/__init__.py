"""NamedMask (Shin, Xie and Albanie, 2022): from names and unlabelled pictures to a segmenter of one's own.

One file a stage, in the order in which data flows; each stage writes one folder of the run, which can be looked at,
deleted and made again:

    collection.py, embedding.py   pictures -> RUN/embeddings (clip-retrieval layout; or such a folder that is there)
    archive.py, curation.py, filters.py
                                  -> RUN/archive/archive.parquet: for every name the pictures most like it
    pseudo_masks.py, known_masks.py
                                  -> RUN/masks/*.arrow: what is salient in each
    experts.py                    -> RUN/experts/NNN/expert.safetensors, and RUN/refined/*.arrow
    teacher.py, targets.py        -> RUN/taught/*: what a teacher says of whole pictures, where there is one
    merging.py                    -> RUN/targets/*: that with masks of things on top
    student.py, head_student.py, open_student.py
                                  -> RUN/student/student.safetensors; of a head, RUN/features/* before that
    report.py                     -> RUN/report/report.html

Masks, salient and refined, are read alike (`records.py`):

    masks = MaskTable(folder)              # read a shard at a time; pickles to worker processes by its path
    masks.names                            # without "background"; name i has the label i + 1, and 0 is background
    masks.rows(name)                       # indices of its usable masks, best first
    record = masks[index]                  # MaskRecord: name, rank, image, rle, score, similarity, usable
    masks.open_image(record.image)         # (H, W, 3) uint8, from a file or out of a tar; ImageReadError if damaged
    record.mask()                          # (H, W) bool
    write_masks(path, records, root=masks.root, names=masks.names)   # one shard, atomic

What trains and what redraws are functions of masks and settings. `out` is a folder that is the call's own. All of them
may be killed at any moment and called again with the same arguments: they go on where they stopped and end with the
same files, bit for bit on the CPU. Where the result is there already they return at once. `progress` is called with
(steps done, steps in all). Figures go to `out/log.jsonl`, {"step", "loss", ...} a line, for the report's curves; lines
with "pictures": "held-out" hold figures on a validation set.

    experts.group_names(names, vectors, groups, seed) -> list[list[str]]           # vectors (K, D): text embeddings
    experts.train_expert(masks, names, settings, out, seed=, device=, progress=) -> Path    # out/expert.safetensors
    experts.train_experts(masks, groups, settings, out, seed=, device=, progress=, crew=)   # out/NNN, one for a group
    redrawing.refine(expert, masks, names, settings, stem, device=, progress=) -> list[Path]  # STEM_NNNNN.arrow
    student.train_student(masks, names, settings, out, seed=, device=, progress=, validation=None) -> Path
    open_student.train_open_student(examples, names, settings, out, texts=, ...) -> Path    # which answers to any names
    segmenters.load("namedmask", weights=out/"student.safetensors")                # a segmenter; names in the file

`settings` are `experts.ExpertSettings`, and `student.StudentSettings` or `head_student.HeadStudentSettings`: frozen
pydantic dataclasses with `ConfigDict(extra="forbid")`, whose fields appear under `experts:` and `student:` in a run's
YAML. `experts.PRESETS` and `student.PRESETS` hold the paper's. `validation` is a `wordmask.benchmarks.datasets` data
set.
"""

from wordmask.extras import need

need("pyarrow", "sklearn")  # before the first stage, and not where one of them is used
