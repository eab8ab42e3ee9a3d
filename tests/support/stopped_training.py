"""Trainings that stop at a step, as if killed, and what their logs tell."""

import json


class Killed(Exception):
    pass


def kill_at(monkeypatch, objective, call):
    """The losses of a class of objectives raise at their n-th call, once."""
    original, calls = objective.losses, []

    def losses_then_death(self, *arguments):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return original(self, *arguments)

    monkeypatch.setattr(objective, "losses", losses_then_death)


def stop_at(step):
    """A listener to progress at whose step the training ends."""

    def progress(done, steps):
        if done == step:
            raise Killed

    return progress


def log_of(out):
    """What a run's log tells, but for times."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("time", "speed")} for line in lines]
