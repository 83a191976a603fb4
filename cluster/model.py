"""Members of the network: a cluster with its prices, its nodes, and the links between clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from cluster.carbon import Carbon
from cluster.data_claims import DataClaim, claim_faults
from cluster.drivers import ACTORS, Asked, Driver
from cluster.replicas import CacheState
from cluster.scaling import Scaling
from workloads.catalogue.pricing import Prices
from workloads.catalogue.product import SecurityLevel
from workloads.catalogue.s3 import store_fault
from workloads.faults import refuse
from workloads.ray_jobs import RayJobs
from workloads.spec import Jurisdiction, Labels, Name

BackendName = Literal["ray", "kubernetes", "memory"]
Mode = Literal["push", "pull"]
LeasePolicy = Literal["stop", "continue"]
NO_KUBERNETES = "only a cluster of backend kubernetes is reached so; leave it out"
NO_HEAD = "a cluster of backend kubernetes is reached by endpoint.kubernetes; leave it out"
NO_WHEELS = "nodes of Ray on Kubernetes have the packages of the cluster's image alone; leave pip and wheelhouse out"
NO_RAY = "only a cluster of backend ray or kubernetes runs jobs of kind ray; leave it out"
NO_STORE = "only runs on a cluster of backend kubernetes put results into a store themselves; leave it out"
RUN_RAY = ("ray", "kubernetes")


# A name of Kubernetes' own (RFC 1123), and a taint as kubectl writes it.
KubeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
_TAINT_WORD = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
TAINT_PATTERN = rf"^([a-z0-9.-]{{1,253}}/)?{_TAINT_WORD}(=({_TAINT_WORD})?)?(:(NoSchedule|NoExecute|PreferNoSchedule))?$"
Taint = Annotated[str, StringConstraints(pattern=TAINT_PATTERN)]


def whole_store(url: str | None) -> str | None:
    """A URL of a store of results as it is kept. Raises ValueError."""
    if url is not None and (fault := store_fault(url)) is not None:
        raise ValueError(fault)
    return None if url is None else url.rstrip("/")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class KubernetesEndpoint(_Frozen):
    """How the push-mode agent reaches a Kubernetes cluster, and how its runs look there. Credentials stay in the kubeconfig, on the
    control plane's machine."""

    kubeconfig: str = Field(
        default="",
        max_length=4096,
        description="a file; left out, it is the cluster that the control plane runs in, by its service account",
    )
    context: str = Field(default="", max_length=253, description="left out, the kubeconfig's current one")
    namespace: KubeName = Field(default="cpn", description="where the runs are")
    image: str = Field(
        default="", max_length=1024, pattern=r"^([a-z0-9][A-Za-z0-9._:/@-]*[A-Za-z0-9])?$",
        description="what the runs' pods are made from; left out, cpn's own of this version, cpn:VERSION",
    )  # fmt: skip
    tolerations: tuple[Taint, ...] = Field(
        default=(), max_length=32, strict=False, examples=[["dedicated=cpn"]],
        description="taints that runs put up with, beside those of accelerators",
    )  # fmt: skip
    priority_class: str = Field(default="", max_length=253, description="of the runs' pods; left out, the cluster's default")
    service_account: str = Field(default="", max_length=253, description="of the runs' pods; left out, the namespace's default")
    pull_secret: str = Field(default="", max_length=253, description="with which the image is pulled")
    local_queue: str = Field(default="", max_length=253, description="the LocalQueue of Kueue in which runs wait; left out, in none")
    data_claims: tuple[DataClaim, ...] = Field(
        default=(), max_length=32, strict=False, examples=[["lake=/data"]], exclude_if=lambda value: not value,
        description="PersistentVolumeClaims with replicas, each with the path that stands for its volume in their file:// URIs",
    )  # fmt: skip

    @model_validator(mode="after")
    def _claims_lie_apart(self) -> Self:
        if faults := claim_faults(self.data_claims):
            refuse("KubernetesEndpoint", [(("data_claims", index), words) for index, words in faults])
        return self


class Endpoint(_Frozen):
    """How the push-mode agent reaches the cluster. The token stays in a file on the control plane's machine."""

    address: str = Field(default="", max_length=255, examples=["127.0.0.1:6379"])
    dashboard: str = Field(default="", max_length=255, examples=["http://127.0.0.1:8265"])
    token_file: str = Field(default="", max_length=4096)
    driver: Asked = Field(default="auto", description="auto: Ray's Job API by the dashboard where actors of ours cannot be used")
    kubernetes: KubernetesEndpoint | None = Field(
        default=None, exclude_if=lambda value: value is None, description="for the backend kubernetes, instead of the others"
    )

    @model_validator(mode="after")
    def _the_job_api_is_the_dashboards(self) -> Self:
        if self.driver == "job-api" and not self.dashboard:
            refuse("Endpoint", [(("dashboard",), "the Job API is the dashboard's; give its URL, like http://10.0.0.5:8265")])
        return self


class LinkTerms(_Frozen):
    """The way of data from one other member, as the operator says it is."""

    bandwidth_mib_s: float | None = Field(default=None, gt=0, le=1e6, description="assumed until transfers were measured")
    latency_ms: float = Field(default=0.0, ge=0, le=600_000, description="until the first byte of each transfer")


class ClusterSpec(_Frozen):
    """A member as its operator registers it."""

    name: Name
    backend: BackendName
    mode: Mode = "pull"
    jurisdiction: Jurisdiction
    labels: Labels = {}
    prices: Prices
    inbound_bandwidth_mib_s: float = Field(default=100.0, gt=0, le=1e6, description="assumed speed of transfers from other members")
    links: dict[Name, LinkTerms] = Field(
        default={}, exclude_if=lambda value: not value, description="other member → how data comes from there, where that is known"
    )
    endpoint: Endpoint = Endpoint()
    on_lease_lost: LeasePolicy = Field(
        default="stop", description="what its runs do when its agent has not been answered for the time of the lease"
    )
    result_store: str | None = Field(
        default=None, max_length=1000, exclude_if=lambda value: value is None, examples=["s3://bucket/prefix"],
        description="where its runs put results too large for the log of a pod, unless their tenant has a store; left out, nowhere",
    )  # fmt: skip
    carbon: Carbon | None = Field(default=None, description="what its electricity emits; left out, runs there have no estimate")
    ray_jobs: RayJobs | None = Field(
        default=None, description="left out, it runs no jobs of kind ray, whose programs share its Ray with all others"
    )
    security_level: SecurityLevel = Field(default=0, description="how far it is secured, by its operator's word")

    @field_validator("result_store")
    @classmethod
    def _is_a_store(cls, url: str | None) -> str | None:
        return whole_store(url)

    @model_validator(mode="after")
    def _only_pods_need_a_store(self) -> Self:
        if self.result_store is not None and self.backend != "kubernetes":
            refuse("ClusterSpec", [(("result_store",), NO_STORE)])
        return self

    @model_validator(mode="after")
    def _not_all_run_ray_jobs(self) -> Self:
        if self.ray_jobs is not None and self.backend not in RUN_RAY:
            refuse("ClusterSpec", [(("ray_jobs",), NO_RAY)])
        return self

    @model_validator(mode="after")
    def _the_endpoint_is_the_backends(self) -> Self:
        to = self.endpoint
        if self.backend != "kubernetes" and to.kubernetes is not None:
            refuse("ClusterSpec", [(("endpoint", "kubernetes"), NO_KUBERNETES)])
        if self.backend == "kubernetes":
            given = {"address": to.address, "dashboard": to.dashboard, "token_file": to.token_file}
            wrong = [(("endpoint", field), NO_HEAD) for field, value in given.items() if value]
            if wrong:
                refuse("ClusterSpec", wrong)
        return self


class NodeAccelerator(_Frozen):
    """Accelerators of one model on a node."""

    model: str
    count: int = Field(ge=0)


class Others(_Frozen):
    """What others than cpn hold of a node of a shared cluster. It is no part of the node's totals."""

    cpu: float = Field(default=0.0, ge=0)
    memory_bytes: int = Field(default=0, ge=0)
    accelerators: int = Field(default=0, ge=0, description="whole devices")


def together(items: Sequence[Others]) -> Others | None:
    """Added up; None for nobody."""
    if not items:
        return None
    return Others(
        cpu=sum(item.cpu for item in items), memory_bytes=sum(item.memory_bytes for item in items),
        accelerators=sum(item.accelerators for item in items),
    )  # fmt: skip


class Node(_Frozen):
    """One machine of a member, as its agent sees it. Totals, not what is free: cpn books what it places. What others hold is left out."""

    name: str = Field(min_length=1, max_length=253)
    cpu: float = Field(ge=0, le=1e6)
    memory_bytes: int = Field(ge=0)
    accelerators: tuple[NodeAccelerator, ...] = Field(default=(), strict=False)
    labels: Labels = {}
    ready: bool = True
    object_store_bytes: int = Field(default=0, ge=0, exclude_if=lambda value: not value, description="of Ray's object store; 0: none")
    others: Others | None = Field(default=None, exclude_if=lambda value: value is None, description="what others hold; none: nothing")
    trouble: str = Field(
        default="", max_length=200, exclude_if=lambda value: not value, description="why it is not ready, where that is known"
    )


class Inventory(_Frozen):
    """All nodes of a member at one moment, and the backend's version."""

    nodes: tuple[Node, ...] = Field(strict=False)
    version: str = ""
    resizes: bool = Field(default=False, description="its backend can grow and shrink a gang that runs")
    cache: CacheState | None = Field(default=None, description="the copies that it has of data from elsewhere, where that is known")
    driver: Driver = Field(default=ACTORS, strict=False, description="how its agent drives it")
    scaling: Scaling | None = Field(default=None, strict=False, description="nodes that its autoscaler could bring; none: it has none")
    remote_id: str = Field(default="", max_length=64, description="the cluster's own id, by which it is known under any name or address")
