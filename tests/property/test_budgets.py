"""A job that is stopped at its budget gets the longest time, in whole seconds, that this pays for, whatever the prices and tariffs."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scheduler.assess import assess
from scheduler.engine.reasons import Reason
from tests.records import NOW, cluster_spec, job_spec
from tests.unit.workloads.samples import prices
from workloads.catalogue.pricing import quote_run

money = st.decimals(min_value=0, max_value=50, places=4).map(lambda number: f"{number:f} CNY")
tariffs = st.none() | st.builds(
    lambda hour, factor: {"time_zone": "UTC", "hours": [{"from": f"{hour:02}:00", "to": f"{hour:02}:30", "factor": factor / 100}]},
    st.integers(0, 23), st.integers(1, 500),
)  # fmt: skip


@given(money, money, money, tariffs, st.integers(1, 200_000), st.integers(1, 64))
def test_a_second_more_would_exceed_the_budget(cpu: str, memory: str, budget: str, hours: Any, runtime_s: int, cores: int) -> None:
    there = prices(cpu_hour=cpu, memory_gib_hour=memory, tariffs=hours)
    spec = job_spec(max_runtime=f"{runtime_s}s", budget=budget, stop_at_budget=True, resources={"cpu": cores})
    found = assess(spec, [], cluster_spec(prices=there), NOW)
    assert found.quote is not None

    def total(seconds: float) -> Any:
        return quote_run(spec.resources, [], there, "sh", seconds, NOW).total.amount

    assert spec.budget is not None
    paid_s = found.quote.runtime_s
    if found.reason is Reason.OVER_BUDGET:
        assert total(1.0) > spec.budget.amount
    else:
        assert found.quote.total.amount <= spec.budget.amount
        assert found.quote.total.amount == total(paid_s or spec.max_runtime)
        assert paid_s is None or (paid_s < spec.max_runtime and total(min(paid_s + 1, spec.max_runtime)) > spec.budget.amount)
