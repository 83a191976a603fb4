"""What the audit log says of acts: of the catalogue, of members, and of jobs with inputs alone, for without data there are no rights to
keep.

Of a run stands there all that it is judged by later: where it was placed, in which jurisdiction and at which security level, for which
purpose, what it reads and under which licences. Programs, statements and variables do not; of the job's manifest there is a digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.model import ClusterSpec
from cluster.replicas import Transfer
from scheduler.assess import InputData, is_local
from scheduler.chain import Act, canonical
from scheduler.errors import Problem
from scheduler.lifecycle import Cause, State
from scheduler.store import catalogue, fleet
from scheduler.store.audit import Entry
from scheduler.store.parts import parts
from scheduler.store.records import JobRecord, RunRecord
from scheduler.store.session import Connection
from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Product, ProductVersion
from workloads.programs import program_hash
from workloads.spec import JobSpec, split_ref

SCHEDULER, SERVER = "scheduler", "server"
MOST_PRODUCTS = 1_000_000


def agent_of(cluster: str) -> str:
    """How the agent of a cluster is named as an actor."""
    return f"agent/{cluster}"


def of_product(act: Act, product: Product, by: str, now: float) -> Entry:
    """A product's terms hold from now on."""
    return Entry(act, product.name, by, now, {"product": product.model_dump(mode="json")}, products=[product.name])


def of_version(act: Act, version: ProductVersion, by: str, now: float) -> Entry:
    """Something became of a version."""
    return Entry(act, version.ref, by, now, {"version": version.model_dump(mode="json")}, products=[version.product])


def of_licence(act: Act, licence: Licence, by: str, now: float) -> Entry:
    """A licence holds from now on, or does not any more."""
    return Entry(act, licence.id, by, now, {"licence": licence.as_reserved().model_dump(mode="json")}, licence.tenant, [licence.product])


def of_cluster(act: Act, spec: ClusterSpec, by: str, now: float) -> Entry:
    """A member is from now on as its operator says."""
    return Entry(act, spec.name, by, now, {"cluster": spec.model_dump(mode="json")})


def of_change(before: ClusterSpec, spec: ClusterSpec, by: str, now: float) -> list[Entry]:
    """What was changed of a member: its prices, and what else."""
    found = []
    if spec.prices != before.prices:
        found.append(Entry(Act.PRICES_CHANGED, spec.name, by, now, {"prices": spec.prices.model_dump(mode="json")}))
    if spec != before.model_copy(update={"prices": spec.prices}):
        found.append(of_cluster(Act.CLUSTER_CHANGED, spec, by, now))
    return found


def standing(conn: Connection, now: float) -> list[Entry]:
    """What holds already where a log begins later than its network: members, products and licences, as if done now by the server."""
    found = [of_cluster(Act.CLUSTER_REGISTERED, cluster.spec, SERVER, now) for cluster in fleet.list_clusters(conn)]
    known = [product for product, _ in catalogue.list_products(conn, limit=MOST_PRODUCTS)]
    found += [of_product(Act.PRODUCT_PUBLISHED, product, SERVER, now) for product in known]
    names = [product.name for product in known]
    for some in parts(names):
        versions = sorted(catalogue.versions_of(conn, some).items())
        found += [of_version(Act.VERSION_PUBLISHED, version, SERVER, now) for _, version in versions]
    licences = [licence for name in names for licence in catalogue.licences_for(conn, name) if not licence.revoked]
    return found + [of_licence(Act.LICENCE_GRANTED, licence, SERVER, now) for licence in licences]


def products_of(spec: JobSpec) -> list[str]:
    """The products that a job reads."""
    return sorted({split_ref(ref)[0] for ref in spec.inputs.values()})


def admitted(spec: JobSpec, job_id: str, document: dict[str, Any], by: str, now: float) -> Entry:
    """A job, or an array as one, was accepted; `document` is the spec as it is stored."""
    told = {
        **_asked(spec), "name": spec.name, "queue": spec.queue, "array": spec.array,
        "spec_sha256": hashlib.sha256(canonical(document).encode()).hexdigest(),
    }  # fmt: skip
    return Entry(Act.JOB_ADMITTED, job_id, by, now, told, spec.tenant, products_of(spec))


def refused(spec: JobSpec, problems: Sequence[Problem], by: str, now: float) -> Entry:
    """A job was refused by policy; it has no id, and its name stands for it."""
    why = [{"path": item.path, "reason": item.reason, "message": item.message} for item in problems]
    return Entry(Act.JOB_REFUSED, spec.name, by, now, {**_asked(spec), "problems": why}, spec.tenant, products_of(spec))


def placed(
    spec: JobSpec, run: RunRecord, cluster: ClusterSpec, inputs: Sequence[InputData], licences: Mapping[str, str], now: float
) -> Entry:  # fmt: skip
    """A run was decided on; `licences` are those under which it reads each product, of which public ones need none."""
    told = {
        **_asked(spec), "run": run.id, "attempt": run.attempt, "cluster": cluster.name, "jurisdiction": cluster.jurisdiction,
        "security_level": cluster.security_level, "nodes": list(run.nodes), "licences": dict(licences),
        "copied": sorted({item.version.ref for item in inputs if not is_local(item.version, cluster.name)}),
    }  # fmt: skip
    return Entry(Act.RUN_PLACED, run.job_id, SCHEDULER, now, told, spec.tenant, products_of(spec))


def moved(job: JobRecord, spec: JobSpec, run: RunRecord, transfers: Sequence[Transfer], now: float) -> Entry:
    """The agent told what was brought to its cluster for a run."""
    told = [{"from": item.source, "sha256": item.sha256, "bytes": item.size_bytes, "ahead": item.ahead} for item in transfers]
    document = {"run": run.id, "cluster": run.cluster, "transfers": told}
    return Entry(Act.DATA_MOVED, job.id, agent_of(run.cluster), now, document, job.tenant, products_of(spec))


def ended(job: JobRecord, spec: JobSpec, run: RunRecord, by: str, now: float) -> list[Entry]:
    """A run is over, and what it delivered."""
    told = {"run": run.id, "cluster": run.cluster, "state": run.state, "cause": run.cause, "started_at": run.started_at}
    found = [Entry(Act.RUN_ENDED, job.id, by, now, told, job.tenant, products_of(spec))]
    if run.state == State.SUCCEEDED:
        files = [{"name": file["name"], "size_bytes": file["size_bytes"], "sha256": file.get("sha256")} for file in run.files or []]
        delivered = {"run": run.id, "cluster": run.cluster, "files": files}
        found.append(Entry(Act.RESULT_DELIVERED, job.id, by, now, delivered, job.tenant, products_of(spec)))
    return found


def withdrawn(job: JobRecord, cause: Cause, by: str, now: float) -> Entry:
    """A job ended without another run: its buyer withdrew it, or whom it waits for has failed."""
    return Entry(Act.JOB_WITHDRAWN, job.id, by, now, {"cause": cause.value, "state": job.state}, job.tenant, products_of(job.parsed()))


def _asked(spec: JobSpec) -> dict[str, Any]:
    """What rights are judged by."""
    rules = spec.placement
    return {
        "purpose": spec.purpose, "kind": spec.kind, "program": program_hash(spec), "inputs": dict(spec.inputs),
        "only": {"jurisdictions": list(rules.jurisdictions), "clusters": list(rules.clusters)},
    }  # fmt: skip
