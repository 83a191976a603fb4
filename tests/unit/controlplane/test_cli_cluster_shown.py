"""One cluster as `cpn cluster show` tells of it, and what an agent is told that cannot reach its own."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from controlplane.cli import session
from tests.unit.controlplane.cli_server import PRICES, T0, FakeServer, cluster, page


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setattr(session, "transport", httpx.MockTransport(fake.handle))
    return fake


def test_what_is_declared_of_its_electricity_is_shown(server: FakeServer) -> None:
    night = {"from": "22:00", "to": "06:00", "grams_per_kwh": 300.0}
    told = {"grams_per_kwh": 550.0, "time_zone": "Asia/Shanghai", "hours": [night], "watts": {"H200": 690.0}, "overhead": 1.25}
    server.answers["GET /clusters/sh"] = cluster(carbon=told)
    result = server.run("cluster", "show", "sh")
    for words in ("550 g/kWh", "300 g/kWh", "Asia/Shanghai", "H200 draws", "690 W", "1.25", "unrated"):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("cache", "words"),
    [(None, "-"), ({"capacity_bytes": 64 * 2**30, "used_bytes": 2**20, "copies": 3}, "1.0 MiB of 64.0 GiB in use, 3 copies")],
)
def test_how_full_the_caches_are_is_shown(server: FakeServer, cache: dict[str, int] | None, words: str) -> None:
    server.answers["GET /clusters/sh"] = cluster(cache=cache)
    (line,) = (line for line in server.run("cluster", "show", "sh").stdout.splitlines() if line.startswith("cache"))
    assert line.removeprefix("cache").strip() == words


def test_what_others_hold_is_shown_where_they_hold_something(server: FakeServer) -> None:
    server.answers["GET /clusters/sh"] = cluster()
    alone = server.run("cluster", "show", "sh").stdout
    assert not {"others hold", "object store"} & {line[:12].strip() for line in alone.splitlines()}
    others = {"cpu": 2.5, "memory_bytes": 3 * 2**30, "accelerators": 1}
    server.answers["GET /clusters/sh"] = cluster(others=others, object_store_bytes=2**30)
    said = " ".join(server.run("cluster", "show", "sh").stdout.split())
    assert "others hold 2.5 cores, 3.0 GiB, 1 accelerators object store 1.0 GiB" in said


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (None, "jobs of kind ray  off"),
        ({"runtime_env": []}, "may bring nothing"),
        ({"runtime_env": ["env_vars", "pip"], "wheelhouse": "/w"}, "may bring env_vars, pip from /w"),
    ],
)
def test_what_jobs_of_kind_ray_may_bring_is_shown(server: FakeServer, rules: dict[str, Any] | None, words: str) -> None:
    server.answers["GET /clusters/sh"] = cluster(ray_jobs=rules)
    assert words in " ".join(server.run("cluster", "show", "sh").stdout.split()).replace("ray off", "ray  off")


def test_how_it_is_driven_is_shown_where_that_leaves_something_out(server: FakeServer) -> None:
    server.answers["GET /clusters/sh"] = cluster()
    assert "driven by" not in server.run("cluster", "show", "sh").stdout
    driver = {"way": "job-api", "why": "the cluster has Ray 2.9.3, the agent 2.60.0"}
    server.answers["GET /clusters/sh"] = cluster(driver=driver, runs_only="jobs of kind command")
    said = " ".join(server.run("cluster", "show", "sh").stdout.split())
    assert "driven by Ray's Job API: the cluster has Ray 2.9.3, the agent 2.60.0 runs only jobs of kind command" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give --address HOST:PORT of its head, or --dashboard URL for its Job API alone"),
        (["--driver", "job-api"], "give --address HOST:PORT of its head, or --dashboard URL"),
        (["--dashboard", "http://h:8265", "--driver", "actors"], "give --address HOST:PORT of its head"),
        (["--address", "h:6379", "--driver", "job-api"], "dashboard: the Job API is the dashboard's"),
    ],
)
def test_an_agent_is_told_how_it_could_reach_its_cluster(server: FakeServer, options: list[str], words: str) -> None:
    result = server.run("agent", "sh", *options)
    assert (result.exit_code, server.requests) == (2, [])
    assert words in " ".join(result.stderr.split())


def test_a_cluster_tells_its_tariffs_and_when_they_change(server: FakeServer) -> None:
    tariffs = {"time_zone": "Asia/Shanghai", "hours": [{"from": "22:00", "to": "06:00", "days": ["sat"], "factor": 0.6}]}
    tariff = {"factor": 1.0, "changes_at": T0, "next_factor": 0.6}
    server.answers["GET /clusters/sh"] = cluster(prices={**PRICES, "tariffs": tariffs}, tariff=tariff)
    details = server.run("cluster", "show", "sh").stdout
    assert "22:00-06:00 on sat 0.6; else 1" in details
    assert "hours cost 1 of these prices, from" in details
    assert "tariffs in Asia/Shanghai" in details


def test_nodes_that_are_not_there_yet_are_shown_apart(server: FakeServer) -> None:
    kind = {"cpu": 16.0, "memory_bytes": None, "accelerators": {"H200": 8}, "labels": {"pool": "big"}, "least": 0, "most": 3, "present": 1}
    asked, resting = {**kind, "name": "big", "wanted": 2, "rests_until": None}, {**kind, "name": "old", "wanted": 0, "rests_until": T0}
    server.answers["GET /clusters/sh"] = shown = cluster(scaling={"types": [asked, resting], "trouble": "no quota"})
    lines = [" ".join(line.split()) for line in server.run("cluster", "show", "sh").stdout.splitlines()]
    assert "big 16 - 8 H200 1 0 3 2 in all pool=big" in lines
    assert any(line.startswith("old 16 - 8 H200 1 0 3 in vain; again after") for line in lines)
    assert "its autoscaler says: no quota" in lines
    server.answers |= {"GET /nodes": page(), "GET /clusters": page(shown, cluster("gz"))}
    told = "The autoscaler of sh can bring more nodes: 2 of type big, 2 of type old"
    assert told in " ".join(server.run("node", "list").stderr.split())
    assert told not in " ".join(server.run("node", "list", "--cluster", "gz").stderr.split())
    server.answers.pop("GET /clusters")
    assert server.run("node", "list", "-o", "json").exit_code == 0
