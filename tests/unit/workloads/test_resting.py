"""Places that failed lately: remembered for a while, longer each time, and not at all once they work."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads.errors import DataChangedError, DataUnavailableError
from workloads.runners.copies import Wanted
from workloads.runners.resting import LONGEST_S, Resting
from workloads.runners.transfer import Pace, bring_from_any


class Hours:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hours:
    return Hours()


@pytest.fixture
def resting(tmp_path: Path, clock: Hours) -> Resting:
    return Resting(tmp_path / "resting", now=clock)


def test_a_place_rests_twice_as_long_each_time_and_no_longer_than_a_minute(resting: Resting, clock: Hours) -> None:
    for rest_s in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_S, LONGEST_S):
        assert resting.error("https://sh/a") is None
        resting.failed("https://sh/a", DataUnavailableError("it does not answer"))
        clock.now += rest_s - 0.5
        assert isinstance(resting.error("https://sh/a"), DataUnavailableError)
        clock.now += 0.5
    assert resting.error("https://gz/a") is None


def test_what_is_remembered_says_what_was_and_when_it_is_tried_again(resting: Resting, clock: Hours) -> None:
    for _ in range(4):
        resting.failed("/a", DataChangedError("it changed"))
    clock.now += 2.0
    found = resting.error("/a")
    assert isinstance(found, DataChangedError)
    assert str(found) == "it changed (so 2 s ago, 4 times in a row; it is tried again in 6 s)"


def test_what_works_again_begins_anew_and_so_does_what_failed_long_ago(resting: Resting, clock: Hours) -> None:
    for _ in range(5):
        resting.failed("/a", DataUnavailableError("away"))
    resting.worked("/a")
    assert resting.error("/a") is None
    for _ in range(5):
        resting.failed("/a", DataUnavailableError("away"))
    clock.now += 7200.0
    resting.failed("/a", DataUnavailableError("away"))
    assert "1 times in a row; it is tried again in 1 s" in str(resting.error("/a"))


def test_a_clock_that_was_set_back_and_a_file_that_is_none_let_it_be_tried(resting: Resting, clock: Hours, tmp_path: Path) -> None:
    resting.failed("/a", DataUnavailableError("away"))
    clock.now -= 500.0
    assert resting.error("/a") is None
    clock.now += 500.0
    assert resting.error("/a") is not None
    (file,) = (tmp_path / "resting").iterdir()
    file.write_text("{")
    assert resting.error("/a") is None


def test_a_place_that_rests_is_left_out_and_told_where_no_other_has_it(resting: Resting, clock: Hours, tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_bytes(b"123")
    digest = "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
    missing, there = (tmp_path / f"{name}.csv" for name in ("missing", "there"))
    alone = Wanted(str(missing), 3, digest, "sh")
    both = Wanted(str(missing), 3, digest, "sh", ((str(there), "gz"),))

    def bring(item: Wanted) -> list[str]:
        part = tmp_path / "part"
        part.unlink(missing_ok=True)
        return [one.source for one in bring_from_any(item, part, lambda _source: Pace(tmp_path / "pace", None), resting=resting)]

    with pytest.raises(DataUnavailableError, match=r"^there is no file at \S+$"):
        bring(alone)
    missing.write_bytes(b"123")
    with pytest.raises(DataUnavailableError, match=r"there is no file at .* it is tried again in 1 s"):
        bring(alone)
    assert bring(both) == ["gz"], "it rests still"
    clock.now += 1.0
    assert bring(both) == ["sh"]
    missing.unlink()
    assert bring(both) == ["gz"]
    with pytest.raises(DataUnavailableError, match="1 times in a row"):
        bring(alone)


def test_an_only_place_with_other_bytes_is_looked_at_anew(resting: Resting, tmp_path: Path) -> None:
    place = tmp_path / "a.csv"
    place.write_bytes(b"321")
    item = Wanted(str(place), 3, "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3", "sh")
    with pytest.raises(DataChangedError):
        bring_from_any(item, tmp_path / "part", lambda _source: Pace(tmp_path / "pace", None), resting=resting)
    place.write_bytes(b"123")
    assert bring_from_any(item, tmp_path / "part", lambda _source: Pace(tmp_path / "pace", None), resting=resting)
