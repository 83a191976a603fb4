"""The decision log proves that no run started where licence, residency or purpose forbids it, and finds one that did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.chain import Act
from scheduler.store import audit, catalogue
from scheduler.store.audit import Entry
from tests.simulation.rights import Market

WORLDS, STEPS = 12, 120


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    """A market that has lived for a while."""
    opened = Market(tmp_path, 1)
    opened.live(STEPS)
    yield opened
    opened.close()


@pytest.mark.parametrize("seed", range(WORLDS))
def test_however_the_market_changes_every_run_is_proved_to_lie_within_the_terms(tmp_path: Path, seed: int) -> None:
    market = Market(tmp_path, seed)
    try:
        market.live(STEPS)
        found = market.proofs()
        assert [proof.outside for proof in found] == [()] * len(found)
        assert all(proof.holds for proof in found)
        assert any(proof.runs for proof in found), "something was placed"
    finally:
        market.close()


def test_what_operators_do_between_decision_and_commit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the look at the catalogue's generation runs start by rights that were taken meanwhile, and the proof finds them."""
    monkeypatch.setattr(Market, "_check", lambda *_: None)
    monkeypatch.setattr(catalogue, "generation", lambda _conn: 0)
    outside = []
    for seed in range(4):
        market = Market(tmp_path, seed, copied=1.0)
        market.between = market.hurry
        market.live(STEPS)
        outside += [run for proof in market.proofs() for run in proof.outside]
        assert all(not proof.faults for proof in market.proofs()), "the log says truly what was done wrong"
        market.close()
    assert outside
    assert all(run.against for run in outside)


def test_an_injected_run_is_found_in_each_proof_that_it_concerns_and_in_no_other(market: Market) -> None:
    before = market.proofs()
    name = next(proof.product for proof in before if proof.runs)
    with market.store.read() as conn:
        placed = next(row for row in audit.all_rows(conn) if row.act == Act.RUN_PLACED and name in row.product_names)
    told = {**placed.parsed(), "run": "job-x-1", "cluster": "moon"}
    entry = Entry(Act.RUN_PLACED, "job-x", "scheduler", placed.at, told, placed.tenant, placed.product_names)
    market.store.write(lambda tx: audit.append(tx.conn, [entry]))
    after = market.proofs()
    assert [proof.product for proof in after if not proof.holds] == sorted(placed.product_names)
    assert {run.run for proof in after for run in proof.outside} == {"job-x-1"}
    assert len(after) == len(before)
