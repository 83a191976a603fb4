"""The process that drives a statement on Daft: how it is started.

It is ours, not the user's: it holds the cluster's token and runs nothing of the statement itself but its planning.
"""

from __future__ import annotations

import os
import sys

ADDRESS_VARIABLE = "CPN_RAY_ADDRESS"
GROUP_VARIABLE = "CPN_RAY_GROUP"


def daft_command() -> list[str]:
    """The argument list to start."""
    return [sys.executable, "-m", "cluster.backends.ray.daft_driver"]


def daft_environment(group: str) -> dict[str, str]:
    """How it reaches this process's cluster and the placement group of that id there, beside a run's usual variables."""
    import ray

    passed = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    here = {ADDRESS_VARIABLE: ray.get_runtime_context().gcs_address, GROUP_VARIABLE: group}
    return passed | here | {"PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
