"""Workers of a Ray cluster: an actor each, which Ray puts where there is room, and with what it asks for."""

import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from wordmask.extras import need
from wordmask.runs.crew import TRIES, CrewError
from wordmask.text_files import counted

RAY_FILES = ".ray-train"
"""The folder that Ray Train keeps its own files in, while it trains."""


class RayCrew:
    """address: "auto" for the cluster that this machine is of, or ray://HOST:10001. workers: None for as many as the
    cluster has accelerators, or processors where it has none. learners: how many of them train a network together.
    """

    def __init__(
        self,
        address: str,
        *,
        workers: int | None = None,
        time_limit: float | None = None,
        accelerators: bool | None = None,
        learners: int = 1,
    ):
        need("ray")
        import ray

        if not ray.is_initialized():
            try:
                ray.init(address, log_to_driver=False, logging_level="WARNING")
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise CrewError(
                    f"no Ray cluster answers at {address} ({_reason(error)}): start one with `ray start --head`, or "
                    "give its address"
                ) from error
        resources = ray.cluster_resources()
        kind = "GPU" if resources.get("GPU", 0) and accelerators is not False else "CPU"
        if accelerators and kind != "GPU":
            raise CrewError(f"the cluster at {address} has no accelerator: choose --device cpu")
        there = max(1, int(resources.get(kind, 1)))
        if learners > there:  # Ray Train would wait for the others without end
            raise CrewError(f"the cluster at {address} has room for {counted(there, 'learner')}, not for {learners}")
        self.workers = workers or there
        self.learners, self._kind = learners, kind
        self.time_limit = time_limit
        self.lost: tuple[type[Exception], ...] = (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError)
        # What is sent to an actor and lost is sent again by us, who count; Ray is not to do so as well.
        asked = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
        self._actor = ray.remote(max_restarts=0, max_task_retries=0, **asked)(_Actor)

    def begin(self) -> "RayActor":
        return RayActor(self._actor.remote())

    def train(self, learn: Callable[[], Any], out: Path) -> None:
        """Have Ray Train begin the learners, and begin them all again when one is lost: they go on at a checkpoint."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchTrainer

        told = pickle.dumps(learn)
        own = out / RAY_FILES
        shutil.rmtree(own, ignore_errors=True)  # of a command that was killed
        trainer = TorchTrainer(
            lambda: pickle.loads(told)(),
            scaling_config=ScalingConfig(num_workers=self.learners, use_gpu=self._kind == "GPU"),
            run_config=RunConfig(
                name="training", storage_path=str(own), failure_config=FailureConfig(max_failures=TRIES - 1)
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise CrewError(f"the training on the cluster has failed {TRIES} times: {_reason(error)}") from error
        finally:
            shutil.rmtree(own, ignore_errors=True)


def _reason(error: Exception) -> str:
    """Return what the first worker says that has failed, or else the cluster, whose tracebacks end with it."""
    failures = getattr(error, "worker_failures", {})
    return str(next(iter(failures.values()), error)).strip().splitlines()[-1]


class _Actor:
    def __init__(self) -> None:
        from wordmask.console.notices import notices

        notices.counting = True

    def do(self, what: Callable[..., Any], *arguments: Any) -> Any:
        return what(*arguments)


class RayActor:
    def __init__(self, actor: Any):
        self._actor = actor

    @property
    def name(self) -> str:
        return f"worker {self._actor._actor_id.hex()[:8]} of the cluster"

    def submit(self, do: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future: Future[Any] = self._actor.do.remote(do, *arguments).future()
        return future

    def end(self) -> None:
        import ray

        with suppress(ray.exceptions.RayError):  # it is gone, and so is its node perhaps
            ray.kill(self._actor)
