"""Whatever the inputs: every row is in one partition, attempts cut alike, and what is finished is left out by the next attempt."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from workloads.map_jobs import MOST_PARTITIONS
from workloads.runners.partitions import Groups, Part, cut, finished, read_part

GROUPS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 400)), max_size=12)
INPUTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), GROUPS, min_size=1)


def of(inputs: dict[str, list[tuple[int, int]]]) -> list[Groups]:
    return [Groups(alias, tuple(groups)) for alias, groups in inputs.items()]


@given(INPUTS, st.one_of(st.none(), st.integers(1, 700)), st.integers(1, 300))
def test_every_row_is_in_one_partition(inputs: dict[str, list[tuple[int, int]]], rows: int | None, target: int) -> None:
    plan = cut(of(inputs), rows, target)
    assert plan == cut(reversed(of(inputs)), rows, target), "the order in which inputs are named does not matter"
    assert [one.number for one in plan] == list(range(len(plan)))
    for alias, groups in inputs.items():
        mine = [one for one in plan if one.alias == alias]
        assert mine[0].start == 0
        assert mine[-1].stop == sum(count for count, _ in groups)
        assert all(before.stop == after.start for before, after in pairwise(mine))
        assert len(mine) == 1 or all(one.start < one.stop for one in mine)
        assert rows is None or all(one.stop - one.start <= rows for one in mine)


@given(st.integers(1, 10**13), st.integers(1, 3000))
def test_without_a_size_there_are_never_too_many(amount: int, groups: int) -> None:
    assert len(cut([Groups("a", ((1000, amount),) * groups)], None)) <= MOST_PARTITIONS


@given(INPUTS, st.data())
def test_what_is_finished_is_known_by_its_name_alone(inputs: dict[str, list[tuple[int, int]]], data: st.DataObject) -> None:
    plan = cut(of(inputs), 100)
    done = data.draw(st.sets(st.sampled_from([one.number for one in plan])))
    names = [Part(number, len(plan), 7 * number, "0123456789ab").name for number in done]
    others = [Part(0, len(plan) + 1, 1, "0123456789ab").name, "result.parquet", "part-1.parquet"]
    assert set(finished([*names, *others], len(plan))) == done
    assert [read_part(name) for name in others[1:]] == [None, None]
