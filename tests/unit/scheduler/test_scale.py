"""The made-up network of `cpn bench scale`: its document, and that a seed gives one network."""

from __future__ import annotations

from scheduler.simulator.scale import ARRIVALS, Load, Size, run_scale

SMALL = Size(nodes=60, jobs=900, clusters=6)


def test_the_document_has_three_sizes_ten_apart() -> None:
    said: list[str] = []
    document = run_scale(Size(nodes=600, jobs=2_000, clusters=6), cycles=3, say=said.append)
    assert [row[:2] for row in document["growth"]] == [[6, 20], [60, 200], [600, 2_000]]  # type: ignore[index, union-attr]
    assert set(document) == {"build_s", "full_cycle_s", "cycle_s", "placements_per_s", "peak_rss_mib", "growth"}
    assert said[-1] == "600 nodes, 2,000 jobs, 6 clusters"


def test_a_seed_gives_one_network_and_one_plan() -> None:
    plans = []
    for _ in range(2):
        load = Load(SMALL, seed=7)
        load.arrive(SMALL.jobs)
        load.decide()
        load.change()
        plans.append((load.running.tolist(), load.board.waiting_jobs()[0].tolist()))
    assert plans[0] == plans[1]


def test_no_job_is_lost_in_changes() -> None:
    load, changes, moved = Load(SMALL, seed=7), 20, int(SMALL.jobs * ARRIVALS)
    load.arrive(SMALL.jobs)
    assert 0 < load.decide() < SMALL.jobs
    for _ in range(changes):
        load.change()
    # As many have ended as have arrived.
    assert len(load.running) + load.board.waiting + changes * moved == SMALL.jobs + changes * moved
    assert set(load.running.tolist()) == set(load.board.runs)
