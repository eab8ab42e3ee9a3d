"""`wordmask embed`: pictures become a folder of embeddings."""

import json
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from wordmask.cli import crews, options
from wordmask.console import say, show
from wordmask.console.progress import progress_bar
from wordmask.text_files import counted

if TYPE_CHECKING:
    from wordmask.encoders.clip import ClipEncoder

VERB = "embed"


def embed(
    pictures: Annotated[
        str,
        typer.Argument(
            help="A folder of pictures, a list of such (.txt), or webdataset tars; the last two also at s3://, gs:// "
            "and https://."
        ),
    ],
    out: Annotated[
        str,
        typer.Option("--out", "-o", help="The folder of embeddings: new, or one to go on with; also s3:// or gs://."),
    ],
    preset: options.Preset = "paper",
    clip: Annotated[
        str | None, typer.Option(help="ARCHITECTURE/TAG of an open_clip model, in place of the preset's.")
    ] = None,
    image_root: Annotated[
        str | None, typer.Option(help="What the paths of a list are relative to, if not to its own folder.")
    ] = None,
    per_shard: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Pictures of a folder that make a shard; a tar is always one.")
    ] = 10_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that are looked at together.")] = 32,
    device: options.Device = "auto",
    max_pixels: options.MaxPixels = None,
    workers: crews.Workers = None,
    cluster: crews.Cluster = None,
    shards: crews.Shards = None,
    merge: crews.Merge = False,
    time_limit: crews.TimeLimit = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Drop the embeddings of pictures that are no longer there.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Bring pictures through CLIP once, into a folder of embeddings for `search` and `distill`.

    Started again after a stop, it goes on where it was, with one process, several, an array of jobs or a cluster.

    Example: `wordmask embed pictures --out embeddings`, then `wordmask search "a red bus" --collection embeddings`
    """
    crews.check(workers, cluster, shards, time_limit, merge=merge)
    share = crews.share(shards)
    from wordmask.collection.embedding import BAD_IMAGES, Embedding, EmbeddingSettings, check_begun, is_ours
    from wordmask.collection.piles import open_pile
    from wordmask.collection.references import CollectionError
    from wordmask.collection.stores import is_in_store, place_to_write
    from wordmask.distillation.config import find_preset
    from wordmask.runs.claim import check_claim, claimed, joined

    pile = open_pile(pictures, root=image_root, per_part=per_shard)
    survey = pile.survey()
    crew = crews.crew(workers, cluster, time_limit, device)
    chosen = EmbeddingSettings(batch=batch_size, per_part=per_shard, max_pixels=max_pixels)
    load = partial(load_clip, clip or find_preset(preset).clip, device)
    place = place_to_write(out)
    is_shared = share is not None or merge
    if not is_in_store(place):
        check_claim(place, VERB, was_ours=is_ours, error=CollectionError)
    check_begun(pile, place, survey, prune=prune, shared=is_shared)  # before a network is loaded, which may take long
    work = Embedding(pile, load(), place, chosen, survey=survey, say=say)
    with ExitStack() as held:
        if not is_in_store(place):  # stores know no locks, and shards need none
            hold = joined if share else claimed
            held.enter_context(hold(place, VERB, was_ours=is_ours, error=CollectionError))
        work.begin(prune=prune, shared=is_shared)
        if not merge:
            with progress_bar("embeddings", None, counts=False) as report:
                work.make(progress=report, crew=crew, load=load, share=share)
        missing = work.missing() if share or merge else []
        if missing and merge:
            raise CollectionError(
                f"{out}: {counted(len(missing), 'shard')} missing, as {missing[0]}: make them, without --merge"
            )
        about = None if missing else work.finish()
    if share is not None and about is None:
        crews.tell_of_share(out, share, len(missing), as_json=as_json)
        return
    assert about is not None  # without shares, all is made or something was raised
    if as_json:
        show(json.dumps({"out": str(out), "pictures": about["pictures"], "bad": about["bad_pictures"]}))
        return
    if bad := about["bad_pictures"]:
        say(f"{counted(bad, 'picture')} cannot be read: see {place / BAD_IMAGES}")
    show(f"{out}: embeddings of {counted(about['pictures'], 'picture')}")


def load_clip(model: str, device: str) -> "ClipEncoder":
    """Load the CLIP, also in a process of its own."""
    from wordmask.compute import Compute
    from wordmask.encoders import clip_building

    return clip_building.clip_at(model, None, Compute(device, "fp32"))
