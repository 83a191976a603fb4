"""What is wanted ahead, whatever waits: at most half of each cache, only what may lie there, in an order that nothing but time changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.replicas import CacheState
from scheduler.ahead import Awaited, Planned, planned
from scheduler.assess import InputData
from scheduler.store.records import ClusterRecord
from tests.records import NOW, job_spec, member
from tests.unit.workloads.samples import licence, product, version
from workloads.catalogue.licence import Licence
from workloads.catalogue.policy import judge

CAPACITY = 20
SIZES = dict(zip("abcdef01", (1, 2, 3, 4, 5, 6, 10, 11), strict=True))
NODES = ("n1", "n2", "n3")
PLACES = st.sampled_from([(), ("CN",), ("CN-GZ",), ("CN-SH",)])


@st.composite
def versions(draw: st.DrawFn) -> dict[str, InputData]:
    """Each version; a few have terms and licences of their own, which allow gz or not, and all others may lie anywhere."""
    odd = draw(st.sets(st.sampled_from(sorted(SIZES)), max_size=3))
    found = {}
    for letter, size in SIZES.items():
        terms = product(f"nyc/v{letter}", classification="public")
        grants: tuple[Licence, ...] = ()
        if letter in odd:
            terms = product(f"nyc/v{letter}", jurisdictions=draw(PLACES), classification="restricted")
            ends = draw(st.sampled_from([None, "2020-01-01T00:00:00Z"]))
            grants = (licence(f"nyc/v{letter}", jurisdictions=draw(PLACES), expires_at=ends),)
        one = version(f"nyc/v{letter}", size_bytes=size, sha256=letter * 64, replicas=[{"cluster": "sh", "uri": f"https://sh/{letter}"}])
        found[letter] = InputData(f"v{letter}", terms, one, grants)
    return found


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Awaited], ClusterRecord]:
    known = draw(versions())
    held = draw(st.sets(st.sampled_from(sorted(SIZES)), max_size=2))
    jobs = []
    for number in range(draw(st.integers(2, 4))):
        inputs = tuple(known[letter] for letter in sorted(draw(st.sets(st.sampled_from(sorted(SIZES)), min_size=1, max_size=3))))
        nodes = tuple(draw(st.lists(st.sampled_from(NODES), min_size=1, max_size=4)))
        spec = job_spec(inputs={item.alias: item.version.ref for item in inputs})
        jobs.append(Awaited(f"j-{number}", "gz", nodes, NOW + draw(st.integers(0, 1)), spec, inputs))
    copies = CacheState(
        capacity_bytes=CAPACITY, used_bytes=0, copies=0, folder_bytes=CAPACITY, versions=tuple(letter * 64 for letter in sorted(held))
    )
    return jobs, replace(member("gz", jurisdiction="CN-GZ"), copies=copies)


def plan(jobs: list[Awaited], cluster: ClusterRecord) -> tuple[Planned, ...]:
    return planned(jobs, [cluster], NOW).get("gz", ())


@settings(max_examples=25)
@given(worlds())
def test_what_is_wanted_ahead(world: tuple[list[Awaited], ClusterRecord]) -> None:
    jobs, cluster = world
    found = plan(jobs, cluster)
    assert cluster.copies is not None
    taken: Counter[str] = Counter()
    by_id = {job.job_id: job for job in jobs}
    for one in found:
        file = one.wanted.file
        assert file.sha256 not in cluster.copies.held
        taken.update(dict.fromkeys(one.wanted.nodes, file.size_bytes))
        for job in (by_id[name] for name in one.jobs):
            rights = [(item.product, item.licences) for item in job.inputs]
            assert judge(job.spec, rights, cluster="gz", jurisdiction="CN-GZ", now=NOW) == ()
            assert file.ref in job.spec.inputs.values()
        assert set(one.wanted.nodes) <= {node for name in one.jobs for node in by_id[name].nodes}
    assert all(2 * size <= CAPACITY for size in taken.values())
    assert len({one.wanted.file.sha256 for one in found}) == len(found)
    starts = [min(by_id[name].start_at for name in one.jobs) for one in found]
    assert starts == sorted(starts)
    assert plan(jobs[::-1], cluster) == found
