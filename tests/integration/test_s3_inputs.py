"""Inputs on S3: published, brought and proved from a real endpoint, and what is said when that does not go well."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.kills.cable import Cable
from tests.s3 import HIDDEN, S3Server, only
from workloads.catalogue.locations import CHUNK_BYTES, read_through
from workloads.catalogue.publishing import describe
from workloads.catalogue.s3 import SECRETS
from workloads.errors import DataChangedError, DataError, DataUnavailableError
from workloads.runners.replica_cache import Brought, ReplicaCache, Wanted
from workloads.runners.transfer import MIB, Pace, bring

BYTES = os.urandom(6 * MIB)
ROWS = b"carrier,delay\nAA,1.5\nUA,2.5\n"


@pytest.fixture(scope="module")
def bucket(s3_place: S3Server) -> str:
    s3_place.start()
    return s3_place.bucket("data")


@pytest.fixture
def pace(tmp_path: Path) -> Pace:
    return Pace(tmp_path / "pace", None)


def wanted(uri: str, data: bytes = BYTES) -> Wanted:
    return Wanted(uri, len(data), hashlib.sha256(data).hexdigest(), "sh")


def reading(uri: str) -> str:
    """Why it cannot be read."""
    with pytest.raises(DataUnavailableError) as caught:
        read_through(uri)
    return str(caught.value)


def test_what_lies_on_s3_is_described(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"carrier": ["AA", "UA"]}), tmp_path / "a.parquet")
    found = describe(s3.put(bucket, "deep/é a.parquet", (tmp_path / "a.parquet").read_bytes()), "parquet")
    assert (found.rows, found.columns[0].name, found.size_bytes) == (2, "carrier", (tmp_path / "a.parquet").stat().st_size)
    for key, data in (("a.csv", ROWS), ("a.csv.gz", gzip.compress(ROWS))):
        found = describe(s3.put(bucket, key, data), "csv")
        assert (found.rows, [column.type for column in found.columns], found.sha256) == (
            2, ["VARCHAR", "DOUBLE"], hashlib.sha256(data).hexdigest(),
        )  # fmt: skip


def test_an_object_is_brought_and_gone_on_with(s3: S3Server, bucket: str, tmp_path: Path, pace: Pace) -> None:
    uri, part = s3.put(bucket, "whole", BYTES), tmp_path / "a.part"
    assert bring(wanted(uri), part, pace).size_bytes == len(BYTES)
    assert part.read_bytes() == BYTES
    part.write_bytes(BYTES[: 5 * MIB])
    assert bring(wanted(uri), part, pace).size_bytes == MIB
    assert part.read_bytes() == BYTES


def test_a_cut_transfer_keeps_what_came_and_goes_on(s3: S3Server, bucket: str, tmp_path: Path, pace: Pace) -> None:
    # More than what is read ahead.
    data = BYTES * 2
    uri, part = s3.put(bucket, "cut", data), tmp_path / "a.part"
    with Cable(s3.port) as cable, only({**s3.variables(), "CPN_S3_ENDPOINT": f"http://127.0.0.1:{cable.port}"}):
        cuts: list[int] = []

        def cut(size: int) -> None:
            if not cuts:
                cuts.append(size)
                cable.cut("broken")

        with pytest.raises(DataUnavailableError, match="CPN_S3_ENDPOINT"):
            bring(wanted(uri, data), part, pace, progress=cut)
        kept = part.stat().st_size
        assert 0 < kept < len(data)
        assert part.read_bytes() == data[:kept]
        cable.heal()
        assert bring(wanted(uri, data), part, pace).size_bytes == len(data) - kept
    assert part.read_bytes() == data


def test_a_cap_holds_for_objects(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    pauses: list[float] = []
    slow = Pace(tmp_path / "slow", 2.0, clock=lambda: 100.0, pause=pauses.append)
    found = bring(wanted(s3.put(bucket, "capped", BYTES)), tmp_path / "a.part", slow)
    assert (found.capped, max(pauses)) == (True, pytest.approx(3.0))


def test_many_who_want_an_object_have_it_brought_once(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    item, cache = wanted(s3.put(bucket, "shared", BYTES)), ReplicaCache(tmp_path / "cache", 64 * MIB)
    brought: list[Brought] = []

    def carry(one: Wanted, part: Path) -> list[Brought]:
        brought.append(bring(one, part, Pace(tmp_path / "pace", None)))
        return brought[-1:]

    def take() -> None:
        paths, use = cache.take([item], carry)
        seen.append(paths[item.sha256].read_bytes() == BYTES)
        use.close()

    seen: list[bool] = []
    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (seen, len(brought)) == ([True] * 4, 1)


def test_other_bytes_than_published_are_refused(s3: S3Server, bucket: str, tmp_path: Path, pace: Pace) -> None:
    part, other = tmp_path / "a.part", bytes(len(BYTES))
    for key, data, words in (("other", other, "checksum"), ("short", BYTES[:-1], "holds"), ("long", BYTES + b"x", "more than")):
        with pytest.raises(DataChangedError, match=words):
            bring(wanted(s3.put(bucket, key, data)), part, pace)
        assert not part.exists()


def test_an_object_that_is_replaced_while_it_is_read_is_refused(s3: S3Server, bucket: str) -> None:
    uri = s3.put(bucket, "replaced", bytes(9 * MIB))

    def replace_it(size: int) -> None:
        if size == CHUNK_BYTES:
            s3.put(bucket, "replaced", b"x" * 9 * MIB)

    with pytest.raises(DataChangedError, match="replaced while it was read"):
        read_through(uri, progress=replace_it)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://data/missing.csv", "there is no object at s3://data/missing.csv; correct the key"),
        ("s3://data/deep", "there is no object at s3://data/deep"),
        ("s3://nowhere/a.csv", "there is no bucket 'nowhere' at http://127.0.0.1:"),
    ],
)
def test_what_is_missing_is_named(s3: S3Server, bucket: str, uri: str, words: str) -> None:
    s3.put(bucket, "deep/a.csv", ROWS)
    with pytest.raises(DataUnavailableError) as caught:
        describe(uri, "csv")
    assert words in str(caught.value)


def test_credentials_that_may_not_read_are_told_and_not_shown(
    s3: S3Server, bucket: str, pace: Pace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = s3.put(bucket, "closed", ROWS)
    caplog.set_level(logging.DEBUG)
    with s3.refusing(), pytest.raises(DataUnavailableError, match="the S3 credentials here may not read s3://data/closed") as caught:
        bring(wanted(uri, ROWS), tmp_path / "a.part", pace)
    assert bring(wanted(uri, ROWS), tmp_path / "a.part", pace).size_bytes == len(ROWS)
    # The endpoint runs in this process, and logs what it is sent.
    said = [str(caught.value), *(record.getMessage() for record in caplog.records if not record.name.startswith("moto"))]
    assert [text for text in said if any(secret in text for secret in HIDDEN)] == []
    assert len(said) > 1


def test_without_credentials_that_is_said(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    uri, nothing = s3.put(bucket, "bare", ROWS), str(tmp_path / "none")
    bare = {name: value for name, value in s3.variables().items() if name not in SECRETS}
    for profile in ({}, {"AWS_PROFILE": "unknown"}):
        with only({**bare, **profile, "AWS_SHARED_CREDENTIALS_FILE": nothing, "AWS_CONFIG_FILE": nothing}):
            assert reading(uri).startswith(f"there are no S3 credentials here that could read {uri}")
    with only(s3.variables_with_file(tmp_path)):
        assert read_through(uri).size_bytes == len(ROWS)


def test_an_endpoint_that_does_not_answer_is_named(s3: S3Server) -> None:
    with only({**s3.variables(), "CPN_S3_ENDPOINT": "http://user:password@127.0.0.1:9"}), pytest.raises(DataUnavailableError) as caught:
        read_through("s3://data/a.csv")
    assert "http://127.0.0.1:9 does not read s3://data/a.csv (" in str(caught.value)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://key:secret@data/a.csv", "holds no credentials"),
        ("s3://data/a.csv?versionId=1", "holds no query"),
        ("s3://data", "names no object"),
        ("s3://data/folder/", "names no object"),
        ("s3:///a.csv", "names a bucket"),
        ("s3://host:9000/data/a.csv", "name the host in CPN_S3_ENDPOINT"),
    ],
)
def test_uris_that_are_no_place_of_an_object(uri: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_through(uri)
    assert "secret" not in str(caught.value)
    assert not isinstance(caught.value, DataUnavailableError)


def test_a_copy_is_had_from_the_next_place_where_s3_fails(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    from workloads.runners.transfer import bring_from_any

    item = replace(wanted("s3://data/gone", ROWS), others=((s3.put(bucket, "second", ROWS), "gz"),))
    moved = bring_from_any(item, tmp_path / "a.part", lambda source: Pace(tmp_path / source, None))
    assert [(one.source, one.size_bytes) for one in moved] == [("gz", len(ROWS))]
