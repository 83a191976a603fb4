"""Inputs that lie where they are read: used in place, proved once, and proved again when anything about them changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from workloads.catalogue.locations import local_path, shown, suffix
from workloads.errors import DataChangedError, DataError, DataUnavailableError
from workloads.runners.inputs import verified_in_place

BYTES = bytes(range(256)) * 5000
SHA = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "origin" / "with space é.parquet"
    path.parent.mkdir()
    path.write_bytes(BYTES)
    return path


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "memory"


def test_a_file_is_used_in_place_and_read_once(source: Path, memory: Path) -> None:
    reads: list[int] = []
    assert verified_in_place(source.as_uri(), len(BYTES), SHA, memory, progress=reads.append) == source
    first = len(reads)
    assert verified_in_place(source.as_uri(), len(BYTES), SHA, memory, progress=reads.append) == source
    assert len(reads) == first > 0


def test_a_file_is_proved_again_when_it_was_touched(source: Path, memory: Path) -> None:
    verified_in_place(str(source), len(BYTES), SHA, memory)
    before = source.stat()
    source.write_bytes(b"\1" + BYTES[1:])
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataChangedError, match="checksum"):
        verified_in_place(str(source), len(BYTES), SHA, memory)


@pytest.mark.parametrize("changed", [BYTES[:-1], BYTES + b"x", b"\1" + BYTES[1:], b""])
def test_changed_data_is_refused_and_not_remembered(source: Path, memory: Path, changed: bytes) -> None:
    source.write_bytes(changed)
    with pytest.raises(DataChangedError, match="publi"):
        verified_in_place(str(source), len(BYTES), SHA, memory)
    assert list(memory.iterdir()) == []


def test_a_missing_file_is_unavailable(memory: Path, tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match="there is no file at"):
        verified_in_place(str(tmp_path / "nowhere.csv"), 1, SHA, memory)


def test_what_another_machine_has_does_not_lie_here(memory: Path) -> None:
    assert verified_in_place("https://host/a.csv", 1, SHA, memory) is None


@pytest.mark.parametrize(
    "uri", ["relative/path.csv", "zip::/data/a.zip", "simplecache::s3://b/k", "memory://x", "ssh://h/x", "file://other/x", ""]
)
def test_other_places_are_not_supported(uri: str, memory: Path) -> None:
    with pytest.raises(DataError) as caught:
        verified_in_place(uri, 1, SHA, memory)
    assert not isinstance(caught.value, DataUnavailableError)


def test_uris_for_people_and_their_endings() -> None:
    assert shown("s3://key:secret@bucket/a.parquet?X=1#f") == "s3://bucket/a.parquet"
    assert shown("/data/a.csv") == "/data/a.csv"
    assert [suffix(uri) for uri in ("/a/b.csv.gz", "s3://b/k.PARQUET?x=.csv", "/a.d/b", "/a/b.tar.zst")] == [
        ".csv.gz",
        ".parquet",
        "",
        ".zst",
    ]
    assert local_path("file:///a%20b/c.csv") == Path("/a b/c.csv")
    assert local_path("https://host/a.csv") is None
