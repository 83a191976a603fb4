"""A second node for a real Ray head on the same machine, for what spreads over nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.backends.ray.ports import take_block
from tests.network import until
from tests.ray import WAIT_S, Connection, SmallRay, environment_of

_GRACE_S = 10.0


@contextmanager
def joined_node(head: SmallRay, member: Connection, *, cpus: int, memory_bytes: int) -> Iterator[str]:
    """A node of its own work directory that has joined the head; its name in cpn. It is gone at the end."""
    ports = take_block()
    first, last = ports.workers()
    known = {node.name for node in member.inventory().nodes}
    with tempfile.TemporaryDirectory(prefix="cpn-node-") as work:
        environment = {**environment_of(head.pid), "CPN_WORK_DIR": work}
        arguments = [
            sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={head.address}", "--block", "--disable-usage-stats",
            "--node-name=second", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", f"--memory={memory_bytes}", "--num-gpus=0",
            f"--object-store-memory={128 * 1024**2}", f"--min-worker-port={first}", f"--max-worker-port={last}",
        ]  # fmt: skip
        log = Path(work, "node.log")
        with log.open("wb") as output:
            node = subprocess.Popen(
                arguments, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                pass_fds=(ports.lock,),
            )  # fmt: skip
        # Before the head's own, which is the last one.
        head.work_directories.insert(0, work)

        def joined() -> set[str]:
            return {found.name for found in member.inventory().nodes} - known

        def ended() -> str:
            return log.read_text(errors="replace")[-2000:] if node.poll() is not None else ""

        try:
            until(lambda: joined() or ended(), "the second node has joined", WAIT_S)
            assert joined(), ended()
            yield joined().pop()
        finally:
            os.killpg(node.pid, signal.SIGTERM)
            try:
                node.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)
                node.wait()
            ports.release()
            until(lambda: not joined(), "the head knows that it is gone", WAIT_S)
