"""Options of verbs whose work several may share, and who they are then: processes, shares of an array, a cluster."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wordmask.console import show
from wordmask.text_files import counted

if TYPE_CHECKING:
    from wordmask.runs.crew import Crew
    from wordmask.runs.shards import Share

Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes, each with networks of its own; on a cluster its workers. [1]"),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="auto|ray://HOST:PORT", help="Make the shards on a Ray cluster: the one here, or another."
    ),
]
Shards = Annotated[
    str | None,
    typer.Option(
        "--shards",
        metavar="N/OF",
        help="Make one share of the shards, as 3/16, for arrays of jobs; whoever ends last joins them.",
    ),
]
Merge = Annotated[bool, typer.Option("--merge", help="Only join the shards; if some are missing, say which.")]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", min=1, help="Seconds that a shard may take; it is given up then, by its name."),
]


def check(
    workers: int | None, cluster: str | None, shards: str | None, time_limit: float | None, *, merge: bool
) -> None:
    """Refuse what does not go together."""
    if merge and (workers or cluster or shards or time_limit):
        raise typer.BadParameter("--merge makes nothing: leave out --workers, --cluster, --shards and --time-limit")
    if cluster and shards:
        raise typer.BadParameter("--cluster makes all shards: leave out --shards")


def crew(
    workers: int | None, cluster: str | None, time_limit: float | None, device: str, learners: int | None = None
) -> "Crew | None":
    """Return who makes the shards; None for this process."""
    if cluster is not None:
        from wordmask.runs.ray_crew import RayCrew

        needs = None if device == "auto" else device.startswith("cuda")
        return RayCrew(cluster, workers=workers, time_limit=time_limit, accelerators=needs, learners=learners or 1)
    if (workers or 1) == 1 and time_limit is None:
        return None
    from wordmask.runs.crew import Processes

    return Processes(workers or 1, time_limit, threads_each(workers))


def threads_each(workers: int | None) -> int | None:
    """Return how many threads each of several processes gets; None for one, which takes what it likes."""
    return max(1, (os.cpu_count() or 1) // workers) if workers and workers > 1 else None


def share(shards: str | None) -> "Share | None":
    if shards is None:
        return None
    from wordmask.runs.shards import ShardError, Share

    try:
        return Share.read(shards)
    except ShardError as error:
        raise typer.BadParameter(f"--shards {error}") from error


def tell_of_share(out: str | Path, share: "Share", missing: int, *, as_json: bool) -> None:
    """Print that a share is made, and what of all is not."""
    if as_json:
        show(json.dumps({"out": str(out), "share": str(share), "missing": missing}))
    else:
        show(f"{out}: share {share} is made; {counted(missing, 'shard')} still missing")
