"""Results on their way to a store on S3: whatever breaks, each is whole in one place that is known, and nothing half stays anywhere."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.files import RunFiles
from controlplane.result_store import MissingResultError, ResultStore, ResultStoreError
from controlplane.shipments import LEAVE_S, Shipments, Standing
from scheduler.store import access, placed_results, removals, small_results
from scheduler.store.rows import insert_rows
from scheduler.store.session import Store, StoreUnavailableError
from scheduler.store.tables import runs as runs_table
from tests.contract.test_store import columns
from tests.databases import empty_database
from tests.records import run as run_record
from tests.s3 import HIDDEN, S3Server
from tests.stored_jobs import insert_job

NOW, RETRY_S = 1000.0, 30.0
PART = 5 * 1024**2
LARGE = bytes(range(256)) * (4096 * 11)  # Two whole parts and a bit.
SMALL = b"rows"
_numbers = itertools.count()


class Server:
    """What of a server moves results, with a tenant acme whose store is a fresh bucket."""

    def __init__(self, folder: Path, s3: S3Server) -> None:
        (folder / "cpn.sqlite").write_bytes(empty_database())
        self.store = Store(f"sqlite:///{folder / 'cpn.sqlite'}")
        self.s3, self.folder = s3, folder
        self.bucket = s3.bucket(f"results-{next(_numbers)}")
        self.url = f"s3://{self.bucket}/of/acme"
        self.store.write(lambda tx: access.add_tenant(tx.conn, "acme", NOW, result_store=self.url))
        self.start()

    def start(self) -> None:
        """Begin anew with what is stored."""
        self.files = RunFiles(self.folder, max_log_bytes=4096, max_result_bytes=2**30)
        self.shipments = Shipments(self.store, self.files, RETRY_S)

    def deliver(self, name: str, *, large: bytes | None = None, small: bytes | None = None, tenant: str = "acme") -> str:
        """A run that succeeded with these files: its id."""
        named = [("deep/large of it.bin", large), ("small.bin", small)]
        files = [{"name": file, "size_bytes": len(data), "sha256": "0" * 64} for file, data in named if data is not None]
        run = replace(run_record("sh", ["n1"], job_id=name), state="succeeded", finished_at=NOW, files=files)
        self.store.write(lambda tx: insert_job(tx.conn, columns(name, tenant=tenant)))
        self.store.write(lambda tx: insert_rows(tx.conn, runs_table, [vars(run)]))
        if small is not None:
            self.store.write(lambda tx: small_results.put(tx.conn, {run.id: {"small.bin": small}}, [run.id]))
        if large is not None:
            path = self.files.result_path(run.id, "deep/large of it.bin")
            path.parent.mkdir(parents=True)
            path.write_bytes(large)
        self.shipments.ended([run.id])
        return run.id

    def place(self, run_id: str) -> tuple[str, bool] | None:
        """Where the books have a result, and whether it has arrived."""
        with self.store.read() as conn:
            found = placed_results.of_runs(conn, [run_id]).get(run_id)
        return None if found is None else (found.url, found.stored_at is not None)

    def objects(self) -> dict[str, int]:
        return self.s3.objects(self.bucket)

    def here(self) -> set[str]:
        """The runs of which the server has something itself."""
        with self.store.read() as conn:
            return {*self.files.result_sizes(), *small_results.sizes(conn)}


@pytest.fixture
def server(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("controlplane.result_store.PART_BYTES", PART)
    made = Server(tmp_path, s3)
    yield made
    made.store.close()
    assert s3.uploads(made.bucket) == []


def test_a_result_is_moved_whole_and_later_leaves_the_server(server: Server) -> None:
    run_id = server.deliver("job-a", large=LARGE, small=SMALL)
    assert server.shipments.turn(NOW)
    assert server.objects() == {f"of/acme/{run_id}/deep/large of it.bin": len(LARGE), f"of/acme/{run_id}/small.bin": len(SMALL)}
    assert (server.place(run_id), server.here()) == ((server.url, True), {run_id})
    store = ResultStore(server.url)
    with store.open(run_id, "deep/large of it.bin") as stream:
        assert stream.read() == LARGE
    assert server.shipments.turn(NOW + LEAVE_S - 1)
    assert server.here() == {run_id}
    assert not server.shipments.turn(NOW + LEAVE_S)
    assert server.here() == set()
    server.start()
    assert not server.shipments.turn(NOW + 2 * LEAVE_S)
    assert len(server.objects()) == 2


def test_what_has_no_store_or_no_files_stays_as_it_is(server: Server) -> None:
    server.store.write(lambda tx: access.add_tenant(tx.conn, "globex", NOW))
    theirs, bare = server.deliver("job-a", large=SMALL, tenant="globex"), server.deliver("job-b")
    assert not server.shipments.turn(NOW)
    assert (server.place(theirs), server.place(bare), server.objects(), server.here()) == (None, None, {}, {theirs})


def test_a_store_that_cannot_be_used_keeps_results_with_the_server(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "cpn")
    run_id, other = server.deliver("job-a", small=SMALL), server.deliver("job-b", small=SMALL)
    with server.s3.refusing():
        assert server.shipments.turn(NOW)
        standing = server.shipments.standing("acme")
        assert (standing.waiting, server.here()) == (2, {run_id, other})
        assert standing.message.startswith(f"the S3 credentials here may not write to {server.url}; give this process others")
    # Not before it is time; then all goes well.
    assert server.shipments.turn(NOW + RETRY_S - 1)
    assert (server.objects(), server.shipments.standing("acme")) == ({}, standing)
    server.shipments.turn(NOW + RETRY_S)
    assert server.shipments.standing("acme") == Standing()
    assert len(server.objects()) == 2
    assert [secret for secret in HIDDEN if secret in caplog.text] == []


def test_a_transfer_that_breaks_off_leaves_nothing_and_is_made_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from workloads.catalogue.s3 import filesystem

    run_id, real = server.deliver("job-a", large=LARGE, small=SMALL), filesystem()
    call, parts = type(real)._call_s3, []

    async def breaks(self: Any, method: str, *arguments: Any, **named: Any) -> Any:
        if method == "upload_part":
            parts.append(named["PartNumber"])
            if len(parts) == 2:
                raise ConnectionResetError("the line broke")
        return await call(self, method, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(type(real), "_call_s3", breaks)
        assert server.shipments.turn(NOW)
    assert (server.objects(), server.s3.uploads(server.bucket), server.place(run_id)) == ({}, [], (server.url, False))
    assert "ConnectionResetError" in server.shipments.standing("acme").message
    server.shipments.turn(NOW + RETRY_S)
    assert (server.place(run_id), len(server.objects())) == ((server.url, True), 2)


def test_a_server_killed_before_the_books_say_so_sends_it_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = server.deliver("job-a", large=SMALL)

    def killed(*_arguments: Any) -> bool:
        raise StoreUnavailableError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(placed_results, "finish", killed)
        with pytest.raises(StoreUnavailableError):
            server.shipments.turn(NOW)
    # And in the middle of another file.
    key = f"of/acme/{run_id}/half"
    server.s3.client.create_multipart_upload(Bucket=server.bucket, Key=key)
    server.s3.put(server.bucket, f"of/acme/{run_id}/older", b"of an earlier try")
    assert server.place(run_id) == (server.url, False)
    server.start()
    server.shipments.turn(NOW + 1)
    assert server.objects() == {f"of/acme/{run_id}/deep/large of it.bin": len(SMALL)}
    assert server.place(run_id) == (server.url, True)


def test_a_result_that_is_removed_leaves_its_store_however_far_it_was(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, late, beside = server.deliver("job-a", small=SMALL), "job-b-1", "job-a-10"
    server.s3.put(server.bucket, f"of/acme/{beside}/rows", b"another run's")
    server.shipments.turn(NOW)

    def remove(run_id: str) -> None:
        server.store.write(lambda tx: removals.add_removals(tx.conn, "result", [run_id], NOW))
        server.files.drop_results(run_id)
        server.shipments.look()

    remove(stored)
    with server.s3.refusing():
        assert server.shipments.turn(NOW + 1), "it is tried again"
    assert server.place(stored) == (server.url, True)
    finish = placed_results.finish

    def removed_meanwhile(conn: Any, run_id: str, at: float) -> bool:
        removals.add_removals(conn, "result", [run_id], at)
        return finish(conn, run_id, at)

    monkeypatch.setattr(placed_results, "finish", removed_meanwhile)
    server.deliver("job-b", small=SMALL)
    server.shipments.look()
    server.shipments.turn(NOW + 2)
    assert (server.place(stored), server.place(late)) == (None, None)
    assert server.objects() == {f"of/acme/{beside}/rows": 13}


def test_a_new_store_gets_what_the_server_has_and_what_was_begun_elsewhere_goes(server: Server) -> None:
    run_id = server.deliver("job-a", large=SMALL)
    server.store.write(lambda tx: access.update_tenant(tx.conn, "acme", result_store="s3://no-such-bucket/x"))
    assert server.shipments.turn(NOW)
    assert "there is no bucket 'no-such-bucket'" in server.shipments.standing("acme").message
    server.store.write(lambda tx: access.update_tenant(tx.conn, "acme", result_store=server.url))
    server.shipments.look()
    server.shipments.turn(NOW + 1)
    assert (server.place(run_id), server.shipments.standing("acme")) == ((server.url, True), Standing())
    waiting = server.deliver("job-b", large=SMALL)
    with server.s3.refusing():
        server.shipments.turn(NOW + 2)
    server.store.write(lambda tx: access.update_tenant(tx.conn, "acme", result_store=None))
    server.shipments.look()
    server.shipments.turn(NOW + 3)
    assert (server.place(waiting), server.here()) == (None, {run_id, waiting})


def test_a_file_that_the_server_has_lost_is_said_without_its_place(server: Server) -> None:
    run_id = server.deliver("job-a", large=SMALL)
    server.files.result_path(run_id, "deep/large of it.bin").unlink()
    assert server.shipments.turn(NOW)
    assert server.shipments.standing("acme").message == "the server cannot read it (No such file or directory)"


def test_a_store_says_what_is_wrong_with_it(server: Server) -> None:
    store = ResultStore(server.url + "/")
    store.probe()
    assert server.objects() == {}
    with pytest.raises(MissingResultError, match="there is no object at"):
        store.open("job-a-1", "rows")
    with server.s3.refusing(), pytest.raises(ResultStoreError, match="may not write to"):
        store.probe()
    whole = ResultStore(f"s3://{server.bucket}")
    whole.put_bytes("job-a-1", "rows", SMALL)
    assert server.objects() == {"job-a-1/rows": 4}
    whole.remove("job-a-1")
    whole.remove("job-a-1")
    assert server.objects() == {}
