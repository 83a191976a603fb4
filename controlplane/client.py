"""A client of the HTTP API: one method for each thing that can be asked, the API's own models in and out.

Synchronous, one connection pool, safe to share between threads. The environment's proxies are not used, so
that a token never travels through a machine that nobody named. Errors are those of controlplane.errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from cluster.model import ClusterSpec
from controlplane.api.batch_schemas import BatchVerdict, JobBatch
from controlplane.api.explanation_schemas import ExplanationView
from controlplane.api.joining_schemas import ClusterRuns
from controlplane.api.link_schemas import LinkView
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
    ProblemView,
    ProductView,
    ProgressView,
    ResultView,
    TargetRequest,
    TargetView,
    TenantRequest,
    TenantView,
    TokenCreated,
    TokenRequest,
    TokenView,
    VersionRequest,
)
from controlplane.api.speed_schemas import LikeSpeeds
from controlplane.api.window_schemas import MaintenanceRequest, ReservationRequest, WindowView
from controlplane.errors import ClientError, NotReachableError, RequestFailedError, RequestInvalidError, RequestRefusedError
from workloads.catalogue.licence import Licence
from workloads.catalogue.pricing import Receipt
from workloads.catalogue.product import Product, ProductVersion
from workloads.spec import JobSpec

CONNECT_S, ANSWER_S, PAGE = 5.0, 60.0, 1000
LONG_ANSWER_S = 900.0  # Publishing reads every replica through; registering tries the endpoint.

M = TypeVar("M", bound=BaseModel)


class Client:
    """A control plane as one token sees it. Use as a context manager. Raises RequestInvalidError for what is no server URL."""

    def __init__(
        self, server: str, token: str = "", *, transport: httpx.BaseTransport | None = None, answer_s: float = ANSWER_S,
        connect_s: float = CONNECT_S,
    ) -> None:  # fmt: skip
        self.server = server.rstrip("/")
        self._answer_s, self._connect_s = answer_s, connect_s
        if not self.server.startswith(("http://", "https://")):
            raise RequestInvalidError(f"{server!r} is not the URL of a server; write it like http://127.0.0.1:8642")
        if not token.isascii() or any(character.isspace() for character in token):
            raise RequestInvalidError("the token holds a character that no token has; was it copied whole, and nothing else?")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Certificates are read from disk only where one will have to be judged.
        encrypted = self.server.startswith("https://")
        try:
            self._http = httpx.Client(base_url=self.server, headers=headers, transport=transport, trust_env=False, verify=encrypted)
        except httpx.InvalidURL as error:
            raise RequestInvalidError(f"{server!r} is not the URL of a server ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the server takes requests now."""
        try:
            return self._http.get("/readyz", timeout=self._timeout(None)).is_success
        except httpx.HTTPError:
            return False

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

    def nodes(self, cluster: str | None = None) -> Page[NodeView]:
        return self._all(NodeView, "/nodes", cluster=cluster)

    # Tenants, queues, tokens

    def create_tenant(self, request: TenantRequest) -> TenantView:
        return self._ask(TenantView, "POST", "/tenants", request)

    def tenants(self) -> Page[TenantView]:
        return self._all(TenantView, "/tenants")

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

    def products(self) -> Page[ProductView]:
        return self._all(ProductView, "/products")

    def product(self, name: str) -> ProductView:
        return self._ask(ProductView, "GET", _product(name))

    def publish_version(self, name: str, request: VersionRequest) -> ProductVersion:
        return self._ask(ProductVersion, "POST", f"{_product(name)}/versions", request, answer_s=LONG_ANSWER_S)

    def grant(self, name: str, request: LicenceRequest) -> Licence:
        return self._ask(Licence, "POST", f"{_product(name)}/licences", request)

    def licences(self, name: str) -> Page[Licence]:
        return self._all(Licence, f"{_product(name)}/licences")

    def revoke_licence(self, name: str, licence_id: str) -> Licence:
        return self._ask(Licence, "DELETE", f"{_product(name)}/licences/{_part(licence_id)}")

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

    def _fetch(self, source: str, params: dict[str, Any], path: Path) -> None:
        part = path.with_name(path.name + ".part")
        try:
            with part.open("wb") as target:
                for piece in self._stream(source, params, self._timeout(None)):
                    target.write(piece)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    # Capacity

    def speeds(self, tenant: str | None = None) -> Page[LikeSpeeds]:
        return self._all(LikeSpeeds, "/speeds", tenant=tenant)

    def capacity(self) -> CapacityView:
        return self._ask(CapacityView, "GET", "/capacity")

    def set_target(self, request: TargetRequest) -> TargetView:
        return self._ask(TargetView, "POST", "/targets", request)

    def targets(self) -> Page[TargetView]:
        return self._all(TargetView, "/targets")

    def _ask(
        self, model: type[M], method: str, path: str, body: BaseModel | None = None, *, headers: dict[str, str] | None = None,
        answer_s: float | None = None, **params: Any,
    ) -> M:  # fmt: skip
        return _decoded(model, self._send(method, path, body, headers=headers, answer_s=answer_s, **params))

    def _all(self, item: type[M], path: str, *, most: int | None = None, **params: Any) -> Page[M]:
        """All pages of a list as one, or its first `most` items."""
        items: list[M] = []
        cursor: str | None = None
        while True:
            left = PAGE if most is None else min(most - len(items), PAGE)
            page = _decoded(Page[item], self._send("GET", path, limit=left, cursor=cursor, **params))  # type: ignore[valid-type]
            items.extend(page.items)
            cursor = page.next_cursor
            if cursor is None or (most is not None and len(items) >= most):
                return Page(items=items, next_cursor=cursor)

    def _send(
        self, method: str, path: str, body: BaseModel | None = None, *, headers: dict[str, str] | None = None,
        answer_s: float | None = None, **params: Any,
    ) -> httpx.Response:  # fmt: skip
        content = None if body is None else body.model_dump_json(exclude_unset=isinstance(body, ClusterPatch | QueuePatch | QueueRequest))
        kind = {} if body is None else {"Content-Type": "application/json"}
        given = {name: value for name, value in params.items() if value is not None}
        try:
            response = self._http.request(
                method, f"/v1{path}", content=content, params=given, headers={**kind, **(headers or {})}, timeout=self._timeout(answer_s)
            )
        except httpx.HTTPError as error:
            raise self._broken(error) from error
        if not response.is_success:
            raise _refusal(response)
        return response

    def _stream(self, path: str, params: dict[str, Any], timeout: httpx.Timeout) -> Iterator[bytes]:
        try:
            with self._http.stream("GET", f"/v1{path}", params=params, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response)
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise self._broken(error) from error

    def _timeout(self, answer_s: float | None) -> httpx.Timeout:
        return httpx.Timeout(self._answer_s if answer_s is None else answer_s, connect=self._connect_s)

    def _broken(self, error: httpx.HTTPError) -> NotReachableError:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return NotReachableError(f"cannot reach {self.server}")
        if isinstance(error, httpx.TimeoutException):
            return NotReachableError(f"{self.server} does not answer")
        return NotReachableError(f"the connection to {self.server} broke ({str(error) or type(error).__name__})")


def _part(name: str) -> str:
    return quote(name, safe="")


def _product(name: str) -> str:
    owner, slash, rest = name.partition("/")
    if not (owner and slash and rest) or "/" in rest:
        raise RequestInvalidError(f"{name!r} is not the name of a product; write owner/product")
    return f"/products/{_part(owner)}/{_part(rest)}"


def _decoded(model: type[M], response: httpx.Response) -> M:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        message = f"the server's answer is not one that this version of cpn understands (at {where or 'its beginning'})"
        raise RequestFailedError(f"{message}; are client and server of the same version?") from error


def _refusal(response: httpx.Response) -> ClientError:
    """The error that an answer with a bad status stands for."""
    try:
        problem = ProblemView.model_validate(json.loads(response.content))
    except ValueError:
        return RequestFailedError(
            f"{response.request.url} answered HTTP {response.status_code} and is not a cpn server, or something is in between"
        )
    kinds = {
        400: RequestInvalidError,
        401: RequestRefusedError,
        403: RequestRefusedError,
        413: RequestInvalidError,
        422: RequestInvalidError,
    }
    return kinds.get(response.status_code, RequestFailedError)(problem.detail, problem)
