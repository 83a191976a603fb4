"""Transfers: proved bytes, gone on with after a cut, no faster than a link may be."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.file_server import FileServer, serving_files
from workloads.catalogue import locations
from workloads.errors import CacheError, DataChangedError, DataUnavailableError
from workloads.runners import transfer
from workloads.runners.copies import Brought, Wanted
from workloads.runners.transfer import MIB, Pace, bring, bring_from_any

BYTES = bytes(range(256)) * 5000
SHA = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture(scope="module")
def running() -> Iterator[FileServer]:
    with serving_files() as server:
        yield server


@pytest.fixture
def server(running: FileServer) -> FileServer:
    running.files, running.ranges, running.cut_after, running.sent = {"/data.csv": BYTES}, True, None, 0
    running.arrived = lambda _: None
    running.asked.clear()
    running.begun.clear()
    return running


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "a.part"


@pytest.fixture
def free(tmp_path: Path) -> Pace:
    return Pace(tmp_path / "pace", None)


def wanted(uri: str, source: str = "sh") -> Wanted:
    return Wanted(uri, len(BYTES), SHA, source)


class Taken:
    """How far a reader is; `wait` until it is so far."""

    def __init__(self) -> None:
        self._size = 0
        self._more = threading.Condition()

    def __call__(self, size: int) -> None:
        with self._more:
            self._size = size
            self._more.notify_all()

    def wait(self, size: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: self._size >= size, timeout=20)


def test_a_file_is_brought_whole_and_told(tmp_path: Path, part: Path, free: Pace) -> None:
    origin = tmp_path / "origin é.csv"
    origin.write_bytes(BYTES)
    seen: list[int] = []
    clock = iter([10.0, 12.5])
    found = bring(wanted(origin.as_uri()), part, free, clock=lambda: next(clock), progress=seen.append)
    assert (found.source, found.size_bytes, found.seconds, found.capped) == ("sh", len(BYTES), 2.5, False)
    assert (part.read_bytes(), seen[-1]) == (BYTES, len(BYTES))


def test_what_is_there_is_not_brought_again(server: FileServer, part: Path, free: Pace) -> None:
    part.write_bytes(BYTES[:1000])
    found = bring(wanted(f"{server.url}/data.csv"), part, free)
    assert (found.size_bytes, server.begun, part.read_bytes()) == (len(BYTES) - 1000, [1000], BYTES)


def test_all_that_is_there_needs_no_server(part: Path, free: Pace) -> None:
    part.write_bytes(BYTES)
    assert bring(wanted("http://127.0.0.1:1/data.csv"), part, free).size_bytes == 0


def test_a_cut_transfer_goes_on_where_it_stopped(server: FileServer, part: Path, free: Pace) -> None:
    server.cut_after, taken = 500_000, Taken()
    server.arrived = taken.wait
    found = bring(wanted(f"{server.url}/data.csv?token=secret"), part, free, progress=taken)
    assert (found.size_bytes, part.read_bytes()) == (len(BYTES), BYTES)
    assert server.begun == [0, 500_000, 1_000_000]


def test_what_came_before_the_line_went_dead_stays_for_the_next_try(server: FileServer, part: Path, free: Pace) -> None:
    taken = Taken()

    def gone(size: int) -> None:
        taken.wait(size)
        server.files.clear()

    server.cut_after, server.arrived = 100_000, gone
    with pytest.raises(DataUnavailableError, match="there is no file at"):
        bring(wanted(f"{server.url}/data.csv"), part, free, progress=taken)
    assert part.read_bytes() == BYTES[:100_000]
    server.files["/data.csv"], server.cut_after = BYTES, None
    assert bring(wanted(f"{server.url}/data.csv"), part, free).size_bytes == len(BYTES) - 100_000


def test_a_server_without_ranges_is_read_from_the_beginning(server: FileServer, part: Path, free: Pace) -> None:
    server.ranges = False
    part.write_bytes(BYTES[:1000])
    assert bring(wanted(f"{server.url}/data.csv"), part, free).size_bytes == len(BYTES)
    assert part.read_bytes() == BYTES


def test_a_beginning_that_is_wrong_costs_one_more_try_from_the_start(server: FileServer, part: Path, free: Pace) -> None:
    part.write_bytes(b"\0" * 1000)
    bring(wanted(f"{server.url}/data.csv"), part, free)
    assert (server.begun, part.read_bytes()) == ([1000, 0], BYTES)


def test_a_beginning_longer_than_the_whole_is_dropped(server: FileServer, part: Path, free: Pace) -> None:
    part.write_bytes(BYTES + b"x")
    bring(wanted(f"{server.url}/data.csv"), part, free)
    assert part.read_bytes() == BYTES


@pytest.mark.parametrize("changed", [BYTES[:-1], BYTES + b"x", BYTES[:-1] + b"\1", b""])
@pytest.mark.parametrize("begun", [b"", BYTES[:1000]])
def test_changed_data_is_refused_and_leaves_nothing(tmp_path: Path, part: Path, free: Pace, changed: bytes, begun: bytes) -> None:
    origin = tmp_path / "origin.csv"
    origin.write_bytes(changed)
    if begun:
        part.write_bytes(begun)
    with pytest.raises(DataChangedError, match="publi"):
        bring(wanted(str(origin)), part, free)
    assert not part.exists()


def test_a_full_disk_says_what_to_do_and_leaves_nothing(tmp_path: Path, part: Path, free: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    origin = tmp_path / "origin.csv"
    origin.write_bytes(BYTES)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheError, match=r"No space left on device; make room there, or let the cache hold less \(CPN_CACHE_GIB\)"):
        bring(wanted(str(origin)), part, free)
    assert not part.exists()


def test_errors_do_not_show_what_a_uri_carries(server: FileServer, part: Path, free: Pace) -> None:
    with pytest.raises(DataUnavailableError) as caught:
        bring(wanted(f"{server.url}/missing.csv?token=secret"), part, free)
    assert "missing.csv" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named(part: Path, free: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_driver(_uri: str, _start: int) -> None:
        raise ImportError("no driver of that kind")

    monkeypatch.setattr(locations, "_open_elsewhere", without_driver)
    with pytest.raises(DataUnavailableError, match="needs a driver that is not installed here"):
        bring(wanted("gs://bucket/key.csv"), part, free)


class Time:
    """A clock that goes on by pauses alone."""

    def __init__(self) -> None:
        self.now = 100.0

    def pause(self, seconds: float) -> None:
        self.now += seconds


def pace(tmp_path: Path, time: Time, most_mib_s: float = 2.0) -> Pace:
    return Pace(tmp_path / "sh.pace", most_mib_s, clock=lambda: time.now, pause=time.pause)


def test_all_transfers_over_a_link_share_its_cap(tmp_path: Path) -> None:
    time = Time()
    one, other = pace(tmp_path, time), pace(tmp_path, time)
    for _ in range(4):
        one.passed(MIB)
        other.passed(MIB)
    assert time.now == pytest.approx(104.0)
    assert one.held_back
    assert other.held_back


def test_a_link_without_a_cap_waits_for_nothing(tmp_path: Path) -> None:
    free = Pace(tmp_path / "sh.pace", None, pause=lambda _: pytest.fail("it waited"))
    free.passed(10**12)
    assert not free.held_back


def test_what_was_written_before_the_machine_started_again_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "sh.pace").write_text("another-start 1000000.0")
    time = Time()
    pace(tmp_path, time).passed(2 * MIB)
    assert time.now == pytest.approx(101.0)


def test_a_transfer_that_was_held_back_says_so(tmp_path: Path, part: Path) -> None:
    origin = tmp_path / "origin.csv"
    origin.write_bytes(BYTES)
    time = Time()
    found = bring(wanted(str(origin)), part, pace(tmp_path, time), clock=lambda: time.now)
    assert found.capped
    assert found.seconds == pytest.approx(len(BYTES) / (2 * MIB))


def places(server: FileServer, *names: str) -> Wanted:
    """The data at these paths of a server, each at a cluster of that name; the first is where it is asked for first."""
    (first, name), *others = ((f"{server.url}/{name}.csv", name) for name in names)
    return replace(wanted(first, name), others=tuple(others))


def test_a_place_that_fails_is_made_up_for_by_the_next(server: FileServer, part: Path, free: Pace) -> None:
    server.files |= {"/changed.csv": BYTES[::-1], "/good.csv": BYTES}
    found = bring_from_any(places(server, "missing", "changed", "good", "data"), part, lambda _: free)
    assert part.read_bytes() == BYTES
    assert [(one.source, one.size_bytes, one.sha256) for one in found] == [("good", len(BYTES), SHA)]


def test_each_link_gets_its_own_pace_and_the_first_place_that_works_is_enough(server: FileServer, part: Path, free: Pace) -> None:
    asked: list[str] = []

    def pace_of(source: str) -> Pace:
        asked.append(source)
        return free

    found = bring_from_any(places(server, "data", "missing"), part, pace_of)
    assert (asked, [one.source for one in found]) == (["data"], ["data"])


def test_what_came_from_a_place_that_broke_is_gone_on_with_from_the_next(
    server: FileServer, part: Path, free: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files |= {"/broken.csv": BYTES}
    half = len(BYTES) // 2

    def cut(item: Wanted, part: Path, pace: Pace, **fields: Any) -> Brought:
        if item.source == "broken":
            part.write_bytes(BYTES[:half])
            raise DataUnavailableError("the line is dead")
        return bring(item, part, pace, **fields)

    monkeypatch.setattr(transfer, "bring", cut)
    found = bring_from_any(places(server, "broken", "data"), part, lambda _: free)
    assert part.read_bytes() == BYTES
    assert [(one.source, one.size_bytes) for one in found] == [("broken", half), ("data", len(BYTES) - half)]


def test_where_all_places_fail_each_is_told_and_only_changes_everywhere_are_final(server: FileServer, part: Path, free: Pace) -> None:
    server.files |= {"/changed.csv": BYTES[::-1], "/other.csv": BYTES[1:]}
    with pytest.raises(DataChangedError, match=r"no place has it: .*/changed\.csv has checksum .*/other\.csv holds"):
        bring_from_any(places(server, "changed", "other"), part, lambda _: free)
    with pytest.raises(DataUnavailableError, match=r"no place has it: .*/changed\.csv has checksum .*/missing\.csv"):
        bring_from_any(places(server, "changed", "missing"), part, lambda _: free)
    with pytest.raises(DataChangedError, match=r"^\S+/changed\.csv has checksum"):
        bring_from_any(places(server, "changed"), part, lambda _: free)
    assert not part.exists()


def test_a_full_disk_is_not_tried_from_elsewhere(server: FileServer, part: Path, free: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def full(item: Wanted, *_: Any, **__: Any) -> Brought:
        tried.append(item.source)
        raise CacheError("no room")

    monkeypatch.setattr(transfer, "bring", full)
    with pytest.raises(CacheError, match="no room"):
        bring_from_any(places(server, "data", "other"), part, lambda _: free)
    assert tried == ["data"]
