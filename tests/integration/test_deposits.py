"""What runs put into a store themselves: whole, proved, out of reach of whoever put it there, and nothing of it where it failed."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.backends.memory import Behaviour
from cluster.deposits import Grant
from cluster.protocol import Observation, ResultFile, RunFinished, SyncRequest
from cluster.runs.depositor import DepositError, Depositor, StoppedError
from controlplane import deposit_store
from controlplane.deposit_store import MOST_S, DepositStore, NotAsToldError
from scheduler.store import fleet, jobs
from tests.form_server import DENIED, serving_forms
from tests.network import PATIENT, Network, job, until
from tests.s3 import HIDDEN, S3Server

MIB = 1024**2
LARGE = bytes(range(256)) * (4096 * 11)  # Two whole pieces and a bit.
RUN, EPOCH = "job-a-1", 3
FILES = {"deep/large of it.bin": LARGE, "empty": b"", "small.txt": b"rows\n"}
_buckets = iter(f"deposits-{number}" for number in range(100))


def put(grant: Grant, folder: Path, files: dict[str, bytes], **more: Any) -> tuple[str, list[ResultFile]]:
    """Put files there as a run does: the token, and what it tells."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    depositor = Depositor(grant, more.pop("stopping", threading.Event()), **more)
    told = depositor.put(folder, [{"name": name, "size_bytes": len(data)} for name, data in files.items()])
    return depositor.token, [ResultFile(**file) for file in told]


def plain_grant(url: str, *, until: float | None = None) -> Grant:
    return Grant(url=url, fields={"policy": "signed"}, prefix="p/", until=until or time.time() + 60, piece_bytes=5 * MIB)


@pytest.fixture
def store(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> DepositStore:
    monkeypatch.setattr(deposit_store, "PIECE_BYTES", 5 * MIB)
    return DepositStore(f"s3://{s3.bucket(next(_buckets))}/of/acme")


def objects(s3: S3Server, store: DepositStore) -> dict[str, int]:
    return s3.objects(store.url.removeprefix("s3://").partition("/")[0])


def test_files_come_in_pieces_and_lie_whole_where_no_run_can_write(store: DepositStore, s3: S3Server, tmp_path: Path) -> None:
    grant = store.grant(RUN, EPOCH, 60.0, time.time())
    token, told = put(grant, tmp_path, FILES)
    assert [(file.name, file.size_bytes, file.sha256) for file in told] == [
        (name, len(data), hashlib.sha256(data).hexdigest()) for name, data in FILES.items()
    ]
    assert sorted(objects(s3, store)) == [
        f"of/acme/{RUN}/.incoming/{EPOCH}/{token}/{piece}" for piece in ("0-0", "0-1", "0-2", "1-0", "2-0")
    ]
    for _ in range(2):
        store.gather(RUN, EPOCH, token, told)
        store.prove(RUN, told, threading.Event())
    store.drop_pieces(RUN)
    assert objects(s3, store) == {f"of/acme/{RUN}/{name}": len(data) for name, data in FILES.items()}
    with store.open(RUN, "deep/large of it.bin") as stream:
        assert stream.read() == LARGE
    # An older pod, or a second one of this run, still has leave, and can replace nothing of it.
    put(grant, tmp_path, {"deep/large of it.bin": b"other"})
    store.prove(RUN, told, threading.Event())


def test_a_grant_opens_one_runs_place_for_a_time_and_for_pieces_of_a_size(store: DepositStore) -> None:
    now = time.time()
    grant = store.grant(RUN, EPOCH, 10 * MOST_S, now)
    assert grant.until == now + MOST_S
    policy = json.loads(base64.b64decode(grant.fields["policy"]))
    assert ["starts-with", "$key", f"of/acme/{RUN}/.incoming/{EPOCH}/"] in policy["conditions"]
    assert ["content-length-range", 0, 5 * MIB] in policy["conditions"]
    assert grant.fields["x-amz-algorithm"] == "AWS4-HMAC-SHA256"
    assert "AWS_SECRET" not in str(grant)
    assert HIDDEN[1] not in grant.model_dump_json()


def test_what_is_not_there_as_told_does_not_count(store: DepositStore, tmp_path: Path) -> None:
    token, told = put(store.grant(RUN, EPOCH, 60.0, time.time()), tmp_path, FILES)
    with pytest.raises(NotAsToldError, match=r"a piece of deep/large of it\.bin is not in the store"):
        store.gather(RUN, EPOCH + 1, token, told)
    store.gather(RUN, EPOCH, token, told)
    with pytest.raises(NotAsToldError, match=r"small\.txt has 5 bytes or a checksum that its run has not told"):
        store.prove(RUN, [*told[:2], told[2].model_copy(update={"sha256": "0" * 64})], threading.Event())


def test_a_store_is_tried_as_runs_use_it(store: DepositStore, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store.try_grant(time.time())
    assert objects(s3, store) == {}
    with serving_forms(403) as forms:
        monkeypatch.setattr(DepositStore, "grant", lambda *_: plain_grant(forms.url))
        with pytest.raises(deposit_store.ResultStoreError, match=r"refuses the result \(403 AccessDenied\).*takes signed forms"):
            store.try_grant(time.time())


def test_a_piece_that_breaks_off_is_sent_again_from_the_file(tmp_path: Path) -> None:
    with serving_forms(201, 0, 503, 201, 500, 201) as forms:
        _, told = put(plain_grant(forms.url), tmp_path, {"large": LARGE}, waits_s=(0.01, 0.01, 0.01))
    assert told[0].sha256 == hashlib.sha256(LARGE).hexdigest()
    taken = [body.split(b"\r\n\r\n", 3)[-1].rpartition(b"\r\n--")[0] for body in (forms.bodies[0], forms.bodies[2], forms.bodies[4])]
    assert b"".join(taken) == LARGE


@pytest.mark.parametrize(
    ("answers", "words", "posts"),
    [
        ((403,), r"refuses the result \(403 AccessDenied\)", 1),
        ((503, 503, 503), r"did not take the result, asked 3 times: 503 AccessDenied", 3),
        ((0, 0, 0), "did not take the result, asked 3 times: RemoteProtocolError", 0),
        ((307,), r"refuses the result \(307\)", 1),
    ],
)
def test_a_store_that_refuses_or_stays_away_is_said_without_its_words(
    tmp_path: Path, answers: Sequence[int], words: str, posts: int
) -> None:
    with serving_forms(*answers) as forms, pytest.raises(DepositError, match=words) as raised:
        put(plain_grant(forms.url), tmp_path, {"small": b"x"}, waits_s=(0.01, 0.01))
    assert len(forms.bodies) == posts
    assert "eyJzZWNyZXQi" in DENIED.decode()
    assert "eyJzZWNyZXQi" not in str(raised.value)


def test_leave_that_is_over_and_a_wish_to_end_are_heeded(tmp_path: Path) -> None:
    with serving_forms() as forms:
        with pytest.raises(DepositError, match=r"the time in which .* is over"):
            put(plain_grant(forms.url, until=time.time() - 1), tmp_path, {"small": b"x"})
        stopping = threading.Event()
        stopping.set()
        with pytest.raises(StoppedError):
            put(plain_grant(forms.url), tmp_path, {"small": b"x"}, stopping=stopping)
    assert forms.bodies == []


def test_a_file_that_became_shorter_or_is_a_link_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "short")
    with serving_forms() as forms:
        depositor = Depositor(plain_grant(forms.url), threading.Event())
        with pytest.raises(OSError, match="short became shorter"):
            depositor.put(tmp_path, [{"name": "short", "size_bytes": 10}])
        with pytest.raises(OSError, match="link"):
            depositor.put(tmp_path, [{"name": "link", "size_bytes": 1}])


class Plane:
    """A served control plane with a run that goes on, whose tenant has a store, and the agent of its cluster."""

    def __init__(self, network: Network, s3: S3Server, folder: Path) -> None:
        self.network, self.s3, self.folder = network, s3, folder
        self.bucket = s3.bucket(next(_buckets))
        self.url = f"s3://{self.bucket}/cpn"
        network.ok(network.operator.post("/tenants", json={"name": "acme", "result_store": self.url}))
        network.ok(network.operator.post("/tenants", json={"name": "bare"}))
        self.agent = network.client("agent", cluster="sh")

    def running(self, tenant: str = "acme") -> Any:
        """The record of a run that goes on."""
        submitted = self.network.submit(job(tenant=tenant, retry={"attempts": 1}))
        job_id = self.network.wait(submitted["id"], "running")["id"]
        with self.network.plane.store.read() as conn:
            return jobs.get_run(conn, jobs.get_job(conn, job_id).run_id or "")

    def ask(self, run: Any, epoch: int | None = None) -> httpx.Response:
        return self.agent.post(f"/agents/sh/runs/{run.id}/deposit", params={"epoch": run.epoch if epoch is None else epoch})

    def take(self, run: Any, token: str, files: list[ResultFile], epoch: int | None = None) -> httpx.Response:
        told = {"token": token, "files": [file.model_dump() for file in files]}
        query = {"epoch": run.epoch if epoch is None else epoch}
        return self.agent.post(f"/agents/sh/runs/{run.id}/deposit:take", params=query, json=told)

    def end(self, run: Any, outcome: str, token: str = "", files: Sequence[ResultFile] = ()) -> dict[str, Any]:
        """Tell the end as its agent does: the job then."""
        with self.network.plane.store.read() as conn:
            agent_id = fleet.get_cluster(conn, "sh").agent_id
        at = self.network.plane.clock.now()
        event = RunFinished(run_id=run.id, outcome=outcome, at=at, deposit=token, files=tuple(files))  # type: ignore[arg-type]
        told = SyncRequest(agent_id=str(agent_id), reachable=True, observations=(Observation(epoch=run.epoch, event=event),))
        headers = {"Content-Type": "application/json"}
        self.network.ok(self.agent.post("/agents/sh/sync", content=told.model_dump_json(), headers=headers))
        ended: dict[str, Any] = self.network.wait(run.job_id)
        return ended

    def is_empty(self) -> bool:
        return self.s3.objects(self.bucket) == {}


@pytest.fixture
def plane(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    monkeypatch.setattr(deposit_store, "PIECE_BYTES", 5 * MIB)
    with Network(tmp_path / "data", store_retry_s=0.05, max_result_bytes=20 * MIB, **PATIENT) as network:
        network.add_cluster("sh", script=lambda _run: Behaviour(duration_s=600))
        made = Plane(network, s3, tmp_path / "output")
        yield made
        assert s3.uploads(made.bucket) == []
        made.agent.close()


def test_a_result_is_taken_from_the_store_and_delivered_from_there(plane: Plane) -> None:
    run = plane.running()
    grant = Grant.model_validate(plane.network.ok(plane.ask(run)))
    token, told = put(grant, plane.folder, FILES)
    for _ in range(2):
        assert plane.take(run, token, told).status_code == 204
    # An agent that comes back asks again before it finds that the run is under way.
    assert plane.ask(run).json() is None
    assert plane.end(run, "succeeded", token, told)["state"] == "succeeded"
    assert plane.s3.objects(plane.bucket) == {f"cpn/{run.id}/{name}": len(data) for name, data in FILES.items()}
    result = plane.network.ok(plane.network.operator.get(f"/jobs/{run.job_id}/result"))
    assert result["place"] == {"state": "stored", "url": plane.url, "message": ""}
    for name, data in FILES.items():
        answer = plane.network.operator.get(f"/jobs/{run.job_id}/result/files/{name}")
        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, data, str(len(data)))
    assert plane.network.plane.files.result_sizes() == {}
    plane.network.ok(plane.network.operator.patch("/tenants/acme", json={"keep_results_days": 1e-7}))
    plane.network.plane.retention.sweep(plane.network.plane.clock.now())
    plane.network.plane.shipments.look()
    until(plane.is_empty, "what is not kept any more leaves its store")


def test_a_result_with_a_wrong_checksum_fails_its_run_and_leaves_nothing(plane: Plane) -> None:
    run = plane.running()
    token, told = put(Grant.model_validate(plane.network.ok(plane.ask(run))), plane.folder, FILES)
    wrong = [told[0].model_copy(update={"sha256": "f" * 64}), *told[1:]]
    refused = plane.take(run, token, wrong)
    assert (refused.status_code, "a checksum that its run has not told" in refused.text) == (422, True)
    # A success that is told all the same is none.
    ended = plane.end(run, "succeeded", token, wrong)
    assert (ended["state"], "was not taken in as announced" in ended["message"]) == ("failed", True), ended
    until(plane.is_empty, "nothing of it stays")


def test_only_a_current_run_with_a_store_has_a_place_there(plane: Plane) -> None:
    run, bare = plane.running(), plane.running("bare")
    assert plane.ask(bare).json() is None
    assert (plane.ask(run, epoch=run.epoch + 1).status_code, plane.take(run, "0" * 16, [], epoch=run.epoch + 1).status_code) == (409, 409)
    never = plane.take(bare, "0" * 16, [])
    assert (never.status_code, "was granted no place" in never.text) == (424, True)
    grant = Grant.model_validate(plane.network.ok(plane.ask(run)))
    token, _ = put(grant, plane.folder, {"half": LARGE})
    too_large = ResultFile(name="huge", size_bytes=21 * MIB, sha256="0" * 64)
    assert plane.take(run, token, [too_large]).status_code == 413
    odd = ResultFile(name="../out", size_bytes=1, sha256="0" * 64)
    assert plane.take(run, token, [odd]).status_code == 422
    assert plane.take(run, "no token", []).status_code == 422
    assert plane.end(run, "failed")["state"] == "failed"
    until(plane.is_empty, "what a run has begun to put there goes with it")


def test_a_result_of_a_run_that_has_a_place_may_come_by_its_agent_all_the_same(plane: Plane) -> None:
    run = plane.running()
    put(Grant.model_validate(plane.network.ok(plane.ask(run))), plane.folder, {"begun": b"x"})
    headers = {"Content-Type": "application/octet-stream"}
    plane.network.ok(plane.agent.put(f"/agents/sh/runs/{run.id}/files/rows", params={"epoch": run.epoch}, content=b"rows", headers=headers))
    file = ResultFile(name="rows", size_bytes=4, sha256=hashlib.sha256(b"rows").hexdigest())
    assert plane.end(run, "succeeded", "", [file])["state"] == "succeeded"
    until(lambda: plane.s3.objects(plane.bucket) == {f"cpn/{run.id}/rows": 4}, "it is moved, and what was begun is gone")


def test_a_store_that_cannot_be_used_for_a_moment_is_asked_again(plane: Plane) -> None:
    run = plane.running()
    token, told = put(Grant.model_validate(plane.network.ok(plane.ask(run))), plane.folder, {"small": b"x"})
    with plane.s3.refusing():
        away = plane.take(run, token, told)
        assert (away.status_code, "may not write to" in away.text) == (424, True)
    assert plane.take(run, token, told).status_code == 204
    assert plane.end(run, "succeeded", token, told)["state"] == "succeeded"
