"""Workers of a Ray cluster: several nodes on this machine, by Ray's own utility; workers, nodes and drivers killed."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from itertools import chain
from pathlib import Path

import psutil
import pytest

from support.embedding_files import SETTINGS, files_in
from support.killing import kill_when
from support.labelling_job import files_in as labels_in
from support.launcher import launched
from support.shard_tasks import Loaf, colour_clip, oven
from support.tiny_collection import ColourClip, write_pictures
from support.tiny_run import contents, pipeline_with
from wordmask.collection.embedding import embed
from wordmask.collection.piles import open_pile
from wordmask.distillation import pseudo_masks
from wordmask.runs.crew import CrewError
from wordmask.runs.ray_crew import RayCrew
from wordmask.runs.shards import ShardError, run_shards
from wordmask.training.logs import LOG

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
    with pytest.raises(CrewError, match="room for 4 learners, not for 5"):
        RayCrew(cluster.address, learners=5)
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


@pytest.fixture
def pictures(tmp_path, monkeypatch, one_thread):
    """So many that there are several shards of each stage."""
    monkeypatch.setattr(pseudo_masks, "PICTURES_PER_SHARD", 5)
    write_pictures(tmp_path / "pictures", 20)
    return tmp_path / "pictures"


def test_a_distillation_of_a_cluster_is_that_of_one_process(cluster, pictures, tmp_path):
    pipeline_with(pictures, tmp_path / "one").run_all()
    pipeline_with(pictures, tmp_path / "two", crew=RayCrew(cluster.address, workers=2)).run_all()
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    left = {path.name for path in (tmp_path / "two" / "student").iterdir()}
    assert left == {path.name for path in (tmp_path / "one" / "student").iterdir()}


TEAM = """
    import sys
    from pathlib import Path
    import torch
    from support.tiny_run import pipeline_with

    torch.set_num_threads(1)
    together = {"experts": None, "student": {"batch": 4, "steps": 100}}
    pipeline_with(Path(sys.argv[1]), Path(sys.argv[2]), together).run_all()
"""
TOGETHER = {"experts": None, "student": {"batch": 4, "steps": 100}}


def test_learners_train_one_student_together_as_launched_processes_do_and_one_may_be_killed(
    cluster, pictures, tmp_path
):
    team = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(TEAM), str(pictures), str(tmp_path / "launched")],
            env={**os.environ, **told},
        )
        for told in launched(2)
    ]
    assert [process.wait(timeout=300) for process in team] == [0, 0]
    crew = RayCrew(cluster.address, workers=2, learners=2)
    killer = threading.Thread(target=kill_a_learner, args=(tmp_path / "two" / "student" / LOG,), daemon=True)
    killer.start()
    pipeline_with(pictures, tmp_path / "two", TOGETHER, crew=crew).run_all()
    killer.join(timeout=1)
    assert not killer.is_alive(), "one was killed"
    pipeline_with(pictures, tmp_path / "one", TOGETHER).run_all()
    two, one, by_launcher = (
        contents(tmp_path / run)["student/student.safetensors"] for run in ("two", "one", "launched")
    )
    assert two == by_launcher
    assert two != one, "they were two"


def kill_a_learner(log):
    """Once they have begun: a worker of Ray Train's, below this process."""
    while not log.exists() or log.read_bytes().count(b"\n") < 5:
        time.sleep(0.01)
    own = [each for each in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(each.cmdline())]
    os.kill(own[0].pid, signal.SIGKILL)


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
