"""Arrays as buyers meet them: one submission, many tasks, over HTTP and on the command line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.memory import Behaviour
from cluster.protocol import RunRequest
from tests.network import PATIENT, Network, job, node, until
from tests.served import Cpn


class Member:
    """What a cluster saw: the environment of each run, and how many ran at once; tasks of `fail` with index 1 fail."""

    def __init__(self) -> None:
        self.environments: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def __call__(self, run: RunRequest) -> Behaviour:
        with self._lock:
            self.environments[run.job_id] = run.env
        if run.command == ("stay",):
            return Behaviour(duration_s=600)
        if run.command == ("fail",) and run.env.get("CPN_ARRAY_INDEX") == "1":
            return Behaviour(outcome="failed", category="exit", exit_code=3, message="exit status 3")
        return Behaviour(duration_s=0.02)


@pytest.fixture(scope="module")
def member() -> Member:
    return Member()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, member: Member) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("arrays") / "data"
    with Network(folder, max_array=200, **PATIENT) as running:
        running.add_tenant()
        running.add_cluster("sh", node("n1", 64, 256), script=member)
        yield running


@pytest.fixture
def cpn(network: Network, tmp_path: Path) -> Cpn:
    return Cpn(tmp_path, network.url, network.operator_token())


def tasks(deed: str, array: str, **fields: Any) -> dict[str, Any]:
    return job(deed, kind="command", command=[deed], array=array, **fields)


def test_an_array_runs_to_its_end_and_is_one_thing(network: Network, cpn: Cpn, member: Member) -> None:
    shown = cpn("job", "submit", "-f", cpn.write("work.json", tasks("work", "0-2,7", env={"MINE": "x"})), "-o", "json").document
    array, whole = shown["id"], shown["array"]
    assert (whole["size"], whole["index"], whole["first"], whole["at_most"]) == (4, None, f"{array}-0", None)
    waited = cpn("job", "wait", array)
    assert f"work ({array}) succeeded, all 4 tasks, after" in waited.out
    assert f"cpn job list --array {array}" in waited.err
    [line] = [row for row in cpn("job", "list").table() if row["ID"].startswith(array)]
    assert (line["ID"], line["STATE"], line["MESSAGE"]) == (array, "succeeded", "4 succeeded")
    rows = cpn("job", "list", "--array", array).table()
    assert [(row["ID"], row["STATE"]) for row in rows] == [(f"{array}-{index}", "succeeded") for index in (0, 1, 2, 7)]
    assert member.environments[f"{array}-7"] == {
        "MINE": "x", "CPN_ARRAY_ID": array, "CPN_ARRAY_INDEX": "7", "CPN_ARRAY_SIZE": "4",
    }  # fmt: skip
    task = network.job(f"{array}-7")
    assert (task["array"]["id"], task["array"]["index"], task["run_id"]) == (array, 7, f"{array}-7-1")
    assert "0-2,7" in cpn("job", "show", array).out
    refused = network.operator.get(f"/jobs/{array}/receipt")
    assert (refused.status_code, f"name one of them, like {array}-0" in refused.json()["detail"]) == (409, True)
    assert network.operator.get(f"/jobs/{array}-7/receipt").status_code == 200
    assert network.operator.get(f"/jobs/{array}-8").status_code == 404


def test_at_most_so_many_run_at_once_and_an_array_is_cancelled_as_one(network: Network, cpn: Cpn) -> None:
    said = cpn("job", "submit", "-f", cpn.write("stay.json", tasks("stay", "0-9%3")))
    array = said.out.split()[1]
    assert f"10 tasks, {array}-0 the first" in said.out
    until(lambda: network.job(array)["message"] == "3 running, 7 queued", "three run")
    held = network.job(f"{array}-5")
    assert (held["state"], held["cause"]) == ("queued", "array_limit")
    assert held["message"] == "waiting: its array runs at most 3 of its tasks at once, and others go first"
    assert "at most 3 of its tasks" in cpn("job", "explain", f"{array}-5").out
    assert f"3 running, 7 queued; {array}-0: the job is running" in cpn("job", "explain", array).out
    # What the array holds back keeps nobody else from a turn.
    assert network.wait(network.submit(job())["id"])["state"] == "succeeded"
    cpn("job", "cancel", f"{array}-1", f"{array}-8")
    until(lambda: network.job(array)["message"] == "2 cancelled, 3 running, 5 queued", "the next one has its turn")
    cpn("job", "cancel", array)
    ended = network.wait(array)
    assert (ended["state"], ended["message"]) == ("cancelled", "10 cancelled")
    assert f"cpn job list --array {array} --state cancelled" in cpn("job", "wait", array, status=1).err


def test_a_job_after_an_array_waits_for_all_of_it(network: Network, cpn: Cpn) -> None:
    network.ok(network.operator.post("/clusters/sh:cordon"))
    document = tasks("fail", "0-2%1")
    array = network.submit(document, **{"Idempotency-Key": "fail"})["id"]
    assert network.submit(document, **{"Idempotency-Key": "fail"})["id"] == array
    strict = network.submit(tasks("work", "0-1", after=[array]))["id"]
    lenient = network.submit(job(after=[{"job": array, "when": "always"}]))["id"]
    waiting = network.job(strict)
    assert (waiting["state"], waiting["message"]) == ("queued", f"2 queued; waiting: it comes after {array}")
    assert f"it comes after {array}, which is queued" in cpn("job", "explain", strict).out
    network.ok(network.operator.post("/clusters/sh:uncordon"))
    assert network.wait(array)["message"] == "1 failed, 2 succeeded"
    assert network.wait(strict)["message"] == "2 failed"
    assert (
        network.job(f"{strict}-0")["message"] == f"{array}-1 (fail) of the array {array} failed, and this job runs only after its success"
    )
    assert network.wait(lenient)["state"] == "succeeded"
    ended = max(network.job(f"{array}-{index}")["finished_at"] for index in range(3))
    assert network.job(lenient)["placed_at"] >= ended


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"array": "0-200"}, "array", "201 tasks are more than the 200 that an array may have here; submit several arrays"),
        ({"array": "9-0"}, "array", "write it as 0-9"),
        ({"array": 7}, "array", "like 0-99"),
        ({"array": "0-1", "env": {"CPN_ARRAY_INDEX": "3"}, "kind": "command"}, "env.CPN_ARRAY_INDEX", "set by cpn"),
    ],
)  # fmt: skip
def test_what_cannot_be_an_array_is_refused(network: Network, fields: dict[str, Any], path: str, words: str) -> None:
    answer = network.operator.post("/jobs:plan", json=job(**fields))
    assert answer.status_code == 422
    [fault] = answer.json()["errors"]
    assert fault["path"] == path
    assert words in fault["message"]


def test_an_array_goes_on_after_a_restart(tmp_path: Path) -> None:
    with Network(tmp_path / "data", **PATIENT) as network:
        network.add_tenant()
        network.add_cluster("sh", script=Member())
        array = network.submit(tasks("work", "0-9%2"))["id"]
        network.stop_server()
        network.start_server()
        assert network.wait(array)["message"] == "10 succeeded"
        assert not network.clusters["sh"].violations
