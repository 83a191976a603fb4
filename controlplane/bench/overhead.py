"""What cpn costs a long job: the same command by hand and as a job, in turns, on one network with a real Ray.

The command is a fixed amount of arithmetic on one core, of about the seconds that were asked for, that writes a line of log every
hundredth of it. It counts its own time; the *whole* is from where a person submits it, or starts its process, to where they see its end.
So what cpn adds shows in two places: in the whole beyond the work (admission, placement, start, the way back of the end), and in the
work itself, if agent and server disturb it. Beside both stands the processor time that agent and server use for a second of such a run,
and for a second in which nothing runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.api.schemas import TenantRequest
from controlplane.bench.errors import BenchError
from controlplane.bench.figures import tree_cpu_s
from controlplane.bench.networks import CLUSTER, TENANT, one_ray
from controlplane.client import Client
from controlplane.network import LocalNetwork, Say
from scheduler.lifecycle import FINAL, State
from workloads.spec import JobSpec

STEPS, SAMPLE_TURNS, SAMPLES = 100, 400_000, 5
NAME, FIGURES = "work.py", "figures.json"
# One argument: the turns of a step.
PROGRAM = f"""\
import json, os, sys, time
turns = int(sys.argv[1])
began, used = time.perf_counter(), time.process_time()
for step in range({STEPS}):
    total = 0
    for turn in range(turns):
        total += turn * turn
    print(f"step {{step + 1}} of {STEPS}: {{total}}", flush=True)
found = {{"work_s": time.perf_counter() - began, "cpu_s": time.process_time() - used}}
with open(os.path.join(os.environ["CPN_OUTPUT_DIR"], "{FIGURES}"), "w") as file:
    json.dump(found, file)
"""


@dataclass(frozen=True)
class Timed:
    """One run of the command, in seconds: all of it, the work as it counted itself, and the work's processor time.

    `server` and `agent`: the processor time that each of them used meanwhile, in seconds for a second of the whole.
    """

    whole_s: float
    work_s: float
    cpu_s: float
    server: float
    agent: float


def run_overhead(folder: Path, *, seconds: float, rounds: int, say: Say) -> dict[str, Any]:
    """Both sides `rounds` times each, after a short first job that does not count. Raises BenchError, NetworkError, ClientError."""
    with one_ray(folder, say) as network, network.operator() as client:
        client.create_tenant(TenantRequest(name=TENANT))
        turns = _turns(seconds)
        _as_job(network, client, folder, max(1, turns // 1000))
        ours: list[Timed] = []
        peer: list[Timed] = []
        for number in range(rounds):
            peer.append(_by_hand(network, folder, turns))
            ours.append(_as_job(network, client, folder, turns))
            say(f"round {number + 1} of {rounds}: by hand {peer[-1].whole_s:.2f} s, through cpn {ours[-1].whole_s:.2f} s")
    return document_of(seconds, ours, peer)


def document_of(seconds: float, ours: list[Timed], peer: list[Timed]) -> dict[str, Any]:
    """The figures: medians of each side, and how much longer ours takes, as a part of the peer's whole."""

    def median(found: list[Timed], name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in found))

    def side(found: list[Timed]) -> dict[str, float]:
        beyond = statistics.median(one.whole_s - one.work_s for one in found)
        times = {name: round(median(found, name), 3) for name in ("whole_s", "work_s", "cpu_s")}
        return {**times, "beyond_work_s": round(beyond, 3)}

    cpn, direct = side(ours), side(peer)
    added = cpn["beyond_work_s"] - direct["beyond_work_s"]
    return {
        "seconds": seconds, "rounds": len(ours), "cpn": cpn, "direct": direct,
        "ratio": round(median(ours, "whole_s") / median(peer, "whole_s"), 4),
        "ratio_work_cpu": round(median(ours, "cpu_s") / median(peer, "cpu_s"), 4),
        "added_s": round(added, 3), "added_part": round(added / median(peer, "whole_s"), 4),
        "control_cpu_s_per_s": {
            "running": {name: round(median(ours, name), 4) for name in ("server", "agent")},
            "idle": {name: round(median(peer, name), 4) for name in ("server", "agent")},
        },
    }  # fmt: skip


def _turns(seconds: float) -> int:
    """Turns of one step, so that all steps take about so many seconds of this machine's processor."""
    times = []
    for _ in range(SAMPLES):
        began, total = time.process_time(), 0
        for turn in range(SAMPLE_TURNS):
            total += turn * turn
        times.append(time.process_time() - began)
    return max(1, round(seconds / STEPS * SAMPLE_TURNS / statistics.median(times)))


def _control_s(network: LocalNetwork) -> tuple[float, float]:
    """Processor time of the server and of the agent so far."""
    return tree_cpu_s(network.server.pid), tree_cpu_s(network.agents[CLUSTER].pid)


def _timed(whole_s: float, found: dict[str, float], before: tuple[float, float], after: tuple[float, float]) -> Timed:
    server, agent = ((now - then) / whole_s for now, then in zip(after, before, strict=True))
    return Timed(whole_s, found["work_s"], found["cpu_s"], server, agent)


def _by_hand(network: LocalNetwork, folder: Path, turns: int) -> Timed:
    """The command in a process of its own on the same machine."""
    place = folder / "by-hand"
    place.mkdir(exist_ok=True)
    (place / NAME).write_text(PROGRAM, encoding="utf-8")
    before, began = _control_s(network), time.monotonic()
    with (place / "log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, NAME, str(turns)], cwd=place, env={**os.environ, "CPN_OUTPUT_DIR": str(place)}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, check=False, start_new_session=True,
        )  # fmt: skip
    whole = time.monotonic() - began
    if done.returncode != 0:
        raise BenchError(f"the command by hand ended with {done.returncode}: {(place / 'log').read_text(errors='replace')[-2000:]}")
    return _timed(whole, json.loads((place / FIGURES).read_text(encoding="utf-8")), before, _control_s(network))


def _as_job(network: LocalNetwork, client: Client, folder: Path, turns: int) -> Timed:
    """The same as a job, to the end that its waiting client sees."""
    spec = JobSpec.model_validate({
        "name": "long", "tenant": TENANT, "kind": "command", "purpose": "research", "command": [sys.executable, NAME, str(turns)],
        "files": {NAME: PROGRAM}, "resources": {"cpu": 1, "memory": "1GiB"}, "max_runtime": "1d",
    })  # fmt: skip
    before, began = _control_s(network), time.monotonic()
    job = client.submit(spec)
    while State(job.state) not in FINAL:
        job = client.job(job.id, wait_s=30.0, after_version=job.version)
    whole, after = time.monotonic() - began, _control_s(network)
    if job.state != State.SUCCEEDED:
        raise BenchError(f"{job.id} is {job.state}: {job.message}")
    client.download(job.id, FIGURES, folder / FIGURES)
    return _timed(whole, json.loads((folder / FIGURES).read_text(encoding="utf-8")), before, after)
