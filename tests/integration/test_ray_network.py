"""The whole network on real Rays, with faults: a server, a push member, a pull member, their agents; all of them processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.model import ClusterSpec, Endpoint
from controlplane.api.schemas import ClusterPatch, TenantRequest, TokenRequest, VersionRequest
from controlplane.errors import RequestFailedError, RequestInvalidError
from controlplane.network import LocalNetwork, Member
from tests.network import job, until
from tests.ray import GIB, ROOT, WAIT_S, SmallRay, processes_of
from tests.ray_place import Place
from tests.ray_runs import SEES_ITS_GANG
from workloads.catalogue.pricing import Prices
from workloads.catalogue.product import Product, Replica
from workloads.resources import Money
from workloads.spec import JobSpec

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

PUSHED, PULLED = "shanghai", "guizhou"
# An agent is heard at least every five seconds and counts its nodes as often, so these leave a busy machine some time.
TIMINGS = {"CPN_SUSPECT_AFTER_S": "10", "CPN_LEASE_S": "22", "CPN_LOST_AFTER_S": "25", "CPN_RESIZE_SETTLE_S": "0.5"}
TALK = "echo ready; while [ ! -e go ]; do sleep 0.1; done; echo on; echo result > $CPN_OUTPUT_DIR/file"


def member(name: str, jurisdiction: str, cpu_hour: str) -> Member:
    price = Money.parse("0.01 CNY")
    prices = Prices(cpu_hour=Money.parse(cpu_hour), memory_gib_hour=price, transfer_gib=price)
    return Member(ClusterSpec(name=name, backend="ray", jurisdiction=jurisdiction, prices=prices), cpus=8, memory_bytes=16 * GIB)


@pytest.fixture(scope="module")
def place(ray_head: SmallRay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Both members healthy, the pushed one cheaper and with a Ray of its own. At the end nothing of the network may be left."""
    folder, said = tmp_path_factory.mktemp("network"), list[str]()
    pushed, pulled = member(PUSHED, "CN-SH", "0.10 CNY"), member(PULLED, "CN-GZ", "0.90 CNY")
    own = SmallRay(PUSHED, folder / "ray")
    with LocalNetwork(folder, 0, [pushed], say=said.append, environ={**os.environ, **TIMINGS}) as network:
        network.rays = {PUSHED: own}
        network.start()
        network.rays = {PUSHED: own, PULLED: ray_head}
        with network.operator() as client:
            client.create_tenant(TenantRequest(name="acme"))
            client.register_cluster(network.pushed(pushed))
            network.attach(pulled)
            network.wait_healthy()
            yield Place(network, client, {PUSHED: own, PULLED: ray_head})
        network.rays = {PUSHED: own}
    assert own.processes() == {}
    assert processes_of(str(folder)) == {}


def test_an_elastic_gang_runs_with_the_workers_that_it_was_granted(place: Place) -> None:
    found = place.submit(
        kind="command", command=["sh", "-c", "echo worker $RANK of $WORLD_SIZE"], placement={"clusters": [PUSHED]},
        resources={"cpu": 3, "memory": "64MiB", "workers": {"min": 1, "max": 9}},
    )  # fmt: skip
    done = place.wait(found)
    assert (done.state, len(done.nodes), done.runs[0].workers) == ("succeeded", 2, 2), "two times 3 of its 8 cores"
    told = b"".join(place.client.logs(found.id)).decode()
    assert sorted(line[line.index("worker") :] for line in told.splitlines()) == ["worker 0 of 2", "worker 1 of 2"]
    assert {line.detail for line in place.client.receipt(found.id).lines if line.item == "cpu"} == {"3 cores, 2 workers"}


FOLLOW = f"""
trap 'echo leaving $RANK; exit 3' TERM
echo began $RANK of $WORLD_SIZE
{SEES_ITS_GANG}"""


def test_a_running_gang_grows_when_another_job_ends_and_shrinks_for_one_that_waits(place: Place) -> None:
    here: dict[str, Any] = {"kind": "command", "placement": {"clusters": [PUSHED]}}
    other = place.submit(command=["sh", "-c", TALK], resources={"cpu": 4, "memory": "64MiB"}, **here)
    place.wait(other, "running")
    gang = place.submit(
        command=["sh", "-c", FOLLOW], max_runtime="10m", resources={"cpu": 2, "memory": "64MiB", "workers": {"min": 1, "max": 4}}, **here
    )
    assert len(place.wait(gang, "running").nodes) == 2

    def has(workers: int) -> bool:
        run = place.client.job(gang.id).runs[-1]
        return (run.state, run.workers, run.resizing_to) == ("running", workers, None)

    def seen() -> list[tuple[int, int]]:
        """What a worker was told of its gang so far, read before it changes again: a worker looks now and then."""
        said = b"".join(place.client.logs(gang.id)).decode()
        whole = said[: said.rfind("\n") + 1].splitlines()
        told = [json.loads(line.partition("sees ")[2]) for line in whole if line.startswith("sees ")]
        return [(document["generation"], document["world_size"]) for document in told]

    until(lambda: (0, 2) in seen(), "it knows who it began with", 60)
    place.let_go(other)
    until(lambda: has(4) and (1, 4) in seen(), "it has the room of the job that ended, and knows it", 60)
    # Whoever waits gets the room of one worker.
    waits = place.submit(command=["sh", "-c", TALK], resources={"cpu": 2, "memory": "64MiB"}, **here)
    place.wait(waits, "running")
    until(lambda: has(3) and (2, 3) in seen(), "it knows that one has left", 60)
    place.let_go(waits)
    until(lambda: has(4) and (3, 4) in seen(), "it has grown again, and knows it", 60)
    told = [event.message for event in place.client.events(gang.id).items if event.cause == "resized"]
    assert [words.partition(":")[0] for words in told[:3]] == [
        "grown from 2 to 4 workers", "shrunk from 4 to 3 workers", "grown from 3 to 4 workers",
    ]  # fmt: skip
    place.client.cancel(gang.id)
    done = place.wait(gang)
    assert done.attempts == 1, done.runs
    said = b"".join(place.client.logs(gang.id)).decode()
    assert said.count("began") == 5
    assert "[rank 3] began 3 of 4" in said
    assert "[rank 3] leaving 3" in said
    assert seen()[:4] == [(0, 2), (1, 4), (2, 3), (3, 4)]
    assert {line.detail for line in place.client.receipt(gang.id).lines if line.item == "cpu"} == {"2 cores, 4 workers"}


def test_the_runs_of_killed_agents_are_adopted(place: Place) -> None:
    jobs = {
        name: place.submit(kind="command", command=["sh", "-c", TALK], placement={"jurisdictions": [jurisdiction]})
        for name, jurisdiction in ((PUSHED, "CN-SH"), (PULLED, "CN-GZ"))
    }
    for found in jobs.values():
        place.wait(found, "running")
    killed = {name: place.agent_processes(name) for name in jobs}
    for (process,) in killed.values():
        os.kill(process, signal.SIGKILL)
    for found in jobs.values():
        place.let_go(found)
    # The server starts its pushed agent again by itself; a pulled one is started again by whatever watches it there.
    place.network.agents[PULLED].stop()
    place.network.agents[PULLED].start()
    for name, found in jobs.items():
        done = place.wait(found)
        assert (done.state, done.cluster, done.attempts) == ("succeeded", name, 1)
        assert b"".join(place.client.logs(found.id)) == b"ready\non\n"
        assert [file.name for file in place.client.result(found.id).files] == ["file"]
        assert len(place.agent_processes(name) - killed[name]) == 1


def test_the_jobs_of_a_dead_cluster_go_elsewhere_or_wait_for_its_return(place: Place) -> None:
    ray, forever = place.rays[PUSHED], ["sh", "-c", "[ $CPN_ATTEMPT = 1 ] && sleep 600; echo done"]
    movable = place.submit(kind="command", command=forever)
    bound = place.submit(kind="command", command=forever, placement={"jurisdictions": ["CN-SH"]})
    for found in (movable, bound):
        assert place.wait(found, "running").cluster == PUSHED
    nodes = {node.name for node in place.client.nodes(PUSHED).items}
    ray.kill()
    until(lambda: place.client.cluster(PUSHED).health != "healthy", "the member is suspect", 30)
    assert "no Ray head answers" in place.client.cluster(PUSHED).detail
    done = place.wait(movable)
    assert (done.state, done.cluster, done.attempts) == ("succeeded", PULLED, 2)
    assert ("lost", "cluster_lost") in place.moves(movable)
    until(lambda: place.client.job(bound.id).cause == "cluster_unhealthy", "the reason why the other waits is shown")
    waiting = place.client.job(bound.id)
    assert waiting.state == "queued"
    assert "not healthy" in waiting.message
    ray.start()
    ray.wait_ready(WAIT_S)
    done = place.wait(bound)
    assert (done.state, done.cluster, done.attempts) == ("succeeded", PUSHED, 2)
    assert b"".join(place.client.logs(bound.id)) == b"done\n"
    assert place.client.cluster(PUSHED).health == "healthy"
    assert nodes.isdisjoint({node.name for node in place.client.nodes(PUSHED).items})
    assert place.wait(place.submit(placement={"jurisdictions": ["CN-SH"]})).state == "succeeded"


@pytest.fixture
def wrong_token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("not-the-token\n")
    return path


def test_a_push_member_with_a_wrong_token_or_address_is_refused_at_once(place: Place, wrong_token: Path) -> None:
    spec = member("refused", "CN-SH", "0.10 CNY").spec.model_copy(update={"mode": "push"})
    good = place.rays[PULLED]
    for endpoint, path, words in (
        (Endpoint(address=good.address, token_file=str(wrong_token)), "endpoint.token_file", "refuses the token"),
        (Endpoint(address=good.address), "endpoint.token_file", "refuses the token"),
        (Endpoint(address="127.0.0.1:9", token_file=str(good.token_file)), "endpoint.address", "nothing answers at 127.0.0.1:9"),
        (Endpoint(address=place.network.url.removeprefix("http://"), token_file=str(good.token_file)), "endpoint.address", "Ray head"),
        (
            Endpoint(address=good.address, token_file=str(good.token_file), dashboard=place.network.url),
            "endpoint.dashboard",
            "no Ray dashboard",
        ),
    ):
        with pytest.raises(RequestInvalidError) as caught:
            place.client.register_cluster(spec.model_copy(update={"endpoint": endpoint}))
        problem = caught.value.problem
        assert problem is not None
        assert [error.path for error in problem.errors] == [path]
        assert words in problem.errors[0].message
    assert {view.name for view in place.client.clusters().items} == {PUSHED, PULLED}


def test_a_cluster_is_not_registered_under_a_second_name(place: Place) -> None:
    again = member("again", "CN-SH", "0.10 CNY").spec.model_copy(update={"mode": "push", "endpoint": place.endpoint(PULLED)})
    with pytest.raises(RequestFailedError, match=f"this cluster is the member '{PULLED}' already"):
        place.client.register_cluster(again)
    assert {view.name for view in place.client.clusters().items} == {PUSHED, PULLED}


@pytest.fixture
def stray(place: Place) -> Iterator[str]:
    """A pull member without an agent, removed afterwards."""
    name = "stray"
    place.client.register_cluster(member(name, "CN-SH", "0.10 CNY").spec)
    yield name
    place.client.remove_cluster(name)


def start_agent(place: Place, name: str, address: str, token_file: Path, folder: Path) -> subprocess.Popen[str]:
    """`cpn agent` as an operator starts it."""
    token = place.client.create_token(TokenRequest(role="agent", cluster=name)).token
    return subprocess.Popen(
        [sys.executable, "-m", "controlplane.cli.main", "agent", name, "--address", address, "--ray-token-file", str(token_file),
         "--data-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "CPN_SERVER": place.network.url, "CPN_TOKEN": token},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_an_agent_with_a_wrong_token_for_its_cluster_ends_and_the_operator_sees_why(
    place: Place, stray: str, wrong_token: Path, tmp_path: Path
) -> None:
    with start_agent(place, stray, place.rays[PULLED].address, wrong_token, tmp_path / "agent") as agent:
        _, said = agent.communicate(timeout=60)
    assert agent.returncode == 4
    assert "refuses the token" in said
    assert "cpn token create" not in said, "it is not the control plane's token that is wrong"
    view = place.client.cluster(stray)
    assert (view.health, "refuses the token" in view.detail) == ("suspect", True)


def doctor(place: Place, name: str, folder: Path, **environ: str) -> tuple[int, dict[str, Any]]:
    """`cpn agent --doctor` beside the pulled member's Ray: its status, and check → state and words."""
    good = place.rays[PULLED]
    done = subprocess.run(
        [sys.executable, "-m", "controlplane.cli.main", "agent", *name.split(), "--address", good.address, "--ray-token-file",
         str(good.token_file), "--data-dir", str(folder), "--doctor", "-o", "json"],
        cwd=ROOT, env={**os.environ, "CPN_SERVER": place.network.url, **environ}, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    checks = json.loads(done.stdout)["checks"]
    return done.returncode, {check["name"]: (check["state"], check["found"]) for check in checks}


def test_the_doctor_finds_a_machine_good_and_a_second_name_not(place: Place, stray: str, tmp_path: Path) -> None:
    token = place.client.create_token(TokenRequest(role="agent", cluster=PULLED)).token
    status, found = doctor(place, PULLED, tmp_path / "agent", CPN_TOKEN=token)
    assert {name: words for name, words in found.items() if words[0] != "passed"} == {}
    assert status == 0
    assert {"driver", "node-package", "node-clock", "node-disk", "identity"} <= found.keys()
    joining = place.client.create_token(TokenRequest(role="join", cluster=stray)).token
    status, found = doctor(place, "", tmp_path / "other", CPN_JOIN_TOKEN=joining)
    assert {name: state for name, (state, _) in found.items() if state != "passed"} == {"identity": "failed"}
    assert (status, found["identity"][1]) == (1, f"this cluster is the member {PULLED} already")


def test_an_agent_that_joins_a_cluster_under_a_second_name_ends_and_says_why(place: Place, stray: str, tmp_path: Path) -> None:
    good = place.rays[PULLED]
    joining = place.client.create_token(TokenRequest(role="join", cluster=stray)).token
    done = subprocess.run(
        [sys.executable, "-m", "controlplane.cli.main", "agent", "--address", good.address, "--ray-token-file", str(good.token_file),
         "--data-dir", str(tmp_path / "agent"), "--join", joining],
        cwd=ROOT, env={**os.environ, "CPN_SERVER": place.network.url}, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"this cluster is the member '{PULLED}' already" in done.stderr
    assert place.client.cluster(PULLED).health == "healthy"


def test_an_agent_whose_cluster_is_not_there_says_so_and_tries_again(place: Place, stray: str, tmp_path: Path) -> None:
    with start_agent(place, stray, "127.0.0.1:9", place.rays[PULLED].token_file, tmp_path / "agent") as agent:
        try:
            until(lambda: "no Ray head answers at 127.0.0.1:9" in place.client.cluster(stray).detail, "the operator sees why", 60)
            assert agent.poll() is None
        finally:
            agent.terminate()
            agent.communicate(timeout=60)
    assert agent.returncode == 0


def test_a_cluster_of_this_machine_joins_works_and_leaves_nothing(place: Place, tmp_path: Path) -> None:
    name, folder = "laptop", tmp_path / "laptop"
    options = ["--cpus", "2", "--memory", "1GiB", "--labels", "tier=laptop,room=3", "--jurisdiction", "CN-SH", "--detach"]

    def local(verb: str, *more: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "controlplane.cli.main", "cluster", verb, name, "--data-dir", str(folder), *more],
            cwd=ROOT, env={**os.environ, "CPN_SERVER": place.network.url, "CPN_TOKEN": place.network.operator_token},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True, timeout=250,
        ).stdout  # fmt: skip

    try:
        assert "laptop is healthy" in local("start-local", *options)
        (node,) = place.client.nodes(name).items
        assert (node.cpu, {"tier": "laptop", "room": "3"}.items() <= node.labels.items()) == (2.0, True)
        assert place.wait(place.submit(placement={"clusters": [name]})).state == "succeeded"
    finally:
        told = local("stop-local")
    assert "stopped; laptop stays registered" in told
    until(lambda: "stopped; laptop stays registered" in (folder / "local.log").read_text(), "it has ended in order")
    until(lambda: processes_of(str(folder)) == {}, "nothing of it is left")
    assert [token.id for token in place.client.tokens().items if token.cluster == name and token.revoked_at is None] == []
    place.client.remove_cluster(name)


def cluster_doctor(place: Place, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    """`cpn cluster doctor` with the pulled member's address."""
    good = place.rays[PULLED]
    return subprocess.run(
        [sys.executable, "-m", "controlplane.cli.main", "cluster", "doctor", name, "--address", good.address, "--ray-token-file",
         str(good.token_file), "-o", "json", *more],
        cwd=ROOT, env={**os.environ, "CPN_SERVER": place.network.url, "CPN_TOKEN": place.network.operator_token},
        capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip


def test_what_runs_is_no_orphan_and_another_cluster_is_not_touched(place: Place) -> None:
    running = place.submit(kind="command", command=["sh", "-c", TALK], placement={"clusters": [PULLED]})
    place.wait(running, "running")
    done = cluster_doctor(place, PULLED, "--fix")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"cluster": PULLED, "orphans": [], "removed": [], "silent": []}
    wrong = cluster_doctor(place, PUSHED, "--fix")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "the address is another cluster's; nothing was touched" in wrong.stderr
    until(lambda: place.client.job(running.id).state == "running", "it still runs")
    place.let_go(running)
    assert place.wait(running).state == "succeeded"


def test_a_users_own_ray_program_runs_where_its_operator_allows_it(place: Place) -> None:
    text = "import os, ray; f = ray.remote(lambda n: n * n); print('the sum is', sum(ray.get([f.remote(n) for n in range(4)])))"
    asked = {"kind": "ray", "command": ["python", "main.py"], "files": {"main.py": text}, "resources": {"memory": "64MiB", "workers": 2}}
    place.client.change_cluster(PULLED, ClusterPatch.model_validate({"ray_jobs": {}}))
    verdicts = place.client.plan(JobSpec.model_validate(job(**asked))).verdicts
    assert {item.cluster: item.verdict for item in verdicts} == {PULLED: "chosen", PUSHED: "refused"}
    found = place.wait(place.submit(**asked))
    assert (found.state, found.cluster, len(found.nodes)) == ("succeeded", PULLED, 2), found.message
    assert "the sum is 14" in b"".join(place.client.logs(found.id)).decode().splitlines()
    assert {line.detail for line in place.client.receipt(found.id).lines if line.item == "cpu"} == {"1 cores, 2 workers"}
    place.client.change_cluster(PULLED, ClusterPatch.model_validate({"ray_jobs": None}))


# Says which partitions it is given, and waits at the third until it is told to go on.
STEP = """
import os, time
def fn(table):
    number = table["n"][0].as_py() // 10
    open(os.environ["CALLS"], "a").write(f"{number}\\n")
    while number >= 2 and not os.path.exists(os.environ["CALLS"] + ".go"):
        time.sleep(0.02)
    return table
"""


def test_a_function_goes_on_after_the_partitions_that_an_attempt_finished(place: Place, tmp_path: Path) -> None:
    calls, data = tmp_path / "calls", tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"n": range(40)}), data)
    place.client.create_product(Product(name="acme/numbers", owner="acme", classification="public"))
    replicas = (Replica(cluster=PULLED, uri=data.as_uri()),)
    version = place.client.publish_version("acme/numbers", VersionRequest(format="parquet", replicas=replicas))
    found = place.submit(
        kind="map", command=[], inputs={"numbers": version.ref}, files={"step.py": STEP}, map={"function": "step.py", "rows": 10},
        env={"CALLS": str(calls)}, placement={"clusters": [PULLED]}, resources={"cpu": 1, "memory": "64MiB"},
    )  # fmt: skip
    first = str(place.wait(found, "running").run_id)
    arrived = place.network.data_dir / "results" / first
    until(lambda: arrived.is_dir() and len(list(arrived.iterdir())) == 2, "the server has two partitions", WAIT_S)
    until(lambda: "2" in calls.read_text().split(), "the third is begun", WAIT_S)
    until(lambda: (view := place.client.job(found.id).progress) is not None and view.partitions_done == 2, "its progress is seen", WAIT_S)
    (driver,) = [pid for pid, line in processes_of(f"/{first}-0/").items() if "map_driver" in line]
    os.kill(driver, signal.SIGKILL)
    calls.with_suffix(".go").touch()
    done = place.wait(found)
    assert (done.state, done.attempts) == ("succeeded", 2), done.message
    counted = Counter(calls.read_text().split())
    assert (counted["0"], counted["1"]) == (1, 1), counted
    assert done.progress is not None
    assert (done.progress.partitions_done, done.progress.partitions, done.progress.rows) == (4, 4, 40)
    rows = []
    for file in place.client.result(found.id).files:
        place.client.download(found.id, file.name, tmp_path / file.name)
        rows += pq.read_table(tmp_path / file.name)["n"].to_pylist()
    assert rows == list(range(40))
    assert not arrived.exists()
