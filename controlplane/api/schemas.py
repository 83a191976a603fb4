"""What the HTTP API answers. Requests are the domain's own models (JobSpec, ClusterSpec, Product, …).

Times are RFC 3339 in UTC, memory and durations carry units in requests and are plain bytes and seconds
(`_bytes`, `_s`) in answers, money is text with its currency.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Generic, Literal, TypeVar

from pydantic import AwareDatetime, Field

from cluster.protocol import Preview, ResultFile
from controlplane.api.bases import Answer, Asked
from controlplane.api.deposit_schemas import DepositTold as DepositTold
from controlplane.api.fleet_schemas import AcceleratorUse as AcceleratorUse
from controlplane.api.fleet_schemas import CacheView as CacheView
from controlplane.api.fleet_schemas import ClusterPatch as ClusterPatch
from controlplane.api.fleet_schemas import ClusterView as ClusterView
from controlplane.api.fleet_schemas import ComputeClass as ComputeClass
from controlplane.api.fleet_schemas import Flops as Flops
from controlplane.api.fleet_schemas import NodeView as NodeView
from controlplane.api.fleet_schemas import Precision as Precision
from controlplane.api.fleet_schemas import Unrated as Unrated
from controlplane.api.link_schemas import TransferView
from controlplane.api.price_schemas import FlexiblePlan
from controlplane.api.progress_schemas import JobProgress
from controlplane.api.progress_schemas import ProgressView as ProgressView
from controlplane.api.score_schemas import ScoreAspect as ScoreAspect
from controlplane.api.speed_schemas import SpeedView
from controlplane.api.tenant_schemas import ResultPlace
from controlplane.api.tenant_schemas import TenantRequest as TenantRequest
from workloads.catalogue.licence import Consent, Gib, Licence, Runs
from workloads.catalogue.pricing import Quote
from workloads.catalogue.product import Column, Format, Product, ProductVersion, Replica
from workloads.engines import EngineChoice
from workloads.resources import DurationSeconds, FlopsRate
from workloads.spec import JobSpec, Jurisdiction, Kind, Name, Purpose

Role = Literal["operator", "buyer", "viewer", "agent", "join"]
Item = TypeVar("Item")


class Page(Answer, Generic[Item]):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[Item]
    next_cursor: str | None = None


class FieldProblem(Answer):
    """Where a request is wrong and what to do about it."""

    path: str
    reason: str
    message: str


class ProblemView(Answer):
    """RFC 9457 problem details. `errors` lists every fault by its path."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = Field(default=[])


class VersionRequest(Asked):
    """A new version of a product: its replicas must hold the same bytes."""

    format: Format
    replicas: tuple[Replica, ...] = Field(strict=False, min_length=1)
    columns: tuple[Column, ...] | None = Field(
        default=None, strict=False, description="the columns that it has to have, in this order; null: whichever it has"
    )


class LicenceRequest(Asked):
    """A grant to one tenant."""

    tenant: Name
    purposes: tuple[Purpose, ...] = Field(strict=False, min_length=1)
    jurisdictions: tuple[Jurisdiction, ...] = Field(default=(), strict=False)
    expires_at: AwareDatetime | None = Field(default=None, strict=False)
    runs: Runs | None = Field(default=None, description="how many runs; null: any number")
    gib: Gib | None = Field(default=None, description="how many GiB of data all runs together may read; null: any number")
    kinds: tuple[Kind, ...] = Field(default=(), strict=False, max_length=10, description="permitted kinds of jobs; empty: as the product")
    consent: Consent = Field(default="", description="reference of the people's consent; required for personal data")


class RevokedLicence(Licence):
    """A licence that was revoked, and how many jobs that had a use of it reserved wait, run on, or are told to end."""

    waiting: int = Field(default=0, description="they are held: nothing is placed under it")
    running: int = Field(default=0, description="they go on to their end")
    stopping: int = Field(default=0, description="they are told to end, and then wait as the others do")


class StandingRequest(Asked):
    """Why a version is not offered any more."""

    reason: str = Field(default="", max_length=500)


class ProductView(Answer):
    """A product's terms and its versions, oldest first."""

    product: Product
    versions: list[ProductVersion]
    created_at: datetime


class SampleView(Answer):
    """First rows of a product, as its terms let the catalogue show them; `preview.total_rows` is how many the version has."""

    version: str
    preview: Preview


class TokenRequest(Asked):
    """A new token. A buyer's is bound to a tenant, an agent's and a join token to a cluster; a join token lasts an hour by default."""

    role: Role
    tenant: Name | None = Field(default=None, description="required for buyer")
    cluster: Name | None = Field(default=None, description="required for agent and join")
    expires_in: DurationSeconds | None = None


class TokenView(Answer):
    """A token without its text."""

    id: str
    role: Role
    tenant: str | None
    cluster: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class TokenCreated(TokenView):
    """A new token with its text."""

    token: str = Field(description="shown this once; only its hash is stored")


class Obstacle(Answer):
    """One rule against a cluster, in words, and what would change it."""

    reason: str
    message: str
    remedy: str


class ClusterVerdict(Answer):
    """One cluster's standing for a job."""

    cluster: str
    verdict: Literal["chosen", "possible", "busy", "refused"]
    obstacles: list[Obstacle]
    start_s: float | None = Field(description="estimated seconds until the work starts, transfer included; null when unknown")
    transfer_s: float
    transfer_bytes: int
    transfers: list[TransferView] = Field(default=[], description="what transfer_s and transfer_bytes are made of")
    quote: Quote | None = Field(description="ceiling at max_runtime, of an elastic gang with the most workers that its budget pays for")
    least_quote: Quote | None = Field(default=None, description="of an elastic gang: the ceiling with the fewest workers")
    workers: int | None = Field(default=None, description="with how many workers it would start; null unless the job fits there now")
    accelerator_model: str | None = Field(default=None, description="the model that verdict and quote are about, of those the job may use")
    speed: SpeedView | None = Field(default=None, description="on that model, of a job with any_of")
    carbon_g: float | None = Field(default=None, description="estimated grams of CO2 at max_runtime; null where a part is unknown")
    score: float | None = Field(default=None, description="0 is best; null unless the job fits there now")
    score_parts: list[ScoreAspect] = Field(default=[], description="what the score is the sum of, by placement.prefer")


class PlanView(Answer):
    """The answer before the run."""

    name: str
    chosen: str | None
    verdicts: list[ClusterVerdict]
    engine: EngineChoice | None = Field(default=None, description="of a statement: what would run it, and why")
    quote_id: str | None = Field(
        default=None, exclude_if=lambda value: value is None,
        description="these prices hold for the tenant's jobs with this `quote`; left out: none are held",
    )  # fmt: skip
    quote_expires_at: datetime | None = Field(
        default=None, exclude_if=lambda value: value is None, description="until when such a job can be submitted"
    )
    flexible: FlexiblePlan | None = Field(
        default=None, exclude_if=lambda value: value is None, description="left out of jobs that are not flexible, or may not wait"
    )
    rewritten: list[str] = Field(default=[], description="of a statement: why another one runs in its place, by the terms of its inputs")
    warnings: list[str] = Field(default=[], description="what stands against nothing now, and may later: inputs that are deprecated")
    program: str | None = Field(default=None, description="content hash of its program, by which owners of data permit it; null: kind sql")


class RunView(Answer):
    """One attempt at a job."""

    id: str
    attempt: int
    state: str
    cause: str
    cluster: str
    remote: str = Field(
        default="", exclude_if=lambda value: not value,
        description="on Kubernetes the namespace and name of its objects, like cpn/cpn-job-7k2mznq4wv3x-1; told of one job, not in lists",
    )  # fmt: skip
    nodes: list[str]
    workers: int = Field(default=1, description="how many it has; of a run that has ended, had last")
    resizing_to: int | None = Field(default=None, description="how many it will have once the change that is under way is over")
    accelerator_model: str | None = None
    accelerator_devices: list[list[int]] = Field(default=[], description="of each worker: the numbers of its devices on its node")
    exit_code: int | None
    message: str
    placed_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class ArrayView(Answer):
    """Of an array how its tasks stand, and of a task which one of its array it is."""

    id: str
    size: int
    at_most: int | None = Field(description="how many of its tasks may run at once; null is any number")
    index: int | None = Field(description="of a task; null of the array")
    first: str = Field(description="the id of its first task; the others' differ in the number at the end")
    counts: dict[str, int] = Field(description="state → number of tasks in it")


class UseView(Answer):
    """A use of a licence by a job: one run, and so many bytes of a product."""

    product: str
    licence: str
    state: Literal["reserved", "consumed", "returned"]
    size_bytes: int


class JobView(Answer):
    """A job with its current placement and all its runs."""

    id: str
    version: int = Field(description="grows with every change; pass it as after_version to wait for the next")
    name: str
    tenant: str
    queue: str
    kind: str
    purpose: str
    priority: str
    state: str
    cause: str
    message: str
    attempts: int
    attempts_spared: int = Field(default=0, description="of them those that the network ended for its own reasons, which do not count")
    cluster: str | None
    nodes: list[str]
    run_id: str | None
    exit_code: int | None
    submitted_at: datetime
    placed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    quote: Quote | None
    spec: JobSpec
    runs: list[RunView] = Field(default=[])
    array: ArrayView | None = None
    progress: JobProgress | None = Field(default=None, description="of one job of kind map, since its current run began")
    rewritten: list[str] = Field(
        default=[], exclude_if=lambda value: not value,
        description="why another statement runs in place of the job's own, by the terms of now; told of one job, not in lists",
    )  # fmt: skip
    result_removed_at: datetime | None = Field(default=None, description="when its result had been kept long enough")
    log_removed_at: datetime | None = Field(default=None, description="when its log had been kept long enough")
    licences: list[UseView] = Field(
        default=[],
        exclude_if=lambda value: not value,
        description="under which it reads data that is not public; left out of lists",
    )


class EventView(Answer):
    """One move of a job or run through its states, and why."""

    at: datetime
    run_id: str | None
    start: str
    finish: str
    cause: str
    message: str


class ResultView(Answer):
    """What a job delivered: the first rows of a table, and files."""

    job_id: str
    run_id: str
    preview: Preview | None
    files: list[ResultFile]
    place: ResultPlace


class TargetRequest(Asked):
    """A plan target: a dated, attributed baseline and the multiple of it to reach."""

    name: Name
    compute_class: ComputeClass
    precision: Precision
    baseline: FlopsRate
    baseline_date: date = Field(strict=False)
    multiple: float = Field(default=4.0, gt=0, le=1000)
    due: date = Field(strict=False)
    scope: str = Field(min_length=1, max_length=500)
    source: str = Field(min_length=1, max_length=500)


class TargetView(Answer):
    """A target, and where the network stands against it."""

    name: str
    compute_class: ComputeClass
    precision: Precision
    baseline_flops: float
    baseline_date: date
    multiple: float
    target_flops: float
    due: date
    scope: str
    source: str
    rated_flops: float
    ratio_to_baseline: float
    missing_flops: float
    met: bool


class CapacityView(Answer):
    """Computing power of the network now, and against each target."""

    at: datetime
    flops: list[Flops]
    by_cluster: dict[str, list[Flops]]
    unrated: list[Unrated]
    rated_share: float = Field(description="share of accelerators and CPU nodes that have a rating, 0..1")
    targets: list[TargetView]
