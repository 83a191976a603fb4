"""A run of kind ray as its supervisor sees it: how its process is started, watched for what it asks of Ray, and understood at its end.

The process is the user's and is on a leash like every other (`script_driver.py` is what it begins as). What it starts in Ray lies
within the placement group that the supervisor holds, one bundle for each worker, and in a namespace of its own; whoever ends the
run removes what is left there (`census.py`), and the group goes with the supervisor, with everything in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.backends.ray.census import Books, Census, namespace_of
from cluster.backends.ray.grant import Breach, Grant
from workloads.catalogue.s3 import SECRETS
from workloads.runners.process import resolve_command

LOOK_S = 1.0
BREACH_GRACE_S = 2.0
_DRIVER = str(Path(__file__).with_name("script_driver.py"))
_TELLABLE = frozenset({"runtime_env", "beyond_grant", "infrastructure"})
# A program that connects anew after `ray.shutdown` is another Ray job; that is looked for now and then.
_LOOKS_FOR_JOBS = 10

logger = logging.getLogger(__name__)


def bundle_of(run: Mapping[str, Any]) -> dict[str, float]:
    """What each worker of a run holds, in Ray's words."""
    bundle = {"CPU": float(run["cpu"]), "memory": float(run["memory_bytes"]), "GPU": float(run["accelerator_count"])}
    return {resource: amount for resource, amount in bundle.items() if amount}


def ray_environment(run: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The job's runtime environment as Ray takes it: folders by their place, packages from the operator's directory alone."""
    asked = run["runtime_env"] or {}
    found: dict[str, Any] = {}
    # Ray's workers have what their node was started with, and the program's tasks run in them.
    if variables := {**{name: "" for name in SECRETS if name in os.environ}, **(asked.get("env_vars") or {})}:
        found["env_vars"] = variables
    if asked.get("py_modules"):
        found["py_modules"] = [str(root / "work" / folder) for folder in asked["py_modules"]]
    if asked.get("pip"):
        wheels = (run["ray_jobs"] or {}).get("wheelhouse", "")
        options = ["--disable-pip-version-check", "--no-cache-dir", "--no-index", f"--find-links={wheels}"]
        found["pip"] = {"packages": list(asked["pip"]), "pip_check": False, "pip_install_options": options}
    return found


class RayScript:
    """One such run. `group` is the id of its placement group."""

    def __init__(self, run: dict[str, Any], root: Path, group: str) -> None:
        self._run, self._root, self._group = run, root, group
        self._breach: Breach | None = None
        self._outcome = root / "outcome.json"
        allowed = (run["ray_jobs"] or {}).get("runtime_env", ())
        self._environment = ray_environment(run, root)
        self._grant = Grant(bundle_of(run), len(run["nodes"]), allowed)

    def command(self) -> list[str]:
        """The argument list to start. Writes what the process reads first, for nobody else to read."""
        config = {
            "address": _address(), "namespace": namespace_of(self._run["run_id"]), "group": self._group, "run_id": self._run["run_id"],
            "runtime_env": self._environment, "granted": self._grant.words, "outcome": str(self._outcome),
        }  # fmt: skip
        path = self._root / "script.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        path.chmod(0o600)
        python, *program = resolve_command(self._run["command"])
        return [python, _DRIVER, str(path), *program]

    @staticmethod
    def environment() -> dict[str, str]:
        """What it needs beside a run's usual variables: the place of the cluster's own token, and nothing of ours."""
        return {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")} | {"RAY_USAGE_STATS_ENABLED": "0"}

    async def watch(self, stop: Callable[[float], None]) -> None:
        """Look at what the run asks of Ray until it asks for more than it was granted; `stop` ends its process then."""
        jobs: dict[bytes, str] = {}
        looks = 0
        while True:
            await asyncio.sleep(LOOK_S)
            if not jobs or looks % _LOOKS_FOR_JOBS == 0:
                jobs = await self._ask(Books.jobs, namespace_of(self._run["run_id"])) or jobs
            looks += 1
            census: Census | None = await self._ask(Books.take, jobs, bytes.fromhex(self._group))
            self._breach = self._grant.judge(census) if census is not None else None
            if self._breach is not None:
                stop(BREACH_GRACE_S)
                return

    def end(self, report: Mapping[str, Any]) -> tuple[str, str, str] | None:
        """Outcome, category and message of an end that its exit code alone does not explain; None for every other."""
        if self._breach is not None:
            return self._breach.outcome, self._breach.category, self._breach.message
        if report["exit"] <= 0 or report["reason"] is not None:
            return None
        try:
            found = json.loads(self._outcome.read_text(encoding="utf-8"))
            category, message = str(found["category"]), str(found["message"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return ("failed", category, message) if category in _TELLABLE else None

    async def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """An answer of the head; None while it is away, which is for its agent to judge."""
        import grpc  # type: ignore[import-untyped, unused-ignore]

        def ask() -> Any:
            books = Books(_address())
            try:
                return question(books, *arguments)
            finally:
                books.close()

        try:
            return await asyncio.to_thread(ask)
        except grpc.RpcError as error:
            logger.warning("run %s: the head does not tell what it asks for: %s", self._run["run_id"], error)
            return None


def _address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)
