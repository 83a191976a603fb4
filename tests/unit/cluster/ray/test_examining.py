"""Whether a Ray cluster can become a member: each thing that can be wrong is told by itself, with what to do."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.ray.examining import examine
from cluster.backends.ray.gcs import HeadFacts, has_nodes, head_facts
from cluster.backends.ray.probing import ClusterFacts
from cluster.backends.ray.versions import Versions, own_versions
from cluster.checks import Check, Examination, failures
from cluster.errors import AuthenticationError, ClusterError, UnreachableError
from cluster.model import Endpoint
from tests.fake_head import FACTS, FakeHead, cluster_facts, fake_dashboard, fake_head, node_facts

OWN = Versions("2.60.0", "3.11.7", "0.1.0")
Look = Callable[..., Examination]


@pytest.fixture(scope="module")
def head() -> Iterator[FakeHead]:
    with fake_head(FakeHead()) as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("secret\n")
    return path


@pytest.fixture
def look(head: FakeHead, token_file: Path) -> Look:
    """Examine the head, with changes of the endpoint; what the nodes say is given."""

    def run(nodes: ClusterFacts | ClusterError | None = None, own: Versions = OWN, **changes: str) -> Examination:
        def probe(_address: str, _token_file: Path | None) -> ClusterFacts:
            if isinstance(nodes, ClusterError):
                raise nodes
            return nodes or cluster_facts(node_facts())

        fields = {"address": head.address, "token_file": str(token_file), **changes}
        return examine(Endpoint.model_validate(fields), own, probe_nodes=probe)

    return run


def only_failure(found: Examination) -> Check:
    (wrong,) = failures(found.checks)
    assert wrong.remedy
    return wrong


def state(found: Examination, name: str) -> str:
    return next(check.state for check in found.checks if check.name == name)


def test_a_good_cluster_passes_every_check(look: Look) -> None:
    with fake_dashboard() as url:
        found = look(dashboard=url)
    assert {check.state for check in found.checks} == {"passed"}
    assert [check.name for check in found.checks] == [
        "address", "head", "token", "ray-version", "python-version", "dashboard",
        "driver", "nodes", "node-package", "node-disk", "node-clock",
    ]  # fmt: skip
    assert found.cluster_id == FACTS.cluster_id


def test_a_dashboard_is_not_looked_for_where_none_is_named(look: Look) -> None:
    assert "dashboard" not in [check.name for check in look().checks]


@pytest.mark.parametrize("address", ["nonsense", "host", ":6379", "host:", "host:port", "host:0", "host:70000"])
def test_an_address_that_is_none(look: Look, address: str) -> None:
    wrong = only_failure(look(address=address))
    assert (wrong.name, wrong.field) == ("address", "address")
    assert "is not HOST:PORT" in wrong.found


def test_an_address_where_nothing_listens(look: Look) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = look(address=f"127.0.0.1:{taken.getsockname()[1]}")
    wrong = only_failure(found)
    assert (wrong.name, wrong.field) == ("address", "address")
    assert "nothing answers at" in wrong.found
    assert state(found, "head") == state(found, "driver") == state(found, "node-clock") == "skipped"


def test_an_address_where_something_else_listens(look: Look) -> None:
    with fake_dashboard() as url:
        wrong = only_failure(look(address=url.removeprefix("http://")))
    assert (wrong.name, wrong.field) == ("head", "address")
    assert "Ray head" in wrong.found


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), ("\n", "is empty"), ("one\ntwo", "more than one line"), ("ü", "plain")]
)
def test_a_token_file_that_holds_none(look: Look, token_file: Path, content: str | None, words: str) -> None:
    if content is None:
        token_file.unlink()
    else:
        token_file.write_text(content)
    wrong = only_failure(look())
    assert (wrong.name, wrong.field) == ("token", "token_file")
    assert words in wrong.found


def test_a_wrong_token_and_none(look: Look, token_file: Path) -> None:
    token_file.write_text("another")
    for found, words in ((look(), "holds this cluster's token"), (look(token_file=""), "wants a token")):
        wrong = only_failure(found)
        assert (wrong.name, wrong.field) == ("token", "token_file")
        assert "refuses the token" in wrong.found
        assert words in wrong.remedy
        assert state(found, "head") == "passed"


def test_a_cluster_without_tokens_is_told_to_be_open() -> None:
    with fake_head(FakeHead(token="")) as open_head:
        found = examine(Endpoint(address=open_head.address), OWN, probe_nodes=lambda *_: cluster_facts(node_facts()))
    assert not failures(found.checks)
    assert "anyone who reaches it may use it" in next(check.found for check in found.checks if check.name == "token")


@pytest.mark.parametrize(
    ("own", "name"),
    [(replace(OWN, ray="2.61.0"), "ray-version"), (replace(OWN, python="3.11.9"), "python-version")],
)
def test_another_version(look: Look, own: Versions, name: str) -> None:
    found = look(own=own)
    wrong = only_failure(found)
    assert wrong.name == name
    assert state(found, "driver") == "skipped"


def test_a_head_that_does_not_say_its_versions(token_file: Path) -> None:
    with fake_head(FakeHead(facts=replace(FACTS, ray_version="", python_version=""))) as silent:
        assert head_facts(silent.address, "secret", 5.0) == HeadFacts(FACTS.cluster_id, "", "", FACTS.session)
        found = examine(Endpoint(address=silent.address, token_file=str(token_file)), OWN, probe_nodes=lambda *_: cluster_facts())
    assert [check.name for check in failures(found.checks)] == ["ray-version", "python-version"]
    assert "(unknown)" in failures(found.checks)[0].found


WRONG_DASHBOARDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "strict": ({"token": "another"}, "token_file", "refuses the token"),
    "foreign": ({"answer": {"session_name": "session_2"}}, "dashboard", "belongs to another Ray cluster"),
    "page": ({"status": 404}, "dashboard", "answers 404"),
    "list": ({"answer": ["no object"]}, "dashboard", "no JSON object"),
}


@pytest.mark.parametrize("which", WRONG_DASHBOARDS)
def test_a_dashboard_that_does_not_fit(look: Look, which: str) -> None:
    options, field, words = WRONG_DASHBOARDS[which]
    with fake_dashboard(**options) as url:
        wrong = only_failure(look(dashboard=url))
    assert (wrong.name, wrong.field) == ("dashboard", field)
    assert words in wrong.found


def test_a_dashboard_that_is_not_there(look: Look) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        wrong = only_failure(look(dashboard=f"http://127.0.0.1:{taken.getsockname()[1]}"))
    assert "no Ray dashboard answers" in wrong.found
    assert "is no URL" in only_failure(look(dashboard="10.0.0.5:8265")).found


def test_a_machine_that_is_no_node_of_the_cluster(look: Look) -> None:
    for error in (UnreachableError("not ready within 40 s"), ClusterError("no raylet here")):
        found = look(error)
        wrong = only_failure(found)
        assert wrong.name == "driver"
        assert str(error) in wrong.found
        assert "cpn agent" in wrong.remedy
        assert state(found, "node-package") == "skipped"


def test_nodes_that_are_not_fit(look: Look) -> None:
    good = node_facts("good")
    for bad, name, words in (
        (node_facts("bad", package=""), "node-package", "bad (none)"), (node_facts("bad", package="0.0.9"), "node-package", "bad (0.0.9)"),
        (node_facts("bad", writable="Permission denied", free_bytes=0), "node-disk", "bad: /work cannot be written (Permission denied)"),
        (node_facts("bad", free_bytes=2**29), "node-disk", "bad: 0.5 GiB free at /work"),
        (node_facts("bad", off_s=7.0), "node-clock", "the clock of bad is 7.0 s ahead of this machine's"),
        (node_facts("bad", off_s=-7.0), "node-clock", "the clock of bad is 7.0 s behind this machine's"),
    ):  # fmt: skip
        wrong = only_failure(look(cluster_facts(good, bad)))
        assert wrong.name == name
        assert words in wrong.found


def test_a_clock_within_the_limit_passes(look: Look) -> None:
    assert not failures(look(cluster_facts(node_facts(off_s=1.0))).checks)


def test_nodes_that_are_silent(look: Look) -> None:
    wrong = only_failure(look(cluster_facts(node_facts(), silent=("n2",))))
    assert (wrong.name, wrong.found) == ("nodes", "1 of 2 nodes answer; silent: n2")
    found = look(cluster_facts(silent=("n1", "n2")))
    assert only_failure(found).name == "nodes"
    assert state(found, "node-disk") == "skipped"


def test_only_the_first_of_many_nodes_are_asked_and_it_says_so(look: Look) -> None:
    found = look(cluster_facts(node_facts(), living=1000))
    assert "1 of 1 nodes answer (1000 live" in next(check.found for check in found.checks if check.name == "nodes")
    many = [node_facts(f"n{number}", package="") for number in range(8)]
    assert "and 3 more" in only_failure(look(cluster_facts(*many))).found


def test_questions_to_a_head_raise_what_it_means(head: FakeHead) -> None:
    assert head_facts(head.address, "secret", 5.0) == FACTS
    with pytest.raises(AuthenticationError):
        head_facts(head.address, "another", 5.0)


def test_a_head_is_asked_whether_a_node_has_registered(head: FakeHead) -> None:
    assert has_nodes(head.address, "secret", 5.0)
    with fake_head(FakeHead(nodes=False)) as early:
        assert not has_nodes(early.address, "secret", 5.0)


def test_the_versions_of_this_machine_are_known() -> None:
    own = own_versions()
    assert own.ray.count(".") == own.python.count(".") == 2
    assert own.package


def states(found: Examination) -> dict[str, str]:
    return {check.name: check.state for check in found.checks}


@pytest.mark.parametrize("changes", [{"driver": "job-api"}, {"address": ""}, {"driver": "job-api", "address": ""}])
def test_by_the_job_api_only_the_dashboard_is_looked_at(look: Look, changes: dict[str, str]) -> None:
    with fake_dashboard() as url:
        found = look(nodes=ClusterError("nobody may connect"), dashboard=url, **changes)
    assert states(found) == {"dashboard": "passed", "job-api": "passed"}
    assert "Ray's Job API" in found.checks[-1].found
    assert found.cluster_id == ("" if changes.get("address") == "" else FACTS.cluster_id)


def test_another_ray_with_a_dashboard_is_no_fault_but_less(look: Look) -> None:
    with fake_dashboard() as url:
        found = look(nodes=ClusterError("nobody may connect"), dashboard=url, own=replace(OWN, ray="2.9.3"))
        assert states(found) == {"address": "passed", "head": "passed", "token": "passed", "dashboard": "passed", "job-api": "passed"}
        assert "the cluster has Ray 2.60.0, the agent 2.9.3" in found.checks[-1].found
        strict = look(dashboard=url, driver="actors", own=replace(OWN, ray="2.9.3"))
    assert only_failure(strict).name == "ray-version"


def test_a_dashboard_that_cannot_be_used_is_a_fault_where_it_is_needed(look: Look, tmp_path: Path) -> None:
    with fake_dashboard(answer={"session_name": "another"}) as url:
        found = look(dashboard=url, own=replace(OWN, ray="2.9.3"))
        assert (only_failure(found).name, states(found)["job-api"]) == ("dashboard", "skipped")
        assert "leave it out" not in only_failure(found).remedy, "jobs need it there"
    with fake_dashboard() as url:
        broken = look(dashboard=url, driver="job-api", token_file=str(tmp_path / "none"))
    assert only_failure(broken).field == "token_file"
    assert states(broken) == {"token": "failed", "dashboard": "skipped", "job-api": "skipped"}


def test_the_job_api_needs_a_dashboard() -> None:
    with pytest.raises(ValueError, match="the Job API is the dashboard's"):
        Endpoint(address="h:1", driver="job-api")
