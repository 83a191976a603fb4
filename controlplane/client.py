"""A client of the HTTP API: one method for each thing that can be asked, the API's own models in and out.

Synchronous, one connection pool, safe to share between threads (`transport`). Errors are those of controlplane.errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import quote

import httpx

from cluster.model import ClusterSpec
from controlplane.api.audit_schemas import AuditRowView, AuditVerdict, ProofView
from controlplane.api.batch_schemas import BatchVerdict, JobBatch
from controlplane.api.explanation_schemas import ExplanationView
from controlplane.api.joining_schemas import ClusterRuns
from controlplane.api.link_schemas import LinkPatch, LinkView
from controlplane.api.money_schemas import BalanceView, EntryView, UsageView
from controlplane.api.queue_schemas import QueuePatch, QueueRequest, QueueView
from controlplane.api.schemas import (
    CapacityView,
    ClusterPatch,
    ClusterView,
    EventView,
    JobView,
    LicenceRequest,
    NodeView,
    Page,
    PlanView,
    ProductView,
    ProgressView,
    ResultView,
    RevokedLicence,
    SampleView,
    StandingRequest,
    TargetRequest,
    TargetView,
    TokenCreated,
    TokenRequest,
    TokenView,
    VersionRequest,
)
from controlplane.api.speed_schemas import LikeSpeeds
from controlplane.api.tenant_schemas import TenantPatch, TenantRequest, TenantView
from controlplane.api.window_schemas import MaintenanceRequest, ReservationRequest, WindowView
from controlplane.errors import RequestInvalidError
from controlplane.transport import PAGE, Transport
from workloads.catalogue.licence import Licence
from workloads.catalogue.pricing import Receipt
from workloads.catalogue.product import Product, ProductVersion
from workloads.catalogue.statement import OwnerStatement, Statement
from workloads.spec import JobSpec

LONG_ANSWER_S = 900.0  # Publishing reads every replica through; registering tries the endpoint.


class Client(Transport):
    """A control plane as one token sees it. Use as a context manager. Raises RequestInvalidError for what is no server URL."""

    # Clusters and nodes

    def register_cluster(self, spec: ClusterSpec) -> ClusterView:
        return self._ask(ClusterView, "POST", "/clusters", spec, answer_s=LONG_ANSWER_S)

    def clusters(self) -> Page[ClusterView]:
        return self._all(ClusterView, "/clusters")

    def cluster(self, name: str) -> ClusterView:
        return self._ask(ClusterView, "GET", f"/clusters/{_part(name)}")

    def change_cluster(self, name: str, patch: ClusterPatch) -> ClusterView:
        return self._ask(ClusterView, "PATCH", f"/clusters/{_part(name)}", patch)

    def remove_cluster(self, name: str) -> None:
        self._send("DELETE", f"/clusters/{_part(name)}")

    def cordon(self, name: str) -> ClusterView:
        return self._ask(ClusterView, "POST", f"/clusters/{_part(name)}:cordon")

    def uncordon(self, name: str) -> ClusterView:
        return self._ask(ClusterView, "POST", f"/clusters/{_part(name)}:uncordon")

    def drain(self, name: str) -> ClusterView:
        return self._ask(ClusterView, "POST", f"/clusters/{_part(name)}:drain")

    def cluster_runs(self, name: str) -> ClusterRuns:
        return self._ask(ClusterRuns, "GET", f"/clusters/{_part(name)}/runs")

    def links(self, cluster: str | None = None) -> Page[LinkView]:
        return self._all(LinkView, "/links", cluster=cluster)

    def set_link(self, source: str, cluster: str, patch: LinkPatch) -> LinkView:
        return self._ask(LinkView, "PATCH", f"/links/{_part(source)}/{_part(cluster)}", patch)

    def nodes(self, cluster: str | None = None) -> Page[NodeView]:
        return self._all(NodeView, "/nodes", cluster=cluster)

    # Tenants, queues, tokens

    def create_tenant(self, request: TenantRequest) -> TenantView:
        return self._ask(TenantView, "POST", "/tenants", request, answer_s=LONG_ANSWER_S)

    def tenants(self) -> Page[TenantView]:
        return self._all(TenantView, "/tenants")

    def tenant(self, name: str) -> TenantView:
        return self._ask(TenantView, "GET", f"/tenants/{_part(name)}")

    def change_tenant(self, name: str, patch: TenantPatch) -> TenantView:
        return self._ask(TenantView, "PATCH", f"/tenants/{_part(name)}", patch, answer_s=LONG_ANSWER_S)

    def create_queue(self, request: QueueRequest) -> QueueView:
        return self._ask(QueueView, "POST", "/queues", request)

    def queues(self) -> Page[QueueView]:
        return self._all(QueueView, "/queues")

    def queue(self, name: str) -> QueueView:
        return self._ask(QueueView, "GET", f"/queues/{_part(name)}")

    def change_queue(self, name: str, patch: QueuePatch) -> QueueView:
        return self._ask(QueueView, "PATCH", f"/queues/{_part(name)}", patch)

    def create_maintenance(self, request: MaintenanceRequest) -> WindowView:
        return self._ask(WindowView, "POST", "/maintenance", request)

    def maintenance(self) -> Page[WindowView]:
        return self._all(WindowView, "/maintenance")

    def remove_maintenance(self, name: str) -> None:
        self._send("DELETE", f"/maintenance/{_part(name)}")

    def create_reservation(self, request: ReservationRequest) -> WindowView:
        return self._ask(WindowView, "POST", "/reservations", request)

    def reservations(self) -> Page[WindowView]:
        return self._all(WindowView, "/reservations")

    def reservation(self, name: str) -> WindowView:
        return self._ask(WindowView, "GET", f"/reservations/{_part(name)}")

    def remove_reservation(self, name: str) -> None:
        self._send("DELETE", f"/reservations/{_part(name)}")

    def create_token(self, request: TokenRequest) -> TokenCreated:
        return self._ask(TokenCreated, "POST", "/tokens", request)

    def tokens(self) -> Page[TokenView]:
        return self._all(TokenView, "/tokens")

    def revoke_token(self, token_id: str) -> TokenView:
        return self._ask(TokenView, "DELETE", f"/tokens/{_part(token_id)}")

    # Products

    def create_product(self, product: Product) -> ProductView:
        return self._ask(ProductView, "POST", "/products", product)

    def replace_terms(self, product: Product) -> ProductView:
        return self._ask(ProductView, "PUT", _product(product.name), product)

    def products(self, wanted: Mapping[str, Any] = MappingProxyType({})) -> Page[ProductView]:
        """The catalogue, or what of it is wanted: search, owner, classification, max_price."""
        return self._all(ProductView, "/products", **wanted)

    def product(self, name: str) -> ProductView:
        return self._ask(ProductView, "GET", _product(name))

    def sample(self, name: str, rows: int) -> SampleView:
        """First rows of a product. Raises RequestFailedError where its terms do not allow that."""
        return self._ask(SampleView, "GET", f"{_product(name)}/sample?rows={rows}", answer_s=LONG_ANSWER_S)

    def publish_version(self, name: str, request: VersionRequest) -> ProductVersion:
        return self._ask(ProductVersion, "POST", f"{_product(name)}/versions", request, answer_s=LONG_ANSWER_S)

    def grant(self, name: str, request: LicenceRequest) -> Licence:
        return self._ask(Licence, "POST", f"{_product(name)}/licences", request)

    def licences(self, name: str) -> Page[Licence]:
        return self._all(Licence, f"{_product(name)}/licences")

    def licence(self, licence_id: str) -> Licence:
        return self._ask(Licence, "GET", f"/licences/{_part(licence_id)}")

    def revoke_licence(self, name: str, licence_id: str, *, stop_running: bool = False) -> RevokedLicence:
        """End a grant; with `stop_running` also what runs under it."""
        asked = "?stop_running=true" if stop_running else ""
        return self._ask(RevokedLicence, "DELETE", f"{_product(name)}/licences/{_part(licence_id)}{asked}")

    def set_standing(self, name: str, version: int, verb: Literal["deprecate", "withdraw"], request: StandingRequest) -> ProductVersion:
        return self._ask(ProductVersion, "POST", f"{_product(name)}/versions/{version}:{verb}", request)

    # Jobs

    def plan(self, spec: JobSpec) -> PlanView:
        return self._ask(PlanView, "POST", "/jobs:plan", spec)

    def submit(self, spec: JobSpec, idempotency_key: str | None = None) -> JobView:
        """The job, durable by now; under a key that was used before for the same spec, the first job."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
        return self._ask(JobView, "POST", "/jobs", spec, headers=headers)

    def submit_batch(self, batch: JobBatch) -> BatchVerdict:
        """What became of each item; all that was accepted is durable by now."""
        return self._ask(BatchVerdict, "POST", "/jobs:batch", batch)

    def jobs(
        self, *, state: str | None = None, tenant: str | None = None, queue: str | None = None, array: str | None = None, limit: int = 100
    ) -> Page[JobView]:
        """The newest `limit` jobs, or the first tasks of an array; `next_cursor` is set when there are more."""
        return self._all(JobView, "/jobs", most=limit, state=state, tenant=tenant, queue=queue, array=array)

    def job(self, job_id: str, *, wait_s: float = 0.0, after_version: int = 0, after_cause: str | None = None) -> JobView:
        """The job; with `wait_s` (seconds, at most 60) as soon as its version is past `after_version`, it has ended, or its cause is
        not `after_cause`."""
        return self._ask(
            JobView, "GET", f"/jobs/{_part(job_id)}", answer_s=wait_s + self._answer_s, wait_s=wait_s, after_version=after_version,
            after_cause=after_cause,
        )  # fmt: skip

    def cancel(self, job_id: str) -> JobView:
        return self._ask(JobView, "POST", f"/jobs/{_part(job_id)}:cancel")

    def events(self, job_id: str) -> Page[EventView]:
        return self._all(EventView, f"/jobs/{_part(job_id)}/events")

    def explanation(self, job_id: str) -> ExplanationView:
        return self._ask(ExplanationView, "GET", f"/jobs/{_part(job_id)}/explanation")

    def receipt(self, job_id: str) -> Receipt:
        return self._ask(Receipt, "GET", f"/jobs/{_part(job_id)}/receipt")

    def statement(self, tenant: str, month: str) -> Statement:
        return self._ask(Statement, "GET", f"/statements/{_part(tenant)}/{_part(month)}", answer_s=LONG_ANSWER_S, format="json")

    def owner_statement(self, owner: str, month: str) -> OwnerStatement:
        return self._ask(OwnerStatement, "GET", f"/owner-statements/{_part(owner)}/{_part(month)}", answer_s=LONG_ANSWER_S, format="json")

    def statement_text(self, tenant: str | None, owner: str | None, month: str, form: str) -> Iterator[bytes]:
        """A tenant's or an owner's statement as CSV or HTML, as it comes."""
        path = f"/statements/{_part(tenant)}" if tenant is not None else f"/owner-statements/{_part(owner or '')}"
        timeout = httpx.Timeout(LONG_ANSWER_S, connect=self._connect_s)
        yield from self._stream(f"{path}/{_part(month)}", {"format": form}, timeout)

    def usage(self, by: str, begin: str | None = None, end: str | None = None, tenant: str | None = None) -> UsageView:
        """What jobs held and cost between two moments; this month until now where none are given."""
        given: dict[str, Any] = {"from": begin, "to": end}
        return self._ask(UsageView, "GET", "/usage", answer_s=LONG_ANSWER_S, by=by, tenant=tenant, **given)

    def ledger(
        self, run: str | None = None, account: str | None = None, begin: str | None = None, end: str | None = None, most: int | None = None
    ) -> Page[EntryView]:
        """The first `most` entries of the journal, or all."""
        given: dict[str, Any] = {"from": begin, "to": end}
        return self._all(EntryView, "/ledger", most=most, run=run, account=account, **given)

    def verify_ledger(self) -> BalanceView:
        return self._ask(BalanceView, "GET", "/ledger:verify", answer_s=LONG_ANSWER_S)

    def metrics(self, job_id: str, *, after: int = 0, wait_s: float = 0.0) -> Page[ProgressView]:
        """Reports after number `after` of the current run; `next_cursor`, when there are any, is the next `after`."""
        return self._ask(
            Page[ProgressView], "GET", f"/jobs/{_part(job_id)}/metrics", answer_s=wait_s + self._answer_s,
            after=after, wait_s=wait_s, limit=PAGE,
        )  # fmt: skip

    def all_metrics(self, job_id: str, after: int = 0) -> Page[ProgressView]:
        """Every report after number `after` until now."""
        items: list[ProgressView] = []
        while True:
            page = self.metrics(job_id, after=after)
            items.extend(page.items)
            if not page.items or page.next_cursor is None:
                return Page[ProgressView](items=items, next_cursor=str(after) if items else None)
            after = int(page.next_cursor)

    def logs(self, job_id: str, *, follow: bool = False, offset: int = 0, worker: int | None = None) -> Iterator[bytes]:
        """The log of the current run, or of one worker of it, from a byte offset, as it comes; with `follow` until the job has ended."""
        timeout = httpx.Timeout(None if follow else self._answer_s, connect=self._connect_s)
        params = {"follow": "true" if follow else "false", "offset": offset} | ({} if worker is None else {"worker": worker})
        yield from self._stream(f"/jobs/{_part(job_id)}/logs", params, timeout)

    def result(self, job_id: str) -> ResultView:
        return self._ask(ResultView, "GET", f"/jobs/{_part(job_id)}/result")

    def download(self, job_id: str, name: str, path: Path) -> None:
        """Write one file of the result to `path`, which appears when it is whole."""
        self._fetch(f"/jobs/{_part(job_id)}/result/files/{quote(name)}", {}, path)

    def captures(self, path: Path, last: int | None = None) -> None:
        """Write the last decisions that the server keeps, or all, to `path`."""
        self._fetch("/captures", {} if last is None else {"last": last}, path)

    # Audit log

    def audit_rows(self, *, limit: int = 100, **wanted: str | None) -> Page[AuditRowView]:
        """The newest `limit` acts; `wanted`: product, tenant, subject, act, from, to."""
        return self._all(AuditRowView, "/audit", most=limit, **wanted)

    def verify_audit_log(self, head: str | None = None, cursor: str | None = None) -> AuditVerdict:
        """One page of the log, from `cursor` on."""
        return self._ask(AuditVerdict, "GET", "/audit:verify", head=head, cursor=cursor)

    def export_audit_log(self, path: Path) -> None:
        """Write the whole log to `path`, a line of JSON for each row."""
        self._fetch("/audit:export", {}, path)

    def prove(self, product: str, since: str | None = None, until: str | None = None) -> ProofView:
        """Whether no run lay outside a product's terms, of those placed from `since` on and before `until`."""
        params: dict[str, Any] = {"product": product, "from": since, "to": until}
        return self._ask(ProofView, "GET", "/audit:prove", answer_s=LONG_ANSWER_S, **params)

    # Capacity

    def speeds(self, tenant: str | None = None) -> Page[LikeSpeeds]:
        return self._all(LikeSpeeds, "/speeds", tenant=tenant)

    def capacity(self) -> CapacityView:
        return self._ask(CapacityView, "GET", "/capacity")

    def set_target(self, request: TargetRequest) -> TargetView:
        return self._ask(TargetView, "POST", "/targets", request)

    def targets(self) -> Page[TargetView]:
        return self._all(TargetView, "/targets")


def _part(name: str) -> str:
    return quote(name, safe="")


def _product(name: str) -> str:
    owner, slash, rest = name.partition("/")
    if not (owner and slash and rest) or "/" in rest:
        raise RequestInvalidError(f"{name!r} is not the name of a product; write owner/product")
    return f"/products/{_part(owner)}/{_part(rest)}"
