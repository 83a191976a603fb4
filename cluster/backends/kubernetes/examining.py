"""Can this Kubernetes cluster become a member, driven with these credentials? Every check by itself, and nothing is changed by it.

What an agent needs is asked for as it would: the API server's version and clock, the member's namespace, every right by a review of its
own, the cluster's id, and nodes that take runs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cluster.backends.kubernetes.access import Access, AccessError
from cluster.backends.kubernetes.client import Document, KubeClient
from cluster.backends.kubernetes.inventory import IDENTITY, NODES, VERSION
from cluster.backends.kubernetes.nodes import Machine, machine_of
from cluster.backends.kubernetes.rights import RIGHTS, Right, asked_for, missing_words, remedy
from cluster.backends.kubernetes.taints import read_toleration
from cluster.checks import CLOCK_S, Check, CheckName, Examination, clock_found, date_off_s, failed, failures, passed, skipped
from cluster.errors import AuthenticationError, ClusterError, ForbiddenError, NotThereError
from cluster.model import KubernetesEndpoint

# The oldest that is tested against a real server.
OLDEST = (1, 20)
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_AFTER_ACCESS: tuple[CheckName, ...] = (
    "api-server",
    "credentials",
    "kube-version",
    "kube-clock",
    "namespace",
    "rights",
    "identity",
    "nodes",
)
_AFTER_SERVER = _AFTER_ACCESS[1:]
_AFTER_CREDENTIALS: tuple[CheckName, ...] = ("namespace", "rights", "identity", "nodes")
_ASKED_AT_ONCE = 16


def access_of(endpoint: KubernetesEndpoint) -> Access:
    """The way in that an endpoint describes."""
    kubeconfig = Path(endpoint.kubeconfig) if endpoint.kubeconfig else None
    return Access(kubeconfig, endpoint.context, endpoint.namespace)


def examine(endpoint: KubernetesEndpoint, *, now: Callable[[], float] = time.time) -> Examination:
    """Look at everything. Blocks for less than a second where the server answers, else as long as the client waits."""
    return asyncio.run(_examine(endpoint, now))


async def _examine(endpoint: KubernetesEndpoint, now: Callable[[], float]) -> Examination:
    client = KubeClient(access_of(endpoint))
    try:
        return await _Questions(client, endpoint, now).all()
    finally:
        await client.close()


class _Questions:
    """The checks of one endpoint, in the order in which they build on each other."""

    def __init__(self, client: KubeClient, endpoint: KubernetesEndpoint, now: Callable[[], float]) -> None:
        self._client, self._endpoint, self._now = client, endpoint, now
        self._where, self._user = str(client.access), ""

    async def all(self) -> Examination:
        checks = await self._server()
        if failures(checks):
            return Examination(tuple(checks))
        namespace, rights, (identity, cluster_id), nodes = await asyncio.gather(
            self._namespace(), self._rights(), self._identity(), self._nodes()
        )
        return Examination((*checks, namespace, rights, identity, nodes), cluster_id)

    async def _server(self) -> list[Check]:
        """The way in, the server behind it, who we are to it, its version and clock."""
        asked_at = self._now()
        try:
            answer = await self._client.ask("GET", VERSION)
        except AccessError as error:
            change = "correct the file, or name another one" if error.field == "kubeconfig" else "name one with --context"
            found = failed("kubeconfig", str(error), change, f"kubernetes.{error.field}")
            return [found, *skipped(("api-server", *_AFTER_SERVER), "there is no way into the cluster")]
        except AuthenticationError as error:
            return [*self._way_in(), passed("api-server", "the API server answers"), self._refused(error), *skipped(
                ("kube-version", "kube-clock", *_AFTER_CREDENTIALS), "the credentials were refused")]  # fmt: skip
        except ClusterError as error:
            change = "correct the server's address in the kubeconfig, or register the cluster with mode pull and run its agent within it"
            found = failed("api-server", str(error), change, "kubernetes.kubeconfig")
            return [*self._way_in(), found, *skipped(_AFTER_SERVER, "the API server did not answer as it should")]
        answered_at = self._now()
        credentials = await self._credentials()
        checks = [*self._way_in(), passed("api-server", "the API server answers"), credentials, _version(answer.document),
                  _clock(answer.date, asked_at, answered_at)]  # fmt: skip
        return [*checks, *skipped(_AFTER_CREDENTIALS, "the credentials were refused")] if credentials.state == "failed" else checks

    def _way_in(self) -> list[Check]:
        return [passed("kubeconfig", f"{self._where} can be used")]

    def _refused(self, error: ClusterError) -> Check:
        change = "give the context a user whose token or certificate is valid (kubectl auth whoami), or name another context"
        return failed("credentials", str(error), change, "kubernetes.context")

    async def _credentials(self) -> Check:
        """Who we are. A server before 1.28 does not say, but answers reviews to those whom it knows alone."""
        try:
            answer = await self._client.create(WHO, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
            self._user = str(answer["status"]["userInfo"]["username"])
        except (NotThereError, ForbiddenError):
            pass
        except ClusterError as error:
            return self._refused(error)
        try:
            await self._may(RIGHTS[0], "list")
        except ClusterError as error:
            return self._refused(error)
        return passed("credentials", f"the API server knows us as {self._user}" if self._user else "the API server knows the credentials")

    async def _namespace(self) -> Check:
        name = self._endpoint.namespace
        try:
            found = await self._client.get(f"/api/v1/namespaces/{name}")
        except NotThereError:
            change = f"kubectl create namespace {name}, or name another one"
            return failed("namespace", f"there is no namespace {name}", change, "kubernetes.namespace")
        except ForbiddenError:
            return skipped(["namespace"], f"the namespace {name} may not be read; see rights")[0]
        except ClusterError as error:
            return failed("namespace", str(error), "try again when the API server answers", "kubernetes.namespace")
        if found.get("status", {}).get("phase") == "Terminating":
            change = f"wait until it is gone and make it anew (kubectl create namespace {name}), or name another one"
            return failed("namespace", f"the namespace {name} is being deleted", change, "kubernetes.namespace")
        return passed("namespace", f"the namespace {name} is there")

    async def _rights(self) -> Check:
        """Every verb by a review of its own, some at a time."""
        turns = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask(right: Right, verb: str) -> bool:
            async with turns:
                return await self._may(right, verb)

        try:
            rights = [right for right in RIGHTS if not right.with_kind or await self._serves(right.group)]
            wanted = [(right, verb) for right in rights for verb in right.verbs]
            allowed = await asyncio.gather(*(ask(right, verb) for right, verb in wanted))
        except ClusterError as error:
            return failed("rights", f"the API server does not say what is allowed: {error}", "try again when it does", "kubernetes.context")
        denied = {pair for pair, may in zip(wanted, allowed, strict=True) if not may}
        missing = [
            replace(right, verbs=tuple(verb for verb in right.verbs if (right, verb) in denied))
            for right in rights if any((right, verb) in denied for verb in right.verbs)
        ]  # fmt: skip
        needed, namespace = [right for right in missing if not right.with_kind], self._endpoint.namespace
        if needed:
            found = f"it may not {missing_words(needed, namespace)}"
            return failed("rights", found, remedy(needed, namespace, self._subject()), "kubernetes.context")
        less = "".join(f"; it may not {missing_words([right], namespace)}, which it takes to {right.why}" for right in missing)
        return passed("rights", f"all {sum(not right.with_kind for right, _ in wanted)} rights that an agent needs are there{less}")

    async def _serves(self, group: str) -> bool:
        try:
            await self._client.get(f"/apis/{group}")
        except (NotThereError, ForbiddenError):
            return False
        return True

    async def _may(self, right: Right, verb: str) -> bool:
        return all([await self._allowed({"verb": verb, **asked}) for asked in asked_for(right, self._endpoint.namespace)])

    async def _allowed(self, asked: Document) -> bool:
        body: Document = {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked},
        }  # fmt: skip
        answer = await self._client.create(REVIEW, body)
        return bool(answer.get("status", {}).get("allowed"))

    def _subject(self) -> str:
        """Who is to be granted something, as kubectl takes it."""
        account = re.match(r"^system:serviceaccount:([^:]+):(.+)$", self._user)
        return f"--serviceaccount={account[1]}:{account[2]}" if account else f"--user={self._user or 'USER'}"

    async def _identity(self) -> tuple[Check, str]:
        try:
            uid = str((await self._client.get(IDENTITY))["metadata"]["uid"])
        except ForbiddenError:
            return skipped(["identity"], "the namespace kube-system may not be read; see rights")[0], ""
        except ClusterError as error:
            return failed("identity", str(error), "the namespace kube-system has to be there: its uid is the cluster's own id"), ""
        return passed("identity", f"the cluster's own id is {uid}"), uid

    async def _nodes(self) -> Check:
        tolerations = [read_toleration(text) for text in self._endpoint.tolerations]
        machines: list[Machine] = []
        try:
            async for page in self._client.pages(NODES):
                machines += [machine_of(item, tolerations) for item in page["items"]]
        except ForbiddenError:
            return skipped(["nodes"], "nodes may not be listed; see rights")[0]
        except ClusterError as error:
            return failed("nodes", str(error), "try again when the API server answers")
        ready = [machine for machine in machines if not machine.trouble]
        found = f"{len(ready)} of {len(machines)} nodes take runs"
        if ready:
            return passed("nodes", found)
        troubles = "; ".join(f"{machine.name}: {machine.trouble}" for machine in machines[:3])
        change = "wait until a node is ready (kubectl get nodes), or name the taints that runs put up with by --tolerate"
        return failed("nodes", f"{found} ({troubles})" if troubles else "the cluster has no nodes", change, "kubernetes.tolerations")


def _version(document: Document) -> Check:
    text = str(document.get("gitVersion", ""))
    found = re.match(r"^v?(\d+)\.(\d+)", text)
    if found and (int(found[1]), int(found[2])) >= OLDEST:
        return passed("kube-version", f"Kubernetes {text}")
    change = f"upgrade the cluster to Kubernetes {OLDEST[0]}.{OLDEST[1]} or later"
    return failed("kube-version", f"Kubernetes {text or '(unknown)'} is not supported", change, "kubernetes.context")


def _clock(date: str, asked_at: float, answered_at: float) -> Check:
    off_s = date_off_s(date, asked_at, answered_at)
    if off_s is None:
        return skipped(["kube-clock"], "the API server does not tell its time")[0]
    return clock_found("kube-clock", "the API server's clock", off_s, CLOCK_S)
