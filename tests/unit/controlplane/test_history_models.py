"""A network's past as a trace: shares and models that were chosen are what they were."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from controlplane.client import Client
from controlplane.history import history_of
from scheduler.simulator.networks import same_name
from tests.unit.controlplane.cli_server import FakeServer, job, page, spec


def learned(model: str, value: float) -> dict[str, Any]:
    speed = {"value": value, "origin": "learned", "runs": 12, "precision": None, "words": "learned from 12 runs"}
    return {"model": model, "speed": speed, "runs": 6, "median_steps_per_s": None, "median_run_s": 60.0}


LEARNED = {"tenant": "acme", "kind": "command", "name": "count", "models": [learned("H200", 1.5), learned("A100", 1.0)]}


def ended(accelerator: dict[str, Any], ran_on: str) -> dict[str, Any]:
    """A job that asked for accelerators and ran on some."""
    found = job("succeeded", kind="command")
    run = {
        "id": "job-a-1", "attempt": 1, "state": "succeeded", "cause": "finished", "cluster": "sh", "nodes": ["n1"], "exit_code": 0,
        "message": "", "placed_at": found["started_at"], "started_at": found["started_at"], "finished_at": found["finished_at"],
        "accelerator_model": ran_on, "accelerator_devices": [[0]],
    }  # fmt: skip
    return {**found, "spec": {**spec("command"), "resources": {"accelerator": accelerator}}, "runs": [run]}


@pytest.mark.parametrize(
    ("accelerator", "ran_on", "devices", "milli", "speeds"),
    [
        ({"model": "H200", "count": 2}, "H200", 2, 1000, {"H200": 1.0}),
        ({"model": "H200", "share": 0.25}, "H200", 1, 250, {"H200": 1.0}),
        # What it came to is counted from the model that it ran on.
        ({"any_of": [{"model": "H200", "speed": 2.0}, {"model": "A100", "speed": 1.0}]}, "A100", 1, 1000, {"H200": 2.0, "A100": 1.0}),
        ({"any_of": [{"model": "H200", "speed": 2.0}, {"model": "A100", "speed": 1.0}]}, "H200", 1, 1000, {"H200": 1.0, "A100": 0.5}),
        # What is not declared is as the server has learned it, and by ratings where it has learned nothing of one of the models.
        ({"any_of": [{"model": "H200"}, {"model": "A100"}]}, "A100", 1, 1000, {"H200": 1.5, "A100": 1.0}),
        ({"any_of": [{"model": "A100"}, {"model": "A30"}]}, "A100", 1, 1000, {"A100": 1.0, "A30": 165 / 312}),
    ],
)
def test_what_ran_is_told_as_it_was(accelerator: dict[str, Any], ran_on: str, devices: int, milli: int, speeds: dict[str, float]) -> None:
    server = FakeServer(answers={"GET /jobs": page(ended(accelerator, ran_on)), "GET /speeds": page(LEARNED)})
    with Client("http://cpn.test", transport=httpx.MockTransport(server.handle)) as client:
        trace = history_of(client, 10)
    assert (trace.devices.tolist(), trace.gpu_milli.tolist()) == ([devices], [milli])
    assert trace.kinds[int(trace.kind[0])].speeds == pytest.approx({same_name(model): speed for model, speed in speeds.items()})
    assert np.all(trace.work > 0)
