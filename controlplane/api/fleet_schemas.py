"""What the API says of members: their nodes, their computing power, and what is changed of them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator

from cluster.carbon import Carbon
from cluster.drivers import ACTORS, Driver
from cluster.model import BackendName, LeasePolicy, Mode, Others, whole_store
from controlplane.api.bases import Answer, Asked
from controlplane.api.price_schemas import TariffView
from controlplane.api.scaling_schemas import ScalingView
from controlplane.api.window_schemas import WindowView
from workloads.catalogue.pricing import Prices
from workloads.catalogue.product import SecurityLevel
from workloads.ray_jobs import RayJobs
from workloads.spec import Labels

ComputeClass = Literal["general", "intelligent", "super"]
Precision = Literal["fp64", "fp32", "tf32", "fp16"]


class Flops(Answer):
    """Computing power of one class at one precision, in FLOP/s."""

    compute_class: ComputeClass
    precision: Precision
    rated: float
    available: float = Field(description="rated, on healthy, uncordoned, ready nodes")
    allocated: float = Field(description="rated share of what placed and running work holds")


class Unrated(Answer):
    """Hardware without a known rating: counted, never guessed."""

    cluster: str
    what: str
    count: int


class AcceleratorUse(Answer):
    """Accelerators of one model: how many there are, and how many runs hold."""

    model: str
    total: int
    used: float


class NodeView(Answer):
    """A node as its agent saw it last, with what runs hold of it."""

    cluster: str
    name: str
    ready: bool
    trouble: str = Field(default="", description="why it is not ready, where that is known")
    cpu: float
    cpu_used: float
    memory_bytes: int
    memory_used_bytes: int
    accelerators: list[AcceleratorUse]
    others: Others | None = Field(default=None, description="what others than cpn hold of it, which the totals leave out; null: nothing")
    object_store_bytes: int = Field(default=0, description="of Ray's object store; 0 where there is none")
    labels: dict[str, str]
    seen_at: datetime


class CacheView(Answer):
    """The copies that a member has of data from elsewhere."""

    capacity_bytes: int
    used_bytes: int
    copies: int


class ClusterView(Answer):
    """A member of the network with its nodes added up."""

    name: str
    backend: BackendName
    mode: Mode
    jurisdiction: str
    labels: dict[str, str]
    prices: Prices
    tariff: TariffView | None = Field(
        default=None, exclude_if=lambda value: value is None, description="left out where prices do not depend on the hour"
    )
    inbound_bandwidth_mib_s: float
    security_level: int = Field(default=0, description="how far it is secured, by its operator's word")
    cache: CacheView | None = Field(default=None, description="copies of data from elsewhere; null until its agent has told")
    health: Literal["healthy", "suspect", "lost"]
    cordon: Literal["open", "cordoned", "draining"]
    detail: str
    backend_version: str
    scaling: ScalingView | None = Field(default=None, description="nodes that its autoscaler could bring; no part of its capacity")
    driver: Driver = Field(default=ACTORS, description="how its agent drives it; by the Job API it runs less")
    runs_only: str = Field(default="", description="what it is reduced to by its driver; empty: nothing is left out")
    lacks: list[str] = Field(default=[], description="what some runs need and the cluster has not, each with what would change it")
    remote_id: str = Field(default="", description="the cluster's own id, as its backend tells it; empty until its agent has counted nodes")
    heard_at: datetime | None
    created_at: datetime
    nodes: int
    nodes_ready: int
    runs: int = Field(description="placed, starting or running")
    cpu: float
    cpu_used: float
    memory_bytes: int
    memory_used_bytes: int
    accelerators: list[AcceleratorUse]
    others: Others | None = Field(
        default=None, exclude_if=lambda value: value is None, description="what others hold of all nodes together; the totals leave it out"
    )
    object_store_bytes: int = Field(default=0, exclude_if=lambda value: not value)
    flops: list[Flops]
    unrated: list[Unrated]
    on_lease_lost: LeasePolicy = Field(default="stop", description="what its runs do when its agent cannot reach this server for too long")
    result_store: str | None = Field(
        default=None, exclude_if=lambda value: value is None, description="where its runs put results that are too large for a pod's log"
    )
    carbon: Carbon | None = Field(default=None, description="what its electricity emits, as declared")
    ray_jobs: RayJobs | None = Field(default=None, description="what jobs of kind ray may bring; null: it runs none")
    windows: list[WindowView] = Field(default=[], description="maintenance and reservations that are not over")


class ClusterPatch(Asked):
    """Fields to change; the rest stays."""

    labels: Labels | None = None
    prices: Prices | None = None
    inbound_bandwidth_mib_s: float | None = Field(default=None, gt=0, le=1e6)
    on_lease_lost: LeasePolicy | None = Field(default=None, description="its agent learns it with its next call")
    result_store: str | None = Field(
        default=None, max_length=1000, description="null takes it away; what runs have put there stays, and is read from there"
    )
    carbon: Carbon | None = Field(default=None, description="null takes away what was declared; runs there then have no estimate")
    ray_jobs: RayJobs | None = Field(default=None, description="null switches jobs of kind ray off; those that run go on")
    security_level: SecurityLevel | None = Field(default=None, description="from the next decision on; what runs goes on")

    @field_validator("result_store")
    @classmethod
    def _is_a_store(cls, url: str | None) -> str | None:
        return whole_store(url)
