"""What others hold of a shared Ray, from looks at it that come late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.backends.ray.beside import Beside, granted
from cluster.model import Others
from tests.ray_runs import request
from tests.unit.cluster.ray.test_nodes import entry

NODE = "0123456789abcdef"
GIB = 2**30


class Shared:
    """Looks at a node of 8 cores, 16 GiB and 4 devices."""

    def __init__(self) -> None:
        self._beside = Beside()
        self._total = {"CPU": 8.0, "memory": 16.0 * GIB, "GPU": 4.0}

    def look(self, used: Mapping[str, float], ours: Mapping[str, float] | None = None) -> Others | None:
        free = {what: amount - used.get(what, 0.0) for what, amount in self._total.items() if amount != used.get(what)}
        found = self._beside.look([entry(Resources=self._total)], {NODE: free}, {NODE: ours or {}})
        assert set(found) <= {NODE}
        return found.get(NODE)


def test_what_is_taken_and_not_ours_is_others() -> None:
    assert Shared().look({}) is None
    assert Shared().look({"CPU": 3.0}, {"CPU": 3.0}) is None
    assert Shared().look({"CPU": 3.5, "memory": 2.0 * GIB}, {"CPU": 1.0, "memory": 1.0 * GIB}) == Others(cpu=2.5, memory_bytes=GIB)
    # All of a resource that is taken is not told by Ray at all; of a device of which they hold a part, nothing is whole.
    assert Shared().look({"CPU": 8.0, "GPU": 1.25}) == Others(cpu=8.0, accelerators=2)


def test_a_change_counts_when_two_looks_agree() -> None:
    shared = Shared()
    assert shared.look({}) is None
    # A run of ours has ended, and Ray does not know it yet.
    assert shared.look({"CPU": 2.0}) is None
    assert shared.look({}) is None
    # Somebody came and stays.
    assert shared.look({"CPU": 4.0}) is None
    assert shared.look({"CPU": 3.0}) == Others(cpu=3.0)
    # A run of ours begins, and Ray does not know it yet.
    assert shared.look({"CPU": 3.0}, {"CPU": 2.0}) == Others(cpu=3.0)
    assert shared.look({"CPU": 5.0}, {"CPU": 2.0}) == Others(cpu=3.0)
    assert shared.look({"CPU": 2.0}, {"CPU": 2.0}) == Others(cpu=3.0)
    assert shared.look({"CPU": 2.0}, {"CPU": 2.0}) is None


@given(st.lists(st.floats(0, 8), min_size=1, max_size=20))
def test_what_is_told_lies_between_the_last_two_looks_or_is_what_was_told(looks: list[float]) -> None:
    shared, last, told = Shared(), looks[0], looks[0]
    for amount in looks:
        found = shared.look({"CPU": amount})
        cpu = found.cpu if found else 0.0
        assert min(last, amount) - 1e-3 <= cpu <= max(last, amount) + 1e-3
        if min(last, amount) <= told <= max(last, amount):
            assert abs(cpu - told) < 1e-3
        last, told = amount, cpu


def test_nodes_that_ray_says_nothing_of_are_left_out() -> None:
    entries: list[dict[str, Any]] = [entry("a", "a" * 16), entry("b", "b" * 16), entry("c", "c" * 16, Alive=False)]
    free = {"a" * 16: {"CPU": 1.0}, "c" * 16: {"CPU": 0.0}}
    assert Beside().look(entries, free, {}) == {"a" * 16: Others(cpu=3.0, memory_bytes=GIB)}


def test_runs_hold_what_they_were_granted_on_each_of_their_nodes() -> None:
    gang = request(("n1", "n1", "n2", "gone"), cpu=2.0, memory_bytes=10, accelerator_count=0.5)
    table = request(("n1",), kind="sql", sql="SELECT 1")
    spread = request(("n2",), kind="sql", sql="SELECT 1", engine="daft", cpu=1.0, memory_bytes=5)
    assert granted([gang, table, spread], {"n1": "1", "n2": "2"}) == {
        "1": {"CPU": 4.0, "memory": 20.0, "GPU": 1.0}, "2": {"CPU": 3.0, "memory": 15.0, "GPU": 0.5},
    }  # fmt: skip
