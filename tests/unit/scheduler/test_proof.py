"""Each run is judged by what the log said before it: terms, licences and members as they were then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from scheduler import acts
from scheduler.chain import GENESIS, Act, AuditRow, canonical, hash_of, joined
from scheduler.proof import UNRECORDED, JudgedRun, Proof, Prover
from scheduler.store.audit import Entry
from tests.records import NOW, cluster_spec
from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Product, ProductVersion

FLIGHTS = "nyc/flights"


def product(**terms: Any) -> Product:
    return Product.model_validate({"name": FLIGHTS, "owner": "nyc", "classification": "restricted", **terms})


def version(number: int = 1) -> ProductVersion:
    return ProductVersion.model_validate({
        "product": FLIGHTS, "version": number, "format": "parquet", "size_bytes": 9, "rows": 1, "sha256": "a" * 64, "columns": [],
        "replicas": [{"cluster": "sh", "uri": "file:///f"}],
    })  # fmt: skip


def licence(**terms: Any) -> Licence:
    return Licence.model_validate({"id": "lic-1", "tenant": "acme", "product": FLIGHTS, "purposes": ["research"], **terms})


def placed(job: str = "job-1", *, at: float = NOW + 10, **told: Any) -> Entry:
    document = {
        "purpose": "research", "kind": "sql", "inputs": {"f": f"{FLIGHTS}@1"}, "only": {"jurisdictions": [], "clusters": []},
        "run": f"{job}-1", "cluster": "sh", "jurisdiction": "CN-SH", "security_level": 0, "program": None,
        "licences": {FLIGHTS: "lic-1"}, **told,
    }  # fmt: skip
    return Entry(Act.RUN_PLACED, job, "scheduler", at, document, "acme", [FLIGHTS])


BEGIN = [
    acts.of_cluster(Act.CLUSTER_REGISTERED, cluster_spec("sh"), "tok-1", NOW),
    acts.of_cluster(Act.CLUSTER_REGISTERED, cluster_spec("us", jurisdiction="US"), "tok-1", NOW),
    acts.of_product(Act.PRODUCT_PUBLISHED, product(jurisdictions=("CN",)), "tok-1", NOW),
    acts.of_version(Act.VERSION_PUBLISHED, version(), "tok-1", NOW),
    acts.of_licence(Act.LICENCE_GRANTED, licence(), "tok-1", NOW),
]


def log(entries: Sequence[Entry]) -> list[AuditRow]:
    """The rows as they would be stored."""
    rows: list[AuditRow] = []
    for item in entries:
        previous = rows[-1].hash if rows else GENESIS
        document = canonical(dict(item.document))
        values = (len(rows) + 1, item.at, item.actor, item.act.value, item.subject, item.tenant, joined(item.products), document)
        rows.append(AuditRow(*values, previous, hash_of(previous, *values)))
    return rows


def proof(entries: Sequence[Entry], since: float | None = None, until: float | None = None) -> Proof:
    prover = Prover(FLIGHTS, since, until)
    prover.take(log(entries))
    return prover.proof()


def against(*entries: Entry) -> str:
    """What stands against the only run of a log that begins as BEGIN."""
    found = proof([*BEGIN, *entries])
    [run] = found.runs
    assert found.holds is (not run.against)
    return "; ".join(run.against)


def test_a_run_within_the_terms_is_listed_with_where_it_ran_and_under_which_licence() -> None:
    found = proof([*BEGIN, placed()])
    assert found.holds
    assert found.runs == (
        JudgedRun(6, "job-1-1", "job-1", NOW + 10, "acme", "sh", "CN-SH", "research", "sql", (f"{FLIGHTS}@1",), "lic-1", ()),
    )
    assert (found.rows, found.head, found.faults) == (6, log([*BEGIN, placed()])[-1].hash, ())


@pytest.mark.parametrize(("told", "words"), [
    ({"cluster": "us", "jurisdiction": "US"}, "may not be processed in US"),
    ({"cluster": "us", "jurisdiction": "CN-SH"}, "us lay in US by the log, and in CN-SH by this row"),
    ({"cluster": "gz", "jurisdiction": "CN-GZ"}, "gz was no member then"),
    ({"purpose": "marketing"}, "lacks purpose 'marketing'"),
    ({"licences": {}}, "has no licence"),
    ({"licences": {FLIGHTS: "lic-2"}}, "has no licence"),
    ({"inputs": {"f": f"{FLIGHTS}@2"}}, f"{FLIGHTS}@2 was not published, or withdrawn, by then"),
    ({"only": {"jurisdictions": ["CN-GZ"], "clusters": []}}, "the job is limited to CN-GZ"),
    ({"licences": None}, "its row is not readable"),
])  # fmt: skip
def test_a_run_outside_the_terms_is_told_with_why(told: dict[str, Any], words: str) -> None:
    assert words in against(placed(**told))


def test_what_comes_later_changes_nothing_of_a_run_and_what_came_before_does() -> None:
    revoked = acts.of_licence(Act.LICENCE_REVOKED, licence(revoked=True), "tok-1", NOW + 5)
    narrowed = acts.of_product(Act.TERMS_CHANGED, product(jurisdictions=("US",)), "tok-1", NOW + 5)
    withdrawn = acts.of_version(Act.VERSION_WITHDRAWN, version(), "tok-1", NOW + 5)
    removed = Entry(Act.CLUSTER_REMOVED, "sh", "tok-1", NOW + 5)
    moved = acts.of_cluster(Act.CLUSTER_CHANGED, cluster_spec("sh", jurisdiction="US"), "tok-1", NOW + 5)
    for entry in (revoked, narrowed, withdrawn, removed, moved):
        assert against(placed(), entry) == "", entry.act
        assert against(entry, placed()) != "", entry.act


PROGRAM = "b" * 64


@pytest.mark.parametrize(("terms", "told", "words"), [
    ({"security_level": 2}, {}, "is processed at security level 2 and more, and sh has level 0"),
    ({"may_copy": False}, {"cluster": "bj", "jurisdiction": "CN-BJ"}, "may not be copied, and bj holds no replica of it"),
    ({"kinds": ["training"]}, {}, "may not be used by jobs of kind sql"),
    ({"delivery": "aggregates-only"}, {"kind": "command", "program": PROGRAM}, f"{PROGRAM} is none of those that it permits"),
])  # fmt: skip
def test_the_terms_of_use_are_judged_too(terms: dict[str, Any], told: dict[str, Any], words: str) -> None:
    member = acts.of_cluster(Act.CLUSTER_REGISTERED, cluster_spec("bj", jurisdiction="CN-BJ", security_level=3), "tok-1", NOW)
    changed = acts.of_product(Act.TERMS_CHANGED, product(**terms), "tok-1", NOW)
    assert words in against(member, changed, placed(**told))
    assert against(member, placed(**told), changed) == ""


def test_a_program_whose_hash_is_permitted_may_read_all_of_it() -> None:
    changed = acts.of_product(Act.TERMS_CHANGED, product(delivery="aggregates-only", algorithms=[PROGRAM]), "tok-1", NOW)
    assert against(changed, placed(kind="command", program=PROGRAM)) == ""
    assert against(changed, placed(kind="sql", program=None)) == ""


def delivered(job: str) -> Entry:
    return Entry(Act.RESULT_DELIVERED, job, "agent/sh", NOW + 50, {"run": f"{job}-1", "cluster": "sh", "files": []}, "acme", [FLIGHTS])


@pytest.mark.parametrize(("limits", "words"), [
    ({"runs": 2}, "lic-1 was granted for 2 runs, and this is number 3"),
    ({"gib": "0.00000002"}, "lic-1 was granted for 21 bytes, and with this one 27 were read"),
])  # fmt: skip
def test_no_more_may_be_delivered_under_a_licence_than_it_was_granted_for(limits: dict[str, Any], words: str) -> None:
    jobs = [f"job-{number}" for number in range(3)]
    granted = acts.of_licence(Act.LICENCE_GRANTED, licence(**limits), "tok-1", NOW)
    entries = [*BEGIN, granted, *(placed(job) for job in jobs)]
    assert proof(entries + [delivered(job) for job in jobs[:2]]).holds, "the third has delivered nothing"
    found = proof(entries + [delivered(job) for job in jobs])
    assert [(run.job, run.against) for run in found.outside] == [("job-2", (words,))]
    assert proof([*entries, *(delivered(job) for job in jobs)], since=NOW + 20).holds, "none of them is asked for"


def test_a_licence_ends_when_it_expires() -> None:
    ends = acts.of_licence(Act.LICENCE_GRANTED, licence(expires_at=datetime.fromtimestamp(NOW + 10, UTC)), "tok-1", NOW)
    assert against(ends, placed(at=NOW + 9)) == ""
    assert "expired" in against(ends, placed(at=NOW + 10))


def test_only_runs_of_the_time_that_is_asked_for_are_told() -> None:
    entries = [*BEGIN, placed("job-1", at=NOW + 10), placed("job-2", at=NOW + 20, purpose="marketing"), placed("job-3", at=NOW + 30)]
    assert [run.job for run in proof(entries).runs] == ["job-1", "job-2", "job-3"]
    assert [run.job for run in proof(entries, NOW + 20, NOW + 30).runs] == ["job-2"]
    assert proof(entries, NOW + 30).holds
    assert not proof(entries, NOW + 20).holds


def test_a_log_that_is_not_whole_proves_nothing() -> None:
    rows = log([*BEGIN, placed()])
    prover = Prover(FLIGHTS)
    prover.take([*rows[:1], replace(rows[1], actor="tok-9"), *rows[2:]])
    found = prover.proof()
    assert (found.outside, found.holds) == ((), False)
    assert [fault.sequence for fault in found.faults] == [2]


def test_runs_that_the_tables_have_must_stand_in_the_log_where_they_ran() -> None:
    prover = Prover(FLIGHTS, NOW + 5)
    prover.take(log([*BEGIN, placed("job-0", at=NOW + 1), placed()]))
    known = [("job-0-1", "sh", NOW + 5), ("job-1-1", "us", NOW + 10), ("job-9-1", "us", NOW + 11), ("job-8-1", "us", NOW - 1)]
    prover.compare(known)
    found = {run.run: run.against for run in prover.proof().outside}
    assert found == {"job-1-1": ("the tables have it at us, and the audit log at sh",), "job-9-1": (UNRECORDED,)}
