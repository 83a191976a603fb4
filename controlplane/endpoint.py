"""May this endpoint become a member's? Looked at when it is registered, so that what is wrong is an error now, not a silence later."""

from __future__ import annotations

from cluster.backends.ray.examining import Probe, examine
from cluster.backends.ray.probing import probe
from cluster.backends.ray.versions import own_versions
from cluster.checks import failures
from cluster.model import Endpoint
from scheduler.errors import InvalidError, Problem


def check_endpoint(endpoint: Endpoint, probe_nodes: Probe = probe) -> str:
    """The cluster's own id when every check passes. Blocks as `examine` does.

    Raises InvalidError with every check that failed: the field that it is about, what was found, and what to do.
    """
    found = examine(endpoint, own_versions(), probe_nodes=probe_nodes)
    wrong = failures(found.checks)
    if wrong:
        raise InvalidError(
            tuple(Problem(f"endpoint.{check.field or 'address'}", check.name, f"{check.found}; {check.remedy}") for check in wrong)
        )
    return found.cluster_id
