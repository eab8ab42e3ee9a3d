"""Workers of a Ray cluster: several nodes on this machine, by Ray's own utility; workers, nodes and drivers killed."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import chain
from pathlib import Path

import pytest

from support.embedding_files import SETTINGS, files_in
from support.killing import kill_when
from support.labelling_job import files_in as labels_in
from support.shard_tasks import Loaf, colour_clip, oven
from support.tiny_collection import ColourClip, write_pictures
from wordmask.collection.embedding import embed
from wordmask.collection.piles import open_pile
from wordmask.runs.ray_crew import RayCrew
from wordmask.runs.shards import ShardError, run_shards

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'wordmask[cluster]'")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch):
    """A head that does no work, and two nodes of two workers each."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_initial_delay_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.nodes = [made.add_node(num_cpus=2), made.add_node(num_cpus=2)]
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def bake(folder, crew, count=8, **how):
    folder.mkdir(exist_ok=True)
    said, by = [], {}
    run_shards(
        (Loaf(folder, number, how.get(f"_{number}", "slow")) for number in range(count)),
        oven,
        is_made=lambda task: task.path.exists(),
        crew=crew,
        on_made=lambda task, number: by.setdefault(number, []).append(task.number),
        say=said.append,
    )
    return said, by


def loaves(folder):
    return {int(path.stem): path.read_text() for path in folder.glob("*.txt")}


def whole(count):
    return {number: f"loaf {number} of rye" for number in range(count)}


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_of_several_nodes_make_the_very_same_files(cluster, tmp_path, workers):
    write_pictures(tmp_path / "pictures", 20)
    pile = open_pile(tmp_path / "pictures", per_part=3)
    embed(pile, ColourClip(), tmp_path / "one", SETTINGS)
    crew = RayCrew(cluster.address, workers=workers)
    embed(pile, ColourClip(), tmp_path / "out", SETTINGS, crew=crew, load=colour_clip)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "one")


def test_there_are_as_many_workers_as_processors(cluster, tmp_path):
    crew = RayCrew(cluster.address)
    assert crew.workers == 4
    _, by = bake(tmp_path / "out", crew, count=12)
    assert sorted(chain(*by.values())) == list(range(12))


def test_a_worker_that_is_killed_is_replaced(cluster, tmp_path):
    said, by = bake(tmp_path / "out", RayCrew(cluster.address, workers=2), _3="dies once")
    assert loaves(tmp_path / "out") == whole(8)
    assert sorted(chain(*by.values())) == list(range(8))
    assert [line for line in said if "is lost" in line]


def test_a_shard_that_fails_and_one_that_hangs_are_named_and_the_rest_is_made(cluster, tmp_path):
    with pytest.raises(ShardError) as failed:
        bake(tmp_path / "out", RayCrew(cluster.address, workers=2, time_limit=5), _2="fails", _5="hangs")
    assert "loaf 2 (ValueError: no flour)" in str(failed.value)
    assert "loaf 5 (it took longer than 5 s)" in str(failed.value)
    assert loaves(tmp_path / "out").keys() == whole(8).keys() - {2, 5}


def test_a_node_that_is_killed_loses_nothing(cluster, tmp_path):
    """SIGKILL of a raylet, once each node has made something; its workers end with it."""
    out = tmp_path / "out"
    killed = []

    def kill_one(task, number):
        if len(loaves(out)) >= 6 and not killed:
            raylet = cluster.nodes[0].all_processes["raylet"][0].process
            os.kill(raylet.pid, signal.SIGKILL)
            killed.append(raylet.pid)

    out.mkdir()
    made = []
    run_shards(
        (Loaf(out, number, "slow") for number in range(24)),
        oven,
        is_made=lambda task: False,
        crew=RayCrew(cluster.address, workers=4),
        on_made=lambda task, number: (made.append(task.number), kill_one(task, number)),
    )
    assert killed
    assert sorted(made) == list(range(24)), "nothing twice"
    assert loaves(out) == whole(24)


def test_labels_of_a_cluster_are_those_of_one_process(cluster, tmp_path, command):
    assert command("world", "make", "--out", tmp_path / "data", "--count", 6, "--size", 32, "--workers", 1)[0] == 0
    line = ("label", tmp_path / "data/images", "--names", "dog, cat", "--preset", "world", "--method", "maskclip")
    line += ("--precision", "fp32", "--device", "cpu", "--batch-size", 2, "--per-shard", 2, "--out")
    assert command(*line, tmp_path / "one")[0] == 0
    status, _, err = command(*line, tmp_path / "out", "--cluster", cluster.address, "--workers", 2)
    assert status == 0, err
    assert labels_in(tmp_path / "out") == labels_in(tmp_path / "one")


DRIVER = """
    import sys
    from pathlib import Path
    from support.shard_tasks import Loaf, oven
    from wordmask.runs.ray_crew import RayCrew
    from wordmask.runs.shards import run_shards

    out = Path(sys.argv[2])
    run_shards(
        (Loaf(out, number, "slow") for number in range(24)),
        oven,
        is_made=lambda task: task.path.exists(),
        crew=RayCrew(sys.argv[1], workers=2),
        on_made=lambda task, number: print(task.number, flush=True),
    )
"""


def test_a_driver_that_is_killed_and_started_again_goes_on(cluster, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(Path(__file__).parent)]))}

    def start():
        command = [sys.executable, "-c", textwrap.dedent(DRIVER), cluster.address, str(out)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    kill_when(start(), lambda: len(loaves(out)) >= 5)
    time.sleep(3)  # the cluster ends the workers of a driver that is gone
    before = {number: (out / f"{number}.txt").stat().st_mtime_ns for number in loaves(out)}
    assert 5 <= len(before) < 24
    printed, _ = start().communicate(timeout=120)
    assert sorted(map(int, printed.split())) == sorted(set(range(24)) - set(before))
    assert loaves(out) == whole(24)
    assert {number: (out / f"{number}.txt").stat().st_mtime_ns for number in before} == before
