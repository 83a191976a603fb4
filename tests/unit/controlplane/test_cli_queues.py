"""Queues: what the commands send, and how a tree is shown."""

from __future__ import annotations

import httpx
import pytest

from controlplane.cli import session
from controlplane.settings import load
from tests.unit.controlplane.cli_server import FakeServer, page, queue_view

PART = {
    "resource": "memory", "total": 2.0**36, "entitled": 2.0**33, "quota": 2.0**33, "ceiling": None, "kept": 0.0, "held": 2.0**34,
    "borrowed": 2.0**33, "recent": 2.0**32,
}  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setattr(session, "transport", httpx.MockTransport(fake.handle))
    return fake


def test_a_queue_is_created_by_options(server: FakeServer) -> None:
    server.answers["POST /queues"] = (201, queue_view("lab", parent="org", warnings=["quotas at the top come to 9 cpu"]))
    result = server.run(
        "queue", "create", "lab", "--parent", "org", "--weight", "2", "--quota", "cpu=64", "--quota", "memory=256GiB", "--quota", "H200=8",
        "--borrow-limit", "cpu=32", "--lend-limit", "memory=0B", "--max-running", "20",
    )  # fmt: skip
    assert result.stdout == "created queue lab below org, weight 1\n"
    assert result.stderr == "warning: queue lab: quotas at the top come to 9 cpu\n"
    assert server.sent() == {
        "name": "lab", "parent": "org", "weight": 2.0, "max_running": 20, "quota": {"cpu": 64.0, "memory": "256GiB", "H200": 8.0},
        "borrow_limit": {"cpu": 32.0}, "lend_limit": {"memory": "0B"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (("--weight", "2"), {"weight": 2.0}),
        (("--parent", "org"), {"parent": "org"}),
        (("--parent", ""), {"parent": None}),
        (("--max-running", "0"), {"max_running": None}),
        (("--strict",), {"order": "strict"}),
        (("--best-effort",), {"order": "best-effort"}),
        (("--spread",), {"layout": "spread"}),
        (("--pack",), {"layout": "pack"}),
        (("--preemption", "reclaim-quota"), {"preemption": "reclaim-quota"}),
        (("--preemption", "inherit"), {"preemption": None}),
        (("--quota", "cpu=8", "--max-running", "4"), {"quota": {"cpu": 8.0}, "max_running": 4}),
    ],
)
def test_a_change_sends_what_is_given_alone(server: FakeServer, words: tuple[str, ...], body: dict[str, object]) -> None:
    server.answers["PATCH /queues/lab"] = queue_view("lab")
    assert server.run("queue", "change", "lab", *words).exit_code == 0
    assert server.sent() == body


@pytest.mark.parametrize("words", [(), ("--quota", "cpu"), ("--quota", "=8"), ("--weight", "-1"), ("--lend-limit", "memory=8")])
def test_a_change_that_says_nothing_is_not_sent(server: FakeServer, words: tuple[str, ...]) -> None:
    result = server.run("queue", "change", "lab", *words)
    assert (result.exit_code, server.requests) == (2, [])


def test_queues_are_listed_as_a_tree(server: FakeServer) -> None:
    queues = [
        queue_view("a-team", parent="org", depth=1), queue_view("b", borrowed_share=0.125), queue_view("lab", parent="a-team", depth=2),
        queue_view("org", children=["a-team"], warnings=["too much"]),
    ]  # fmt: skip
    server.answers["GET /queues"] = page(*queues)
    result = server.run("queue", "list")
    lines = [line.rstrip().split("  1 ")[0].rstrip() for line in result.stdout.splitlines()[2:]]
    assert lines == ["b", "org", "  a-team", "    lab"]
    assert "12.5%" in result.stdout
    assert result.stderr == "warning: queue org: too much\n"


def test_one_queue_is_shown_with_its_resources(server: FakeServer) -> None:
    server.answers["GET /queues/lab"] = queue_view("lab", parent="org", children=["x", "y"], recent_share=0.25, resources=[PART])
    shown = server.run("queue", "show", "lab").stdout
    for words in ("x, y", "25.0%", "no limit", "64.0 GiB", "16.0 GiB", "8.0 GiB", "4.0 GiB"):
        assert words in shown


def test_preemption_has_a_budget_and_a_time() -> None:
    found = load({"CPN_PREEMPTION_PER_CYCLE": "0", "CPN_PREEMPTION_RESTARTS": "1", "CPN_PREEMPTION_CLAIM_S": "30"})
    assert (found.preemption_per_cycle, found.preemption_restarts, found.preemption_claim_s) == (0, 1, 30.0)
    for name, value in (("CPN_PREEMPTION_PER_CYCLE", "-1"), ("CPN_PREEMPTION_RESTARTS", "-1"), ("CPN_PREEMPTION_CLAIM_S", "0")):
        with pytest.raises(ValueError, match=name):
            load({name: value})


def test_past_use_has_a_weight_and_a_half_life() -> None:
    found = load({"CPN_HISTORY_WEIGHT": "0.5", "CPN_HISTORY_HALF_LIFE_S": "3600"})
    assert (found.history_weight, found.history_half_life_s) == (0.5, 3600.0)
    for name, value in (("CPN_HISTORY_WEIGHT", "-1"), ("CPN_HISTORY_WEIGHT", "nan"), ("CPN_HISTORY_HALF_LIFE_S", "0")):
        with pytest.raises(ValueError, match=name):
            load({name: value})
