"""The benchmark of explanations: a small network is made, decided on and asked."""

from __future__ import annotations

from scheduler.simulator.explaining import Crowd, run_explain


def test_a_small_network_is_measured() -> None:
    said: list[str] = []
    found = run_explain(Crowd(nodes=8, jobs=60, clusters=4, queues=2), questions=6, say=said.append)
    assert (found["nodes"], found["jobs"], found["clusters"]) == (8, 60, 4)
    assert [row[:2] for row in found["growth"]] == [[4, 2], [4, 6], [8, 60]]  # type: ignore[attr-defined]
    assert 0 < found["sooner_s"]["p50"] <= found["sooner_s"]["p99"]  # type: ignore[index]
    assert said[0] == "4 nodes, 2 jobs, 4 clusters"
