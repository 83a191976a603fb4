"""May this endpoint become a member's? Looked at when it is registered, so that what is wrong is an error now, not a silence later."""

from __future__ import annotations

from collections.abc import Callable

from cluster.checks import Examination, failures
from cluster.model import BackendName, Endpoint, KubernetesEndpoint
from scheduler.errors import InvalidError, Problem

Look = Callable[[BackendName, Endpoint], Examination]


def examine_endpoint(backend: BackendName, endpoint: Endpoint) -> Examination:
    """Every check of a cluster of this backend, looked at from this machine. Blocks for seconds, or for as long as its nodes may take."""
    if backend == "kubernetes":
        from cluster.backends.kubernetes.examining import examine as examine_kubernetes

        return examine_kubernetes(endpoint.kubernetes or KubernetesEndpoint())
    from cluster.backends.ray.examining import examine
    from cluster.backends.ray.versions import own_versions

    return examine(endpoint, own_versions())


def check_endpoint(backend: BackendName, endpoint: Endpoint, look: Look = examine_endpoint) -> str:
    """The cluster's own id when every check passes. Blocks as `look` does.

    Raises InvalidError with every check that failed: the field that it is about, what was found, and what to do.
    """
    found = look(backend, endpoint)
    wrong = failures(found.checks)
    if wrong:
        usual = "kubernetes" if backend == "kubernetes" else "address"
        raise InvalidError(
            tuple(Problem(f"endpoint.{check.field or usual}", check.name, f"{check.found}; {check.remedy}") for check in wrong)
        )
    return found.cluster_id
