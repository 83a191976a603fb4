"""What a simulated network charges and emits, by the hours of the trace's calendar: the same as a quote and an estimate say of each job."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from cluster.carbon import Carbon
from scheduler.simulator.comparison import compare
from scheduler.simulator.networks import Network, NodeGroup, Site
from scheduler.traces.swf import read_swf
from scheduler.traces.trace import USUAL_BEGIN, Builder, Trace
from tests.unit.workloads.samples import prices
from workloads.catalogue.tariffs import weigh
from workloads.resources import GIB, AcceleratorRequest, Resources

NIGHT = {"time_zone": "Asia/Shanghai", "hours": [{"from": "22:00", "to": "06:00", "factor": 0.6}]}
SUN = {
    "grams_per_kwh": 550, "time_zone": "Asia/Shanghai", "hours": [{"from": "10:00", "to": "16:00", "grams_per_kwh": 100}],
    "watts": {"core": 6.5, "H200": 700}, "overhead": 1.25,
}  # fmt: skip
STARTS = datetime(2026, 3, 2, 7, 30, tzinfo=UTC).timestamp()
# After how many hours, for how many, workers, cores and devices of each.
WORK = [(0.0, 3.0, 1, 2, 0), (2.0, 9.5, 2, 4, 1), (8.0, 30.0, 1, 8, 2), (20.0, 0.5, 1, 1, 0)]


def _trace(zero_at: float | None = STARTS) -> Trace:
    jobs = Builder()
    jobs.zero_at = zero_at
    for after, hours, workers, cores, devices in WORK:
        jobs.add(after * 3600, hours * 3600, workers=workers, cpu_milli=cores * 1000, memory_mib=1024, devices=devices)
    return jobs.trace()


def _network(carbon: dict[str, object] | None) -> Network:
    declared = Carbon.model_validate(carbon) if carbon else None
    return Network((Site("sh", "CN-SH", prices(tariffs=NIGHT), (NodeGroup(20, 16.0, 64 * GIB, "H200", 4),), declared),))


@pytest.mark.parametrize("policy", ["fifo", "cpn-live", "las"])
def test_cost_and_co2_are_those_of_the_hours_in_which_each_job_ran(policy: str) -> None:
    found = compare(_trace(), _network(SUN), [], [policy]).variants[0].figures()[policy]
    terms, declared = prices(tariffs=NIGHT), Carbon.model_validate(SUN)
    cost, grams = 0.0, 0.0
    for after, hours, workers, cores, devices in WORK:
        begin, seconds = STARTS + after * 3600, hours * 3600
        charged = float(weigh(terms.tariffs, begin, Decimal(repr(seconds))).seconds) / 3600
        device = float(terms.accelerator_hour["H200"].amount) if "H200" in terms.accelerator_hour else 0.0
        an_hour = cores * float(terms.cpu_hour.amount) + float(terms.memory_gib_hour.amount) + devices * device
        cost += charged * workers * an_hour
        accelerator = AcceleratorRequest(model="H200", count=devices) if devices else None
        asked = Resources(cpu=cores, memory="1GiB", workers=workers, accelerator=accelerator)
        grams += declared.grams(asked, "H200" if devices else None, begin, seconds) or 0.0
    assert (found["cost"], found["carbon_g"], found["carbon_unrated"]) == (pytest.approx(cost), pytest.approx(grams), 0)


def test_what_is_unknown_is_counted_and_not_guessed() -> None:
    nobody_knows_cores = compare(_trace(), _network({"grams_per_kwh": 100}), [], ["fifo"]).variants[0].figures()["fifo"]
    assert (nobody_knows_cores["carbon_g"], nobody_knows_cores["carbon_unrated"]) == (0.0, len(WORK))
    assert "carbon_g" not in compare(_trace(), _network(None), [], ["fifo"]).variants[0].figures()["fifo"]


def test_a_trace_begins_when_it_says_else_on_a_monday_and_a_part_of_it_when_its_first_job_comes(tmp_path: Path) -> None:
    assert (_trace().begins_at, _trace().part(1, 3).begins_at) == (STARTS, STARTS + 7200)
    assert (_trace(None).begins_at, datetime.fromtimestamp(USUAL_BEGIN, UTC).strftime("%A %H:%M")) == (USUAL_BEGIN, "Monday 00:00")
    row = "1 {submit} -1 60 1 -1 -1 1 60 -1 1 1 -1 -1 -1 -1 -1 -1"
    log = tmp_path / "log.swf"
    log.write_text(f"; Version: 2\n; UnixStartTime: 1000000\n{row.format(submit=50)}\n")
    assert read_swf(log).begins_at == 1_000_050.0
    log.write_text(f"; UnixStartTime: unknown\n{row.format(submit=50)}\n")
    assert read_swf(log).begins_at == USUAL_BEGIN
