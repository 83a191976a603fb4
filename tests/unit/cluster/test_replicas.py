"""The limits of a node's copies, as an agent's environment gives them."""

from __future__ import annotations

import pytest

from cluster.replicas import GIB, CacheCounts, CacheLimits, read_limits


def test_limits_are_read_from_the_environment() -> None:
    found = read_limits("1.5", " shanghai=50, *=200.5,,")
    assert found == CacheLimits(capacity_bytes=3 * GIB // 2, caps_mib_s={"shanghai": 50.0, "*": 200.5})
    assert [found.cap_mib_s(source) for source in ("shanghai", "guizhou")] == [50.0, 200.5]


def test_without_limits_there_is_room_and_no_cap() -> None:
    found = read_limits("", "")
    assert (found.capacity_bytes, found.cap_mib_s("shanghai")) == (64 * GIB, None)


@pytest.mark.parametrize(
    ("cache", "caps", "words"),
    [
        ("0", "", "CPN_CACHE_GIB=0 must be a number above 0"),
        ("nan", "", "CPN_CACHE_GIB=nan must be"),
        ("much", "", "CPN_CACHE_GIB=much must be"),
        ("1e99", "", "CPN_CACHE_GIB=1e99 must be a number above 0, and 1000000 at most"),
        ("1", "shanghai", "'shanghai' is no cap; write CLUSTER=MIB_S"),
        ("1", "=5", "'=5' is no cap"),
        ("1", "sh=-1", "CPN_TRANSFER_MIB_S: sh=-1 must be"),
        ("1", "sh=1,sh=2", "sh is given twice"),
    ],
)
def test_what_is_no_limit_is_refused_with_its_name(cache: str, caps: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("*", r"\*")):
        read_limits(cache, caps)


def test_counts_add_up() -> None:
    one, other = CacheCounts(hits=1, misses=2, evicted=3, evicted_bytes=4), CacheCounts(hits=10)
    assert one + other == CacheCounts(hits=11, misses=2, evicted=3, evicted_bytes=4)
