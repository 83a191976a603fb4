"""`cpn cluster doctor`: when something counts as left over, and what is done about it. The cluster is played."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.backends.ray import sweeping
from cluster.errors import ClusterError, UnreachableError
from cluster.leftovers import Leftover, Survey
from controlplane import orphans
from controlplane.cli import session
from controlplane.client import Client
from controlplane.orphans import SETTLE_S, OrphanReport, find_orphans
from tests.unit.controlplane.cli_server import SERVER, TOKEN, FakeServer, cluster

RUNS = "GET /clusters/sh/runs"
OVER = Leftover(kind="actor", name="cpn-run-job-over-1-0", run_id="job-over-1")
FOLDER = Leftover(kind="directory", name="/runs/job-over-1-0", run_id="job-over-1", node="n1", folder="job-over-1-0")
GOES_ON = Leftover(kind="actor", name="cpn-run-job-on-1-0", run_id="job-on-1")


def runs(*here: str, remote_id: str = "0c") -> dict[str, Any]:
    return {"cluster": "sh", "remote_id": remote_id, "here": list(here), "elsewhere": []}


@dataclass
class Cluster:
    """A cluster that shows one thing after the other, the last for good, and remembers what it was told to remove."""

    shows: list[Sequence[Leftover]]
    silent: tuple[str, ...] = ()
    keeps: tuple[Leftover, ...] = ()
    removed: list[Leftover] = field(default_factory=list)

    def look(self, _address: str, _token_file: Path | None, remove: Sequence[Leftover]) -> Survey:
        self.removed += remove
        shown = self.shows.pop(0) if len(self.shows) > 1 else self.shows[0]
        return Survey(
            cluster_id="0c", found=tuple(one for one in shown if one not in self.removed or one in self.keeps), silent=self.silent
        )


def find(cluster: Cluster, *, fix: bool = False, answer: Any = None) -> tuple[OrphanReport, list[float]]:
    server, pauses = FakeServer({RUNS: answer or runs("job-on-1")}), list[float]()
    with Client(SERVER, TOKEN, transport=httpx.MockTransport(server.handle)) as client:
        return find_orphans(client, "sh", "head:6379", None, fix=fix, look=cluster.look, pause=pauses.append), pauses


def test_nothing_left_needs_one_look() -> None:
    report, pauses = find(Cluster([[GOES_ON]]))
    assert (report.orphans, report.clean, pauses) == ([], True, [])


def test_what_is_left_is_listed_and_stays() -> None:
    cluster = Cluster([[GOES_ON, OVER, FOLDER]])
    report, pauses = find(cluster)
    assert (report.orphans, report.removed, report.clean, cluster.removed) == ([OVER, FOLDER], [], False, [])
    assert pauses == [SETTLE_S]


def test_what_an_agent_clears_up_meanwhile_does_not_count() -> None:
    report, _ = find(Cluster([[OVER, FOLDER], [FOLDER]]))
    assert report.orphans == [FOLDER]
    assert find(Cluster([[OVER], []]))[0].clean


def test_a_run_that_the_network_takes_up_again_meanwhile_does_not_count() -> None:
    report, _ = find(Cluster([[OVER]]), answer=[(200, runs()), (200, runs("job-over-1"))])
    assert report.orphans == []


def test_what_is_left_is_removed_when_asked() -> None:
    cluster = Cluster([[GOES_ON, OVER, FOLDER]])
    report, _ = find(cluster, fix=True)
    assert report.removed == report.orphans == cluster.removed == [OVER, FOLDER]
    assert report.clean


def test_what_cannot_be_removed_is_said_to_be_left() -> None:
    report, _ = find(Cluster([[OVER, FOLDER]], keeps=(FOLDER,)), fix=True)
    assert (report.removed, report.clean) == ([OVER], False)
    report, _ = find(Cluster([[OVER, FOLDER]], silent=("n1",)), fix=True)
    assert (report.removed, report.silent, report.clean) == ([OVER], ["n1"], False)


@pytest.mark.parametrize(("told", "words"), [("0d", "another cluster's"), ("", "has not told yet")])
def test_another_cluster_is_not_touched(told: str, words: str) -> None:
    cluster = Cluster([[OVER]])
    with pytest.raises(ClusterError, match=words):
        find(cluster, fix=True, answer=runs(remote_id=told))
    assert cluster.removed == []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    made = FakeServer({RUNS: runs("job-on-1"), "GET /clusters/sh": cluster()})
    monkeypatch.setattr(session, "transport", httpx.MockTransport(made.handle))
    monkeypatch.setattr(orphans, "SETTLE_S", 0.0)
    return made


def test_the_command_ends_with_1_while_something_is_left(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Cluster([[GOES_ON, OVER, FOLDER]])
    monkeypatch.setattr(orphans, "_by_ray", played.look)
    said = server.run("cluster", "doctor", "sh", "--address", "head:6379")
    assert said.exit_code == 1
    assert "cpn-run-job-over-1-0" in said.stdout
    assert "`--fix` removes what is left" in said.stdout
    said = server.run("cluster", "doctor", "sh", "--address", "head:6379", "--fix", "-o", "json")
    document = json.loads(said.stdout)
    assert (said.exit_code, len(document["orphans"]), document["removed"]) == (0, 2, document["orphans"])
    said = server.run("cluster", "doctor", "sh", "--address", "head:6379")
    assert (said.exit_code, said.stdout) == (0, "nothing is left of runs that are over on sh\n")


def test_a_cluster_that_does_not_answer_is_an_error_in_words(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> Survey:
        raise UnreachableError("no Ray head answers at head:6379")

    monkeypatch.setattr(orphans, "_by_ray", nobody)
    said = server.run("cluster", "doctor", "sh", "--address", "head:6379")
    assert (said.exit_code, "no Ray head answers at head:6379" in said.stderr) == (1, True)
    assert sweeping.ANSWER_S < sweeping.SURVEY_S


def test_a_ray_cluster_is_looked_at_through_its_head_and_kubernetes_by_a_kubeconfig(server: FakeServer, tmp_path: Path) -> None:
    said = server.run("cluster", "doctor", "sh")
    assert (said.exit_code, "give --address HOST:PORT" in said.stderr) == (2, True)
    server.answers["GET /clusters/sh"] = cluster(backend="kubernetes")
    said = server.run("cluster", "doctor", "sh", "--kubeconfig", str(tmp_path / "nowhere"))
    assert said.exit_code == 1
    assert "nowhere cannot be read" in said.stderr
    assert "give a kubeconfig, a context and the namespace" in said.stderr
