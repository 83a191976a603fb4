"""How commands end when something is wrong: one status for each kind of failure, and words on what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.market import Market, manifest, work
from tests.served import Cpn

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def operator(market: Market) -> Cpn:
    """The operator, who does nothing here that stays."""
    return market.operator


def test_a_failed_job_ends_with_1_and_its_last_words(operator: Cpn) -> None:
    said = operator("job", "submit", "-f", work(operator, "fail"), "--wait", status=1)
    assert "exit code 3; last log lines:\nboom" in said.err
    assert "see `cpn job logs job-" in said.err
    document = operator("job", "submit", "-f", work(operator, "fail"), "--wait", "-o", "json", status=1).document
    assert (document["state"], document["exit_code"]) == ("failed", 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("job", "show", "job-nothing"), "there is no job 'job-nothing'"), (("cluster", "show", "mars"), "there is no cluster 'mars'"),
        (("queue", "create", "analytics"), "analytics"), (("cluster", "remove", "mars"), "there is no cluster 'mars'"),
    ],
    ids=["no job", "no cluster", "there already", "not there"],
)  # fmt: skip
def test_an_action_that_fails_ends_with_1(operator: Cpn, arguments: tuple[str, ...], words: str) -> None:
    said = operator(*arguments, status=1)
    assert said.err.startswith("error: ")
    assert words in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("colour=red", "colour: there is no such field"), ("resources.memory=5", "resources.memory: 5 has no unit"),
        ("resources.memory=1 bushel", "resources.memory: '1 bushel' is not an amount of memory"),
        ("max_runtime=soon", "max_runtime: 'soon' is not a duration"), ("budget=5", "budget: "),
        ("queue=nowhere", "queue: there is no queue"),
        ("inputs.flights=o/p@1", "inputs.flights: there is no product 'o/p'"), ("sql=SELEC 1", "sql: "),
        ("sql=SELECT * FROM elsewhere", "elsewhere"), ("tenant=nobody", "tenant: there is no tenant"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_wrong_ends_with_2_and_the_fields_path(operator: Cpn, change: str, words: str) -> None:
    said = operator("job", "submit", "-f", manifest(operator, "wrong"), "--set", change, status=2)
    assert words in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("job", "dance"), "No such command 'dance'"), (("job", "list", "-o", "xml"), "xml"), (("job", "submit"), "--file"),
        (("job", "submit", "-f", "nowhere.yaml"), "nowhere.yaml cannot be read"),
    ],
    ids=["no command", "no format", "no file given", "no file there"],
)  # fmt: skip
def test_a_command_that_is_wrong_ends_with_2(operator: Cpn, arguments: tuple[str, ...], words: str) -> None:
    assert words in operator(*arguments, status=2).err


def test_a_manifest_comes_by_standard_input_too(operator: Cpn) -> None:
    text = Path(manifest(operator, "piped")).read_text()
    assert operator("job", "plan", "-f", "-", "-o", "json", text=text).document["chosen"] == "sh"
    assert "standard input" in operator("job", "plan", "-f", "-", text="name: [", status=2).err


def test_a_server_that_is_not_there_ends_with_3_and_what_to_do(tmp_path: Path) -> None:
    said = Cpn(tmp_path, NOWHERE, "cpn_operator_x")("cluster", "list", status=3)
    assert f"cannot reach {NOWHERE}: is the server running?" in said.err
    assert "start it with `cpn up`, or set CPN_SERVER to where it runs" in said.err


def test_a_wrong_token_or_none_ends_with_4_and_what_to_do(operator: Cpn) -> None:
    assert "ask an operator for a new one (`cpn token create`)" in operator("queue", "list", CPN_TOKEN="cpn_operator_wrong", status=4).err
    assert "`cpn up` stores one; `cpn token create` makes more" in operator("queue", "list", CPN_TOKEN="", status=4).err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("purpose=marketing",), "marketing"), (("tenant=globex",), "licence"), (("budget=0.01 CNY",), "raise the budget"),
        (("placement.jurisdictions=[US]",), "US"),
    ],
    ids=["purpose", "no licence", "budget", "place"],
)  # fmt: skip
def test_what_policy_forbids_ends_with_4_and_the_rule(operator: Cpn, changes: tuple[str, ...], words: str) -> None:
    options = [part for change in changes for part in ("--set", change)]
    for command in ("submit", "plan"):
        said = operator("job", command, "-f", manifest(operator, "forbidden"), *options, status=4)
        assert words in said.err + said.out


def test_a_cluster_whose_endpoint_is_not_there_is_refused_with_its_field(operator: Cpn) -> None:
    prices = ("--cpu-price", "0.30 CNY", "--memory-price", "0.03 CNY", "--transfer-price", "0.50 CNY")
    options = ("--backend", "ray", "--jurisdiction", "CN-CQ", "--mode", "push", "--address", "127.0.0.1:9", *prices)
    said = operator("cluster", "register", "cq", *options, status=2)
    assert "endpoint.address: nothing answers at 127.0.0.1:9" in said.err
