"""Jobs in time as buyers meet them: not before a time, and after other jobs, over HTTP and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.memory import Behaviour
from cluster.protocol import RunRequest
from tests.network import PATIENT, Network, job, node
from tests.served import Cpn

LATER = "2099-01-01T08:00:00+08:00"


def behave(run: RunRequest) -> Behaviour:
    """A job does what its first argument says."""
    deeds = {
        "stay": Behaviour(duration_s=600),
        "brief": Behaviour(duration_s=0.3),
        "fail": Behaviour(outcome="failed", category="exit", exit_code=3),
    }
    return deeds.get(run.command[0] if run.command else "", Behaviour())


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("time") / "data", **PATIENT) as running:
        running.add_tenant()
        running.add_tenant("globex")
        running.add_cluster("sh", node("n1", 64, 256), script=behave)
        yield running


@pytest.fixture
def cpn(network: Network, tmp_path: Path) -> Cpn:
    return Cpn(tmp_path, network.url, network.operator_token())


def submit(network: Network, deed: str = "work", **fields: Any) -> str:
    """A job that works, stays or fails; its id."""
    return str(network.submit(job(deed, kind="command", command=[deed], **fields))["id"])


@contextmanager
def closed(network: Network) -> Iterator[None]:
    """The only member takes nothing meanwhile."""
    network.ok(network.operator.post("/clusters/sh:cordon"))
    yield
    network.ok(network.operator.post("/clusters/sh:uncordon"))


def refused(network: Network, **fields: Any) -> list[tuple[str, str, str]]:
    """(path, reason, message) of every fault."""
    answer = network.operator.post("/jobs", json=job(**fields))
    assert answer.status_code == 422, answer.text
    return [(item["path"], item["reason"], item["message"]) for item in answer.json()["errors"]]


def test_a_job_waits_for_its_time_and_says_so(network: Network, cpn: Cpn) -> None:
    late = submit(network, start_after=LATER)
    soon = submit(network, start_after=(datetime.now(UTC) + timedelta(seconds=0.5)).isoformat())
    past = submit(network, start_after="2020-01-01T00:00:00Z")
    begun = network.wait(soon)
    assert datetime.fromisoformat(begun["placed_at"]) >= datetime.fromisoformat(begun["spec"]["start_after"])
    assert network.wait(past)["state"] == "succeeded"
    waiting = network.job(late)
    assert (waiting["state"], waiting["cause"]) == ("queued", "start_after")
    assert waiting["message"] == f"waiting: it starts after {LATER}"
    assert "start after" in cpn("job", "show", late).out
    assert next(row for row in cpn("job", "list").table() if row["ID"] == late)["MESSAGE"] == waiting["message"]
    said = cpn("job", "explain", late).out
    assert f"the job waits: it starts after {LATER}" in said
    assert "submit it without start_after" in said
    assert "what holds it has to change first" in said
    cpn("job", "cancel", late)
    assert network.job(late)["state"] == "cancelled"


def test_jobs_come_after_each_other(network: Network, cpn: Cpn) -> None:
    other = submit(network, "stay")
    network.wait(other, "running")
    with closed(network):
        first = submit(network, "work")
        second = submit(network, after=[first, {"job": other, "when": "always"}])
        chained = ("job", "submit", "-f", cpn.write("job.json", job("third")), "--set", f"after=[{second}]", "-o", "json")
        third = cpn(*chained).document["id"]
        assert (network.job(second)["cause"], network.job(second)["message"]) == (
            "dependency", f"waiting: it comes after {first}, {other}",
        )  # fmt: skip
        view = network.ok(network.operator.get(f"/jobs/{second}/explanation"))
        standing = [f"it comes after {first}, which is queued", f"it comes after {other}, which is running"]
        assert [item["message"] for item in view["holds"]] == standing
        assert f"it comes after {second}, which is queued" in cpn("job", "explain", third).out
        assert f"{first}, {other} (however it ends)" in cpn("job", "show", second).out
        network.ok(network.operator.post(f"/jobs/{other}:cancel"))
        network.wait(other)
        assert network.job(second)["message"] == "waiting: it comes after 1 of the 2 jobs in `after`"
    assert [network.wait(item)["state"] for item in (first, second, third)] == ["succeeded"] * 3
    times = [network.job(item) for item in (first, second, third)]
    assert all(before["finished_at"] <= after["placed_at"] for before, after in pairwise(times))


@pytest.mark.parametrize(("end", "state", "verb"), [("fail", "failed", "failed"), ("cancel", "cancelled", "was cancelled")])
def test_what_needed_success_ends_with_a_reason(network: Network, cpn: Cpn, end: str, state: str, verb: str) -> None:
    with closed(network):
        first = submit(network, "fail")
        second = submit(network, "work", after=[first])
        third = submit(network, "work", after=[second])
        anyway = submit(network, "work", after=[{"job": second, "when": "always"}])
        if end == "cancel":
            network.ok(network.operator.post(f"/jobs/{first}:cancel"))
    ended = [network.wait(item) for item in (first, second, third)]
    assert [item["state"] for item in ended] == [state] * 3
    assert ended[1]["message"].endswith(f"{verb}, and this job runs only after its success")
    assert ended[1]["message"].startswith(first)
    assert ended[2]["message"].startswith(second)
    assert network.moves(second)[-1] == (state, "dependency")
    assert network.wait(anyway)["state"] == "succeeded"
    assert f"{first} (fail) {verb}" in cpn("job", "wait", second, status=1).err


def test_who_cannot_be_waited_for_is_refused(network: Network) -> None:
    failed, foreign = submit(network, "fail"), submit(network, tenant="globex")
    network.wait(failed)
    [(path, reason, message)] = refused(network, after=[failed])
    assert (path, reason) == ("after.0.job", "never")
    assert f"{{job: {failed}, when: always}}" in message
    assert network.wait(submit(network, after=[{"job": failed, "when": "always"}]))["state"] == "succeeded"
    faults = refused(network, after=["job-nobody", foreign])
    assert [(path, reason) for path, reason, _ in faults] == [("after.0.job", "unknown"), ("after.1.job", "unknown")]
    assert f"there is no job {foreign!r} of the tenant 'acme'" in faults[1][2]
    planned = network.operator.post("/jobs:plan", json=job(after=["job-nobody"]))
    assert (planned.status_code, planned.json()["errors"][0]["path"]) == (422, "after.0.job")


def test_a_repeated_submission_is_the_first_even_when_its_predecessor_has_failed(network: Network) -> None:
    gate = submit(network, "stay")
    document = job("once", after=[gate])
    first = network.submit(document, **{"Idempotency-Key": "once"})["id"]
    network.ok(network.operator.post(f"/jobs/{gate}:cancel"))
    assert network.wait(first)["state"] == "cancelled"
    assert network.submit(document, **{"Idempotency-Key": "once"})["id"] == first


def test_who_waits_is_not_forgotten_by_a_restart(tmp_path: Path) -> None:
    with Network(tmp_path / "data", **PATIENT) as network:
        network.add_tenant()
        network.add_cluster("sh", script=behave)
        first = submit(network, "brief")
        second = submit(network, after=[first])
        network.stop_server()
        network.start_server()
        assert network.wait(second)["state"] == "succeeded"
