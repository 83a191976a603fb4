"""A Kubernetes cluster's inventory, kept by watching all of its nodes and pods.

Of a node is kept what `nodes.py` reads, of a pod only what it holds of which node: some hundred bytes. Pods of this member's runs are known
by their labels and hold nothing here, because cpn books for itself what it places. An inventory is made of the nodes that changed and
all others as they were. In a large cluster pods of others come and go all the time, and each inventory is told whole; so what only they
changed is told at most every `nodes / NODES_A_SECOND` seconds, while a node that comes, goes or stops taking runs is told at once.

Each look asks the cluster who it is and whether the member's namespace is there, so a watch that broke in silence, another cluster at the
address and a namespace that was deleted are seen within seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from cluster.backends.kubernetes.client import Document, KubeClient
from cluster.backends.kubernetes.informer import Informer, Watches
from cluster.backends.kubernetes.nodes import NO_USE, Machine, Use, machine_of, node_of
from cluster.backends.kubernetes.taints import Toleration
from cluster.backends.kubernetes.takes import Take, take_of
from cluster.drivers import BY_PODS
from cluster.errors import ClusterReplacedError, NotThereError, TransientError
from cluster.model import Inventory, Node

NODES, PODS, VERSION, IDENTITY = "/api/v1/nodes", "/api/v1/pods", "/version", "/api/v1/namespaces/kube-system"
NODES_A_SECOND = 250
# For so long a watch may be on its way back before the member is called unreachable.
PATIENCE_S, FIRST_LIST_S = 15.0, 120.0
MOST_TAKES = 10_000
IsOurs = Callable[[Document], bool]


class _Pods:
    """What pods of others hold, by pod and by node. `changed` are the nodes where that is another than before."""

    def __init__(self, is_ours: IsOurs) -> None:
        self._is_ours = is_ours
        self._held: dict[str, tuple[str, Take]] = {}
        self._unseen: set[str] | None = None
        self._takes: dict[Take, Take] = {}
        self.use: dict[str, Use] = {}
        self.changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._held)

    def begin(self) -> None:
        self._unseen = set(self._held)

    def end(self) -> None:
        for uid in self._unseen or ():
            self._let_go(uid)
        self._unseen = None

    def put(self, item: Document) -> None:
        uid = item["metadata"]["uid"]
        if self._unseen is not None:
            self._unseen.discard(uid)
        take = None if self._is_ours(item) else take_of(item)
        node = item["spec"].get("nodeName", "")
        if take is None:
            self._let_go(uid)
        elif self._held.get(uid) != (node, take):
            self._let_go(uid)
            self._hold(uid, node, take)

    def drop(self, item: Document) -> None:
        self._let_go(item["metadata"]["uid"])

    def _hold(self, uid: str, node: str, take: Take) -> None:
        # Pods made from one template take the same: it is kept once.
        if len(self._takes) > MOST_TAKES:
            self._takes.clear()
        take = self._takes.setdefault(take, take)
        use = self.use.get(node)
        if use is None:
            use = self.use[node] = Use()
        use.add(take)
        self._held[uid] = node, take
        self.changed.add(node)

    def _let_go(self, uid: str) -> None:
        node, take = self._held.pop(uid, ("", None))
        if take is None:
            return
        self.use[node].add(take, -1)
        if not self.use[node].pods:
            del self.use[node]
        self.changed.add(node)


class _Machines:
    """The nodes by name. `changed` are those that are another than before, or gone."""

    def __init__(self, tolerations: Sequence[Toleration]) -> None:
        self._tolerations = tolerations
        self._unseen: set[str] | None = None
        self.known: dict[str, Machine] = {}
        self.changed: set[str] = set()

    def begin(self) -> None:
        self._unseen = set(self.known)

    def end(self) -> None:
        for name in self._unseen or ():
            self._forget(name)
        self._unseen = None

    def put(self, item: Document) -> None:
        machine = machine_of(item, self._tolerations)
        if self._unseen is not None:
            self._unseen.discard(machine.name)
        # A node reports itself every few minutes with nothing in it that matters here.
        if self.known.get(machine.name) != machine:
            self.known[machine.name] = machine
            self.changed.add(machine.name)

    def drop(self, item: Document) -> None:
        self._forget(item["metadata"]["name"])

    def _forget(self, name: str) -> None:
        if self.known.pop(name, None) is not None:
            self.changed.add(name)


class KubeInventory:
    """The nodes of one cluster, for the member whose pods `is_ours` knows. `open` begins to watch, `close` ends that."""

    def __init__(
        self, client: KubeClient, is_ours: IsOurs, *, tolerations: Sequence[Toleration] = (), seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._seconds = client, seconds
        self._pods, self._machines = _Pods(is_ours), _Machines(tolerations)
        self._watches = Watches("the cluster's nodes and pods", seconds, (
            Informer(client, NODES, self._machines, seconds=seconds),
            # Those that are over hold nothing, and clusters keep thousands of them.
            Informer(client, PODS, self._pods, seconds=seconds, fields="status.phase!=Succeeded,status.phase!=Failed"),
        ))  # fmt: skip
        self._version = self._cluster_id = ""
        self._nodes: dict[str, Node] = {}
        self._told = Inventory(nodes=())
        self._told_at = seconds()

    @property
    def cluster_id(self) -> str:
        """The cluster's own id: the uid of its namespace kube-system. Known once it is open."""
        return self._cluster_id

    async def open(self) -> None:
        """Find out who the cluster is and begin to watch. Raises what the first questions raise; a second call does no harm."""
        self._version = str((await self._client.get(VERSION)).get("gitVersion", ""))
        await self._look()
        self._watches.open()

    async def close(self) -> None:
        """Watch no more."""
        await self._watches.close()

    async def read(self) -> Inventory:
        """All nodes now. Raises UnreachableError when they cannot be watched, ClusterReplacedError, and what the question raises."""
        await self._look()
        await self._watches.listed(FIRST_LIST_S)
        self._watches.check(PATIENCE_S)
        self._take_in()
        return self._told

    def resource_of(self, node: str, model: str) -> str:
        """What pods ask for to have accelerators of this model on this node; empty where it has none."""
        machine = self._machines.known.get(node)
        return next((device.resource for device in machine.devices if device.model == model), "") if machine else ""

    async def _look(self) -> None:
        """Ask who answers, and for the member's namespace."""
        namespace = self._client.access.namespace
        identity, own = await asyncio.gather(
            self._client.get(IDENTITY), self._client.get(f"/api/v1/namespaces/{namespace}"), return_exceptions=True
        )
        if isinstance(identity, BaseException):
            raise identity
        found = str(identity["metadata"]["uid"])
        if self._cluster_id and found != self._cluster_id:
            raise ClusterReplacedError(f"the cluster at this address is another one now ({found}, not {self._cluster_id})")
        self._cluster_id = found
        if isinstance(own, NotThereError):
            raise TransientError(f"the namespace {namespace} is not there; make it: kubectl create namespace {namespace}") from own
        if isinstance(own, BaseException):
            raise own
        if own.get("status", {}).get("phase") == "Terminating":
            raise TransientError(f"the namespace {namespace} is being deleted; nothing can be started there")

    def _take_in(self) -> None:
        """Make the inventory anew where something is another than told, and it is time."""
        machines, pods, now = self._machines, self._pods, self._seconds()
        if not machines.changed and not pods.changed:
            return
        if not machines.changed and self._told.nodes and now < self._told_at + len(self._nodes) / NODES_A_SECOND:
            return
        for name in machines.changed | pods.changed:
            machine = machines.known.get(name)
            if machine is None:
                self._nodes.pop(name, None)
            else:
                self._nodes[name] = node_of(machine, pods.use.get(name, NO_USE))
        machines.changed.clear()
        pods.changed.clear()
        nodes = tuple(self._nodes[name] for name in sorted(self._nodes))
        driver = BY_PODS.model_copy(update={"namespace": self._client.access.namespace})
        self._told = Inventory(nodes=nodes, version=f"kubernetes {self._version}", driver=driver, remote_id=self._cluster_id)
        self._told_at = now
