"""What the agent of a Kubernetes member may do there, and nothing else: the one list that its checks and its manifests are made of.

In the member's namespace it makes and removes what runs are made of. Of the whole cluster it reads what says how much room there is, and
the namespace kube-system, whose uid is the cluster's own id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Right:
    """Verbs on a resource, in the member's namespace or `everywhere`. A part of a resource is written pods/log."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    everywhere: bool = False


RIGHTS = (
    Right("", "nodes", ("list", "watch"), everywhere=True),
    Right("", "pods", ("list", "watch"), everywhere=True),
    Right("", "namespaces", ("get",), everywhere=True),
    Right("batch", "jobs", ("create", "delete", "get", "list", "patch", "watch")),
    Right("", "pods", ("delete", "get", "list", "watch")),
    Right("", "pods/log", ("get",)),
    Right("", "secrets", ("create", "delete", "get", "list")),
    Right("", "services", ("create", "delete", "get", "list", "patch")),
)


def missing_words(missing: Sequence[Right], namespace: str) -> str:
    """What may not be done, for people: `list, watch nodes; create jobs.batch in the namespace cpn`."""
    return "; ".join(
        f"{', '.join(right.verbs)} {_named(right)}" + ("" if right.everywhere else f" in the namespace {namespace}") for right in missing
    )


def remedy(missing: Sequence[Right], namespace: str, subject: str) -> str:
    """The commands that grant what is missing. `subject` is kubectl's option for who asks, like --user=ops."""
    commands = []
    for number, right in enumerate(missing, 1):
        name, what = f"cpn-agent-{number}", f"--verb={','.join(right.verbs)} --resource={_named(right)}"
        if right.everywhere:
            commands += [
                f"kubectl create clusterrole {name} {what}",
                f"kubectl create clusterrolebinding {name} --clusterrole={name} {subject}",
            ]
        else:
            commands += [
                f"kubectl -n {namespace} create role {name} {what}",
                f"kubectl -n {namespace} create rolebinding {name} --role={name} {subject}",
            ]
    return " && ".join(commands)


def _named(right: Right) -> str:
    """The resource as kubectl writes it: jobs.batch, pods/log."""
    resource, slash, part = right.resource.partition("/")
    return f"{resource}{'.' if right.group else ''}{right.group}{slash}{part}"
