"""`wordmask train-found`: FOUND's head, from pictures alone."""

from wordmask.cli import options
from wordmask.console.progress import progress_bar

ASKED_FOR_ALIKE = ("dino", "dino_weights")
"""What was trained on must be looked with."""


def train_found(
    out: options.Run,
    images: options.TrainingImages = None,
    preset: options.Preset = "paper",
    dino: options.Dino = None,
    dino_weights: options.DinoWeights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.TrainingPrecision = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Train FOUND's head on a folder of pictures, without labels. A killed run goes on when started again.

    Example: `wordmask train-found --images photos --out runs/found`
    """
    from wordmask.cli.train_saliency import draw_pictures, tell_how_to_use
    from wordmask.training.claim import claimed_run
    from wordmask.training.found import HEAD_FILE, VERB, FoundTraining
    from wordmask.training.found import train_found as train
    from wordmask.training.plans import DRAWN_INTO, drawn_for, plan

    changes = options.changes(settings, dino=dino, dino_weights=dino_weights, precision=precision)
    changes |= {"device": device, "seed": seed}
    chosen = plan(FoundTraining, preset, pictures=images or out / DRAWN_INTO, out=out, changes=changes)
    drawn = drawn_for(FoundTraining, preset) if images is None else None
    with claimed_run(out, VERB, FoundTraining.__name__):
        draw_pictures(drawn, chosen.pictures)
        with progress_bar("training", chosen.steps) as progress:
            train(chosen, progress)
    use = "wordmask saliency photo.jpg"
    tell_how_to_use(use, "found", out / HEAD_FILE, preset, changes, alike=ASKED_FOR_ALIKE, as_json=as_json)
