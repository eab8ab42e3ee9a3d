"""One share of a labelling run, for arrays of jobs: it reads the ledger and leaves parts, which the last one joins."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from wordmask.compute import AUTO
from wordmask.console.notices import notices
from wordmask.console.progress import Progress
from wordmask.labelling.claim import claim, settle_precision
from wordmask.labelling.corrected import CorrectedLabels, corrections_for
from wordmask.labelling.fingerprints_kept import KeptFingerprints
from wordmask.labelling.formats import load_format
from wordmask.labelling.ledger import Ledger, explained
from wordmask.labelling.parts import PER_SHARD, LoadWorker
from wordmask.labelling.run import VERB, check_places, check_work, warn
from wordmask.labelling.settings import LabelError
from wordmask.labelling.walk import Walk, pictures_found
from wordmask.labelling.worker import Job, Worker
from wordmask.pictures.image_files import ImageReadError, warn_left_out
from wordmask.runs.claim import SETTINGS_OF_LABELS, STATE, joined
from wordmask.runs.crew import Crew
from wordmask.runs.shards import Share, run_shards
from wordmask.segmenters.base import Segmenter


class _Reading(Walk):
    """Walks as a run does and writes nothing into its ledger."""

    def _pass_over(self, error: ImageReadError) -> None:
        pass


def label_share(
    job: Job,
    share: Share,
    *,
    segmenter: Segmenter | None = None,
    crew: Crew | None = None,
    batch_size: int = 8,
    per_shard: int = PER_SHARD,
    on_bad: Callable[[ImageReadError], None] = warn_left_out,
    on_progress: Progress = lambda done, total: None,
    on_note: Callable[[str], None] = warn,
) -> int:
    """Label a share of the shards; how many of all are still missing. With none, `label_folder(..., merge=True)` ends
    the run.
    """
    check_places(job)
    files = load_format(job.out, job.vocabulary.names, job.settings)
    state = job.out / STATE
    kept = state / SETTINGS_OF_LABELS
    if job.load.get("precision", AUTO) == AUTO and segmenter is None and not kept.exists():
        raise LabelError("all shares must be labelled in one precision: say --precision fp32, bf16 or int8")
    check_work(job, loads=segmenter is None)
    job, segmenter, _ = settle_precision(job, segmenter)
    with ExitStack() as stack:
        stack.enter_context(joined(job.out, VERB, error=LabelError))
        ledger = _ledger(stack, state / "ledger.sqlite")
        claim(kept, job, batch_size, has_labels=kept.exists())
        said = corrections_for(job.out, job.folder, None).corrections
        corrected = CorrectedLabels(state, said, KeptFingerprints(state / "fingerprints.json", job.folder))
        walk = _Reading(job, files, ledger, _taken(job, ledger), corrected, set())
        run_shards(
            walk.tasks(batch_size, per_shard, on_bad, again=False),
            partial(Worker, job, segmenter) if segmenter is not None else LoadWorker(job),
            is_made=lambda task: task.is_made(),
            crew=crew,
            share=share,
            progress=on_progress,
            on_made=lambda task, told: notices.merge(told),
            say=on_note,
        )
        return sum(not task.is_made() for task in walk.tasks(batch_size, per_shard, lambda _: None, again=False))


def _ledger(stack: ExitStack, path: Path) -> Ledger:
    """Open the ledger of an earlier run, or one of nothing: shares leave the making of it to whoever joins them."""
    stack.enter_context(explained(path))
    ledger = Ledger(path if path.exists() else Path(":memory:"))
    stack.callback(ledger.close)
    return ledger


def _taken(job: Job, ledger: Ledger) -> frozenset[str]:
    """Return the names of results whose pictures are gone: no other picture's may be called so."""
    if not ledger.has_rows:
        return frozenset()
    ledger.compare(picture.relative_to(job.folder).as_posix() for picture in pictures_found(job))
    return ledger.names_of_vanished()
