"""Labelling runs of painted pictures, and a segmenter that stops half-way."""

from support.painted import NAMES, Painted
from wordmask.labelling import Job, LabelSettings, label_folder
from wordmask.names.vocabulary import Vocabulary


def job(folder, out, format="coco", *, names=NAMES, **changes):
    return Job(folder, out, Vocabulary.of(names), LabelSettings(format=format, min_area=4, **changes), {})


def label(folder, out, format="coco", *, segmenter=None, **options):
    """Label a folder, by a painted segmenter if no other is given; `options` are of the run, or settings of the job."""
    run = {
        key: options.pop(key) for key in ("batch_size", "prune", "on_bad", "on_note", "corrections") if key in options
    }
    return label_folder(job(folder, out, format, **options), segmenter=segmenter or Painted(), **run)


def files_in(out):
    """What a run writes, its own bookkeeping aside."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".wordmask" not in path.parts
    }


class Stop(Exception):
    pass


class StopsAfter(Painted):
    """Fails, as a killed process does, when it is asked for one picture too many."""

    def __init__(self, pictures):
        super().__init__()
        self.left = pictures

    def look_many(self, images, sources):
        self.left -= len(images)
        if self.left < 0:
            raise Stop
        return super().look_many(images, sources)
