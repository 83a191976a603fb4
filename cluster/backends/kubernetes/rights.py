"""What the agent of a Kubernetes member may do there, and nothing else: the one list that its checks and its manifests are made of.

In the member's namespace it makes and removes what runs are made of. Of the whole cluster it reads what says how much room there is, and
the namespace kube-system, whose uid is the cluster's own id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Right:
    """Verbs on a resource (`pods/log`: on a part of it). `everywhere`: in all namespaces, else in that of the runs.

    `names`: on these objects alone. `why` completes "it is needed to …". `with_kind`: only clusters that serve this API group need it,
    and without it a member does less.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    everywhere: bool = False
    names: tuple[str, ...] = ()
    with_kind: bool = False


RIGHTS = (
    Right("", "nodes", ("list", "watch"), "count nodes and what they have", everywhere=True),
    Right("", "pods", ("list", "watch"), "know what others use of them", everywhere=True),
    Right("", "namespaces", ("get",), "know the cluster by its own id", everywhere=True, names=("kube-system",)),
    Right("", "namespaces", ("get",), "see whether the namespace of the runs is there"),
    Right("batch", "jobs", ("create", "delete", "list", "patch", "watch"), "start, follow and end runs"),
    Right("", "pods", ("delete", "list", "watch"), "follow and end runs"),
    Right("", "pods/log", ("get",), "hear what runs tell"),
    Right("", "secrets", ("create", "delete", "get", "list"), "hand runs their requests, and find them again"),
    Right("", "services", ("create", "delete", "list", "patch"), "let the workers of a gang find each other"),
    Right("ray.io", "rayjobs", ("create", "delete", "list", "patch", "watch"), "run kind ray by KubeRay", with_kind=True),
    Right("kueue.x-k8s.io", "workloads", ("list",), "say why a run waits in a LocalQueue", with_kind=True),
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
        name, only = f"cpn-agent-{number}", "".join(f" --resource-name={name}" for name in right.names)
        what = f"--verb={','.join(right.verbs)} --resource={_named(right)}{only}"
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


def asked_for(right: Right, namespace: str) -> list[dict[str, str]]:
    """What to ask of the API server for each verb: all of these have to be allowed."""
    resource, _, part = right.resource.partition("/")
    what = {"group": right.group, "resource": resource, **({"subresource": part} if part else {})}
    if resource == "namespaces":
        # To the API server a namespace lies in itself.
        return [{**what, "name": name, "namespace": name} for name in right.names or (namespace,)]
    return [what if right.everywhere else {**what, "namespace": namespace}]


def _named(right: Right) -> str:
    """The resource as kubectl writes it: jobs.batch, pods/log."""
    resource, slash, part = right.resource.partition("/")
    return f"{resource}{'.' if right.group else ''}{right.group}{slash}{part}"
