"""Workers of a Ray cluster: several nodes on this machine, by Ray's own utility; workers, nodes and drivers killed."""

import json
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
from support.labelling_job import files_in as written
from support.launcher import free_port, launched
from support.shard_tasks import Loaf, colour_clip, oven
from support.tiny_collection import ColourClip, write_pictures
from support.tiny_run import THINGS_AND_STUFF, contents, pipeline_with
from wordmask.collection.embedding import embed
from wordmask.collection.piles import open_pile
from wordmask.distillation import pseudo_masks
from wordmask.distillation.student import STUDENT_FILE
from wordmask.runs.crew import CrewError
from wordmask.runs.ray_crew import RayCrew
from wordmask.runs.shards import ShardError, run_shards
from wordmask.training.logs import LOG, read_log

WHY = "Ray is not installed, so that no cluster is tried: pip install 'wordmask[cluster]'"
ray = pytest.importorskip("ray", reason=WHY)
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch):
    """A head that does no work, and two nodes of two workers each. outside: how others than its machines reach it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")  # with it, what Ray starts for who is outside may crash
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_initial_delay_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    port = free_port()
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "ray_client_server_port": port})
    made.outside = f"ray://127.0.0.1:{port}"
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


@pytest.mark.parametrize(("workers", "reached"), [(2, "address"), (4, "address"), (2, "outside")])
def test_workers_of_several_nodes_make_the_very_same_files(cluster, tmp_path, workers, reached):
    write_pictures(tmp_path / "pictures", 20)
    pile = open_pile(tmp_path / "pictures", per_part=3)
    embed(pile, ColourClip(), tmp_path / "one", SETTINGS)
    crew = RayCrew(getattr(cluster, reached), workers=workers)
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


OF_FILES = {
    "label": "label PICTURES --names dog,cat --method maskclip --precision fp32 --batch-size 2 --per-shard 2 --out OUT",
    "bank": "bank build PICTURES --set regions=support.own_regions:halves --out OUT",
}
OF_FIGURES = {
    "evaluate": "evaluate --benchmark world --split single --pictures 6 --method maskclip --batch-size 2 --out OUT",
    "search": "search dog --collection PICTURES --top 3 --parts OUT",
}


@pytest.mark.parametrize("verb", [*OF_FILES, *OF_FIGURES])
def test_what_a_cluster_makes_is_what_one_process_makes(cluster, tmp_path, command, verb):
    assert command("world", "make", "--out", tmp_path / "data", "--count", 6, "--size", 32, "--workers", 1)[0] == 0

    def run(out, *more):
        places = {"PICTURES": tmp_path / "data/images", "OUT": tmp_path / out}
        line = [places.get(word, word) for word in (OF_FILES | OF_FIGURES)[verb].split()]
        status, printed, err = command(*line, "--preset", "world", "--device", "cpu", "--json", *more)
        assert status == 0, err
        told = [json.loads(line) for line in printed.splitlines()]
        return [{key: value for key, value in each.items() if key not in ("out", "seconds")} for each in told]

    one = run("one")
    assert one
    assert run("out", "--cluster", cluster.address, "--workers", 2) == one
    if verb in OF_FILES:
        assert written(tmp_path / "out") == written(tmp_path / "one")


@pytest.fixture
def pictures(tmp_path, monkeypatch, one_thread):
    """So many that there are several shards of each stage."""
    monkeypatch.setattr(pseudo_masks, "PICTURES_PER_SHARD", 5)
    write_pictures(tmp_path / "pictures", 20)
    return tmp_path / "pictures"


FOUR_PARTS = {"embedding": {"per_part": 5}}


@pytest.mark.parametrize(("workers", "settings"), [(2, {}), (4, THINGS_AND_STUFF)], ids=["two", "four, and a teacher"])
def test_a_distillation_of_a_cluster_is_that_of_one_process(cluster, pictures, tmp_path, workers, settings):
    pipeline_with(pictures, tmp_path / "one", FOUR_PARTS, settings).run_all()
    crew = RayCrew(cluster.address, workers=workers)
    pipeline_with(pictures, tmp_path / "two", FOUR_PARTS, settings, crew=crew).run_all()
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    left = {path.name for path in (tmp_path / "two" / "student").iterdir()}
    assert left == {path.name for path in (tmp_path / "one" / "student").iterdir()}


TEAM = """
    import json
    import sys
    from pathlib import Path
    import torch
    from support.tiny_run import pipeline_with
    from wordmask.runs.ray_crew import RayCrew

    torch.set_num_threads(1)
    pictures, out, settings, *address = sys.argv[1:]
    crew = RayCrew(*address, workers=2, learners=2) if address else None
    pipeline_with(Path(pictures), Path(out), json.loads(settings), crew=crew).run_all()
"""
TOGETHER = {"experts": None, "student": {"batch": 4, "steps": 100}}
LONGER = {"experts": None, "student": {"batch": 4, "steps": 150}}
PATIENCE = 900
"""Seconds after which a process hangs; on a loaded machine several import PyTorch, one after the other."""


@pytest.fixture
def teach(pictures):
    """Starts a run in a process of its own."""
    started = []

    def start(out, settings, *address, **told):
        command = [sys.executable, "-c", textwrap.dedent(TEAM), str(pictures), str(out), json.dumps(settings), *address]
        started.append(subprocess.Popen(command, env={**os.environ, **told}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_learners_train_one_student_together_as_launched_processes_do_and_one_may_be_killed(
    cluster, pictures, tmp_path, teach
):
    team = [teach(tmp_path / "launched", TOGETHER, **told) for told in launched(2)]
    assert [process.wait(timeout=PATIENCE) for process in team] == [0, 0]
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


def steps_in(log):
    return log.read_bytes().count(b"\n") if log.exists() else 0


def kill_a_learner(log):
    """Once they have begun: a worker of Ray Train's, below this process."""
    while steps_in(log) < 5:
        time.sleep(0.01)
    own = [each for each in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(each.cmdline())]
    os.kill(own[0].pid, signal.SIGKILL)


@pytest.mark.parametrize("reached", ["address", "outside"])
def test_a_driver_that_is_killed_while_a_student_learns_goes_on_to_the_same_student(
    cluster, pictures, tmp_path, teach, reached
):
    """From outside, its learners outlive it for a while."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    log = run / "student" / LOG
    kill_when(teach(run, LONGER, getattr(cluster, reached)), lambda: steps_in(log) >= 20, PATIENCE)
    first = read_log(log.parent)[0]
    assert not (run / "student" / STUDENT_FILE).exists()
    assert teach(run, LONGER, getattr(cluster, reached)).wait(timeout=PATIENCE) == 0
    crew = RayCrew(cluster.address, workers=2, learners=2)
    pipeline_with(pictures, whole, LONGER, crew=crew).run_all()
    assert (run / "student" / STUDENT_FILE).read_bytes() == (whole / "student" / STUDENT_FILE).read_bytes()
    told = read_log(log.parent)
    assert told[0] == first, "it went on where it was"
    assert [line["step"] for line in told] == list(range(1, 151)), "and learnt no step twice"
    assert {path.name for path in (run / "student").iterdir()} == {path.name for path in (whole / "student").iterdir()}


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
