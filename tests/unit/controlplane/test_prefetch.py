"""What is wanted ahead as agents ask for it: looked up now and then, once for all, and at once when other jobs are promised a start."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from controlplane import prefetch
from controlplane.prefetch import LOOK_S, Prefetch
from scheduler.forecast import Promises, StandingPromise
from scheduler.market import Market
from tests.records import NOW, candidate, job_spec, member, world_of
from tests.unit.scheduler.test_ahead import data, gz


class Server:
    """A clock, a store that counts its readers, and what the latest cycle found."""

    def __init__(self) -> None:
        self.at, self.read_times, self.promises = NOW, 0, cast("Promises", ())
        item = data("a")
        self.market = Market({item.product.name: item.product}, {item.version.ref: item.version}, {("acme", "nyc/a"): item.licences})
        self.clusters = [gz(), member("sh")]
        world = world_of(*self.clusters)
        self.job = candidate(world, job_spec(inputs={"a": item.version.ref}), id="j-1", market=self.market)
        self.frozen = type("Frozen", (), {"world": world, "candidates": (self.job,)})

    def now(self) -> float:
        return self.at

    @contextmanager
    def read(self) -> Any:
        self.read_times += 1
        yield None

    def latest(self) -> tuple[Promises, Any]:
        return self.promises, type("Decision", (), {"frozen": self.frozen})

    def promise(self, *nodes: str) -> None:
        self.promises = (StandingPromise("j-1", "acme", "gz", nodes, {}, NOW + 60, NOW + 90),)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(prefetch, "read_market", lambda _conn, _specs, _holders: made.market)
    monkeypatch.setattr(prefetch.fleet, "list_clusters", lambda _conn: made.clusters)
    return made


def test_it_is_looked_up_every_two_seconds_and_when_other_jobs_are_promised_a_start(server: Server) -> None:
    found = Prefetch(cast("Any", server), server, server.latest)
    assert found.known("gz") is None
    assert (found.look("gz"), found.known("gz"), found.known("sh"), server.read_times) == ((), (), (), 0)
    server.promise("n1")
    assert found.decided() == ["gz"], "its agent is woken"
    assert found.known("gz") is None
    assert [one.file.ref for one in found.look("gz")] == ["nyc/a@1"]
    assert found.decided() == []
    assert (len(found.known("gz") or ()), found.known("sh"), server.read_times) == (1, (), 1)
    assert found.look("gz") == found.known("gz")
    assert server.read_times == 1, "who asked meanwhile has what was found"
    assert [(name, one.nodes) for name, one in found.of("j-1")] == [("gz", ("n1",))]
    assert found.of("j-2") == []
    server.at += LOOK_S
    assert found.known("gz") is None
    server.clusters[0] = replace(gz(), cordon="draining")
    assert (found.look("gz"), server.read_times) == ((), 2), "what may come is judged anew"
    server.promise("n2")
    assert found.decided() == ["gz"]
    server.promises = ()
    assert (found.decided(), found.look("gz"), server.read_times) == (["gz"], (), 2)
