"""Two workers on two cores against one worker on one core: pictures a second of `embed` and `label`.

    python benchmarks/workers_speed.py                     # processes, and Ray's nodes where Ray is installed
    python benchmarks/workers_speed.py --by processes --pictures 800

Each worker computes on one thread of one core that is its own (Linux); what hands out the shards runs beside them. The
clock begins when all workers have loaded their networks, and ends with the last shard: the start is left out of the
ratio, and printed beside it. Pictures are drawn; networks are the world's small ones, in fp32. One worker and two take
turns (--repeat), and the middle one of the ratios counts.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from wordmask import Vocabulary
from wordmask.cli.embed import load_clip
from wordmask.collection.embedding import EmbeddingSettings, embed
from wordmask.collection.piles import open_pile
from wordmask.extras import is_installed
from wordmask.labelling import Job, LabelSettings, label_folder
from wordmask.runs.crew import Processes
from wordmask_world import NAMES, write_folder

GOAL = 1.8
WAIT_EVERY = 0.01


def ready(load: Callable[..., Any], gate: Path, workers: int, *told: Any) -> Any:
    """Load, in a worker, on a core of its own; and wait until all have."""
    import torch  # a worker of Ray's knows of this file no more than this function

    torch.set_num_threads(1)
    place = next(number for number in range(workers) if taken(gate / f"core {number}"))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[place]})
    outcome = load(*told)
    (gate / f"ready {place}").mkdir()
    while len(list(gate.glob("ready *"))) < workers:
        time.sleep(WAIT_EVERY)
    return outcome


def taken(place: Path) -> bool:
    try:
        place.mkdir()
    except FileExistsError:
        return False
    return True


class Gate:
    """A crew whose workers begin together. began: when they did, by the files that each leaves."""

    def __init__(self, crew: Any, place: Path):
        self.crew, self.place = crew, place
        self.workers, self.time_limit, self.lost = crew.workers, crew.time_limit, crew.lost

    def begin(self) -> "Member":
        return Member(self.crew.begin(), self.place, self.workers)

    @property
    def began(self) -> float:
        return max(path.stat().st_mtime for path in self.place.glob("ready *"))


class Member:
    def __init__(self, member: Any, place: Path, workers: int):
        self.member, self.place, self.workers, self.is_new = member, place, workers, True

    @property
    def name(self) -> str:
        return str(self.member.name)

    def submit(self, do: Callable[..., Any], *told: Any) -> Any:
        if not self.is_new:
            return self.member.submit(do, *told)
        self.is_new = False
        return self.member.submit(ready, do, self.place, self.workers, *told)

    def end(self) -> None:
        self.member.end()


@contextmanager
def processes(workers: int) -> Iterator[Any]:
    yield Processes(workers, threads=1)


@contextmanager
def ray_nodes(workers: int) -> Iterator[Any]:
    """A head that does no work, and a node of one processor for each worker."""
    import ray
    from ray.cluster_utils import Cluster

    from wordmask.runs.ray_crew import RayCrew

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(workers):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield RayCrew(cluster.address, workers=workers, accelerators=False)
    finally:
        ray.shutdown()
        cluster.shutdown()


def embedded(folder: Path, out: Path, crew: Any, per_shard: int, progress: Any) -> None:
    load = partial(load_clip, "world:clip", "cpu")
    settings = EmbeddingSettings(per_part=per_shard, readers=1)
    embed(open_pile(folder, per_part=per_shard), load(), out, settings, crew=crew, load=load, progress=progress)


def labelled(folder: Path, out: Path, crew: Any, per_shard: int, progress: Any) -> None:
    load = {"method": "maskclip", "preset": "world", "device": "cpu", "precision": "fp32"}
    job = Job(folder=folder, out=out, vocabulary=Vocabulary.of(NAMES), settings=LabelSettings(), load=load)
    label_folder(job, crew=crew, per_shard=per_shard, on_progress=progress)


def measured(work: Any, by: Any, workers: int, folder: Path, pictures: int, per_shard: int) -> tuple[float, float]:
    """Pictures a second once all workers have begun, and the seconds until then."""
    last = (0, 0.0)

    def progress(done: int, total: int | None) -> None:
        nonlocal last
        if done > last[0]:
            last = (done, time.time())

    with tempfile.TemporaryDirectory(prefix="wordmask-") as place, by(workers) as crew:
        gate = Path(place) / "gate"
        gate.mkdir()
        crew, start = Gate(crew, gate), time.time()
        work(folder, Path(place) / "out", crew, per_shard, progress)
        if last[0] != pictures:
            raise SystemExit(f"{last[0]} of {pictures} pictures were done")
        return pictures / (last[1] - crew.began), crew.began - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1200)
    parser.add_argument("--per-shard", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--by", choices=["processes", "ray", "both"], default="both")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers
    ways = {"processes": processes, "ray": ray_nodes}
    if chosen.by != "both":
        ways = {chosen.by: ways[chosen.by]}
    elif not is_installed("ray"):
        print("ray is not installed: processes alone")
        del ways["ray"]
    with tempfile.TemporaryDirectory(prefix="wordmask-") as place:
        folder = write_folder(Path(place) / "world", chosen.pictures, workers=2) / "images"
        for name, work in (("embed", embedded), ("label", labelled)):
            for way, by in ways.items():
                ratios = []
                for _ in range(chosen.repeat):
                    (one, start), (two, later) = (
                        measured(work, by, workers, folder, chosen.pictures, chosen.per_shard) for workers in (1, 2)
                    )
                    ratios.append(two / one)
                    print(
                        f"{name} by {way}: one worker {one:.1f} pictures a second (after {start:.1f} s of start), "
                        f"two {two:.1f} (after {later:.1f} s): {two / one:.2f} times",
                        flush=True,
                    )
                middle = statistics.median(ratios)
                told = "reached" if middle >= GOAL else "missed"
                print(f"{name} by {way}: {middle:.2f} times in the middle; the goal of {GOAL} is {told}", flush=True)


if __name__ == "__main__":
    main()
