"""Fetching: proved bytes under a content address, nothing left behind when they are not what was published."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from workloads.catalogue import locations
from workloads.catalogue.locations import local_path, shown, suffix
from workloads.errors import DataChangedError, DataError, DataUnavailableError
from workloads.runners.inputs import fetch

BYTES = bytes(range(256)) * 5000
SHA = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "origin" / "with space é.parquet"
    path.parent.mkdir()
    path.write_bytes(BYTES)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> bool:
        found = self.path.partition("?")[0] == "/data.csv"
        if found:
            self.send_response(200)
            self.send_header("Content-Length", str(len(BYTES)))
            self.end_headers()
        else:
            self.send_error(404)
        return found

    def do_GET(self) -> None:
        # Only here: what follows the headers of a HEAD is the next answer on the same connection.
        if self.do_HEAD():
            self.wfile.write(BYTES)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("as_uri", [str, Path.as_uri])
def test_a_copy_lies_under_its_checksum(source: Path, store: Path, as_uri: object) -> None:
    seen: list[int] = []
    path = fetch(as_uri(source), len(BYTES), SHA, store, progress=seen.append)  # type: ignore[operator]
    assert path == store / f"{SHA}.parquet"
    assert path.read_bytes() == BYTES
    assert [item.name for item in store.iterdir()] == [path.name]
    assert seen[-1] == len(BYTES)


def test_a_copy_is_fetched_once(source: Path, store: Path) -> None:
    path = fetch(str(source), len(BYTES), SHA, store)
    source.unlink()
    assert fetch(str(source), len(BYTES), SHA, store) == path


def test_a_cut_off_copy_is_fetched_anew(source: Path, store: Path) -> None:
    path = fetch(str(source), len(BYTES), SHA, store)
    path.write_bytes(BYTES[:100])
    assert fetch(str(source), len(BYTES), SHA, store).read_bytes() == BYTES


@pytest.mark.parametrize("changed", [BYTES[:-1], BYTES + b"x", b"\1" + BYTES[1:], b""])
@pytest.mark.parametrize("local", [True, False])
def test_changed_data_is_refused_and_leaves_nothing(source: Path, store: Path, changed: bytes, local: bool) -> None:
    source.write_bytes(changed)
    with pytest.raises(DataChangedError, match="publi"):
        fetch(str(source), len(BYTES), SHA, store, local=local)
    assert list(store.iterdir()) == []


@pytest.mark.parametrize("local", [True, False])
def test_a_missing_file_is_unavailable_and_leaves_nothing(store: Path, tmp_path: Path, local: bool) -> None:
    with pytest.raises(DataUnavailableError, match="there is no file at"):
        fetch(str(tmp_path / "nowhere.csv"), 1, SHA, store, local=local)
    assert list(store.iterdir()) == []


def test_a_full_disk_is_unavailable_and_leaves_nothing(source: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataUnavailableError, match="No space left"):
        fetch(str(source), len(BYTES), SHA, store)
    assert list(store.iterdir()) == []


def test_an_interrupted_copy_leaves_nothing(source: Path, store: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(str(source), len(BYTES), SHA, store, progress=stop)
    assert list(store.iterdir()) == []


def test_a_local_file_is_used_in_place_and_read_once(source: Path, store: Path) -> None:
    reads: list[int] = []
    assert fetch(source.as_uri(), len(BYTES), SHA, store, local=True, progress=reads.append) == source
    first = len(reads)
    assert fetch(source.as_uri(), len(BYTES), SHA, store, local=True, progress=reads.append) == source
    assert len(reads) == first > 0
    assert not (store / f"{SHA}.parquet").exists()


def test_a_local_file_is_proved_again_when_it_was_touched(source: Path, store: Path) -> None:
    fetch(str(source), len(BYTES), SHA, store, local=True)
    before = source.stat()
    source.write_bytes(b"\1" + BYTES[1:])
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataChangedError, match="checksum"):
        fetch(str(source), len(BYTES), SHA, store, local=True)


def test_http_is_copied_even_when_called_local(server: str, store: Path) -> None:
    path = fetch(f"{server}/data.csv?token=secret", len(BYTES), SHA, store, local=True)
    assert path == store / f"{SHA}.csv"
    assert path.read_bytes() == BYTES


def test_http_errors_do_not_show_what_a_uri_carries(server: str, store: Path) -> None:
    with pytest.raises(DataUnavailableError) as caught:
        fetch(f"{server}/missing.csv?token=secret", len(BYTES), SHA, store)
    assert "missing.csv" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert list(store.iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["relative/path.csv", "zip::/data/a.zip", "simplecache::s3://b/k", "memory://x", "ssh://h/x", "file://other/x", ""]
)
def test_other_places_are_not_supported(uri: str, store: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(uri, 1, SHA, store)
    assert not isinstance(caught.value, DataUnavailableError)


def test_a_missing_driver_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_driver(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(locations, "_open_elsewhere", without_driver)
    with pytest.raises(DataUnavailableError, match="Install s3fs"):
        fetch("s3://bucket/key.csv", 1, SHA, store)


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


def test_what_a_killed_process_copied_in_part_is_removed_by_the_next_copy(source: Path, store: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from workloads.runners.inputs import fetch
fetch({source.as_uri()!r}, {len(BYTES)}, {SHA!r}, Path({str(store)!r}), progress=lambda size: os.kill(os.getpid(), signal.SIGKILL))
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.suffix for path in store.iterdir()] == [".part"]
    found = fetch(source.as_uri(), len(BYTES), SHA, store)
    assert list(store.iterdir()) == [found]


def test_a_copy_under_way_is_left_alone_by_another(source: Path, store: Path) -> None:
    fetched: list[Path] = []

    def meanwhile(_size: int) -> None:
        if not fetched:
            fetched.append(store)
            fetched.append(fetch(source.as_uri(), len(BYTES), SHA, store))

    assert fetch(source.as_uri(), len(BYTES), SHA, store, progress=meanwhile).read_bytes() == BYTES
    assert list(store.iterdir()) == [fetched[1]]
