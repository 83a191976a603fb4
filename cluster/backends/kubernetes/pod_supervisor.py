"""The supervisor of one worker in its pod: what the memory, the log and the result of a container change about it."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.backends.kubernetes.records import LOG_BYTES, RESULT_BYTES
from cluster.deposits import Grant
from cluster.runs.leashed import Kennel
from cluster.runs.sql_driver import sql_command
from cluster.runs.supervisor import Supervisor
from workloads.resources import format_memory

MEMORY_EVENTS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))


class PodSupervisor(Supervisor):
    """One worker of one run, alone in its container."""

    log_limit_bytes = LOG_BYTES

    def __init__(self, rank: int, kennel: Kennel | None = None) -> None:
        super().__init__(rank, kennel)
        self._killed_before = memory_kills()
        self.stopping_now = threading.Event()
        self._accepted_at = time.time()

    @property
    def output(self) -> Path:
        """Where the files of the result lie, once the run was prepared."""
        assert self._workspace is not None
        return self._workspace.output

    @property
    def grant(self) -> Grant | None:
        """Where a large result may be put instead of into the log."""
        found = self._run.get("deposit") if self._run is not None else None
        return None if found is None else Grant.model_validate(found)

    @property
    def most_result_bytes(self) -> float:
        """A larger result is not wanted anywhere."""
        most = self._run.get("max_result_bytes") if self._run is not None else None
        return math.inf if most is None else float(most)

    async def stop(self, outcome: str, grace_s: float) -> None:
        self.stopping_now.set()
        await super().stop(outcome, grace_s)

    def refuse(self, message: str) -> None:
        """End the run before it has begun."""
        self._accepted_at = time.time()
        self._end("failed", "start_failed", message)

    def _command(self) -> list[str]:
        return sql_command() if self._is_statement() else super()._command()

    def _more_environment(self) -> dict[str, str]:
        if self._run is not None and self._run["kind"] == "ray":
            assert self._workspace is not None
            return ray_environment(self._run, self._workspace.work)
        return {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)} if self._is_statement() else {}

    def _is_statement(self) -> bool:
        return self._run is not None and self._run["kind"] == "sql"

    def _end_specially(self, report: dict[str, Any], used: dict[str, Any]) -> bool:
        assert self._run is not None
        if report["exit"] == -signal.SIGKILL and memory_kills() > self._killed_before:
            message = f"OOMKilled: it used more memory than the {format_memory(self._run['memory_bytes'])} that it asked for; ask for more"
            self._end("failed", "statement" if self._is_statement() else "out_of_memory", message, exit_code=report["exit"], usage=used)
        elif self._is_statement():
            self._end_of_driver(report["exit"], used)
        else:
            return False
        return True

    def _end(self, outcome: str, category: str | None, message: str, **more: Any) -> None:
        size = sum(file["size_bytes"] for file in more.get("files") or ())
        if size > RESULT_BYTES and self.grant is None:
            outcome, category, more["files"], more["preview"] = "failed", "result", None, None
            message = (
                f"the result of {size} bytes is over the {RESULT_BYTES} bytes that a pod's log can carry; write less to it, or have the "
                "operator name a store where pods put what is larger (cpn cluster change CLUSTER --result-store s3://…)"
            )
        super()._end(outcome, category, message, **more)


def ray_environment(run: Mapping[str, Any], work: Path) -> dict[str, str]:
    """What lets a program's own `ray.init()` find the Ray around it, with what its tasks and actors are to have."""
    asked, found = run["runtime_env"] or {}, dict[str, Any]()
    if asked.get("env_vars"):
        found["env_vars"] = asked["env_vars"]
    if asked.get("py_modules"):
        found["py_modules"] = [str(work / folder) for folder in asked["py_modules"]]
    environment = {"RAY_ADDRESS": os.environ.get("RAY_ADDRESS", "auto"), "RAY_USAGE_STATS_ENABLED": "0"}
    return environment | ({"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": found})} if found else {})


def memory_kills(files: tuple[Path, ...] = MEMORY_EVENTS) -> int:
    """How often the kernel has killed a process of this container for its memory; 0 where it does not say."""
    for path in files:
        try:
            words = path.read_text(encoding="ascii").split()
        except (OSError, UnicodeError):
            continue
        if "oom_kill" in words:
            return int(words[words.index("oom_kill") + 1])
    return 0
