"""A real Ray that others use too: what they hold is no room of ours, and what we hold is not taken for theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.model import Node, NodeAccelerator, Others
from cluster.protocol import RunLog
from tests.network import until
from tests.ray import CPUS, GPUS, WAIT_S, RayAgent, SmallRay
from tests.ray_left import leaving_nothing
from tests.ray_runs import script

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

# Somebody's own program, that knows nothing of cpn.
PROGRAM = """\
import sys
import ray

ray.init(address=sys.argv[1], namespace="somebody", log_to_driver=False)


@ray.remote(num_cpus=3, num_gpus=0.5, memory=1024**3)
class Holder:
    def holds(self):
        return True


holder = Holder.remote()
ray.get(holder.holds.remote())
print("holds", flush=True)
sys.stdin.read()
"""


@contextmanager
def somebody(head: SmallRay) -> Iterator[None]:
    """Somebody who holds 3 cores, 1 GiB and half a device."""
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(head.token_file)}
    command = [sys.executable, "-c", PROGRAM, head.address]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            assert "holds\n" in iter(program.stdout.readline, "")
            yield
        finally:
            program.stdin.close()
            program.wait(WAIT_S)


def test_what_others_hold_is_no_room_of_ours_and_comes_back(ray_head: SmallRay, tmp_path: Path) -> None:
    with RayAgent(tmp_path / "agent.log") as agent:
        member = agent.connect(ray_head, tmp_path / "data")

        def node() -> Node:
            (found,) = member.inventory().nodes
            return found

        until(lambda: node().others is None, "nobody else is there", WAIT_S)
        alone = node()
        assert (alone.cpu, alone.accelerators) == (CPUS, (NodeAccelerator(model="H200", count=GPUS),))
        assert alone.object_store_bytes > 0
        with leaving_nothing(member, ray_head):
            run = script(alone.name, "echo begun; while [ ! -e go ]; do sleep 0.1; done\n", cpu=2.0, workers=2)
            member.start(run)
            member.first(run.run_id, RunLog)
            until(lambda: member.taken()[0] == 4.0, "Ray counts the cores of our run", WAIT_S)
            assert [node() for _ in range(3)] == [alone] * 3
            with somebody(ray_head):
                until(lambda: node().others is not None, "somebody is seen", WAIT_S)
                until(lambda: node().others == Others(cpu=3.0, memory_bytes=1024**3, accelerators=1), "with all that they hold", WAIT_S)
                less = node()
                assert (less.cpu, less.memory_bytes) == (CPUS - 3.0, alone.memory_bytes - 1024**3)
                assert less.accelerators == (NodeAccelerator(model="H200", count=GPUS - 1),)
            until(lambda: node() == alone, "they are gone", WAIT_S)
            member.stop(run.run_id)
            member.end_of(run.run_id)
