"""What a program of kind ray may ask for: judged from what the head's tables say, look after look."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.backends.ray.census import Ask, Census, namespace_of, plain, run_of_namespace
from cluster.backends.ray.grant import PATIENCE, Breach, Grant, amounts

GROUP = "3bcbf207f83638c7bda4c350d38701000000"
GRANTED = "granted are 2 workers with 1 CPU and 0.5 GiB memory each"


def grant(*allowed: str) -> Grant:
    return Grant({"CPU": 1.0, "memory": 2.0**29}, 2, allowed)


def actor(name: str, cpu: float = 1.0, *, waits: bool = False, inside: bool = True, **fields: Any) -> Ask:
    return Ask(f"actor {name}", name, {"CPU": cpu} if cpu else {}, inside=inside, waits=waits, actor=True, **fields)


def looks(found: Grant, *censuses: Census) -> list[str]:
    """What each look says; empty where nothing stands against the run."""
    return [breach.category if (breach := found.judge(census)) else "" for census in censuses]


def told(found: Grant, *asks: Ask, given: tuple[str, ...] = ()) -> Breach:
    breach = found.judge(Census(asks, whole=True, given=given))
    assert breach is not None
    return breach


def test_what_lies_within_is_left_alone() -> None:
    asks = (actor("a"), actor("b"), Ask("task f", "t", {"CPU": 1.0}, inside=True, waits=True), actor("c", 0, inside=False))
    assert looks(grant(), *[Census(asks, whole=True)] * (PATIENCE + 1)) == [""] * (PATIENCE + 1)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask("task f", "t", {"CPU": 100.0}, inside=False, waits=True), "task f asks for 100 CPU outside the run's resources"),
        (actor("a", 2.0, inside=False), "actor a asks for 2 CPU outside the run's resources"),
        (
            Ask("a placement group of its own", "g", {"CPU": 4.0, "GPU": 1.0}, inside=False),
            "a placement group of its own asks for 4 CPU and 1 GPU outside the run's resources",
        ),
    ],
)
def test_what_goes_around_the_group_is_refused_at_once_and_both_sides_are_named(ask: Ask, words: str) -> None:
    found = told(grant(), ask)
    assert (found.outcome, found.category) == ("failed", "beyond_grant")
    assert found.message.startswith(f"{words}; {GRANTED}; leave its scheduling strategy")


def test_actors_that_do_not_fit_together_are_refused_once_the_same_one_has_waited() -> None:
    found = grant()
    census = Census((actor("a"), actor("b"), actor("c", waits=True)), whole=True)
    assert looks(found, *[census] * PATIENCE) == [""] * (PATIENCE - 1) + ["beyond_grant"]
    last = found.judge(census)
    assert last is not None
    assert last.message.startswith(f"its actors ask for 3 CPU together, and actor c waits for room that no other gives back; {GRANTED}")


def test_actors_that_follow_one_another_are_not_refused() -> None:
    turns = [Census((actor("a"), actor(f"b{turn}"), actor(f"c{turn}", waits=True)), whole=True) for turn in range(PATIENCE + 3)]
    assert looks(grant(), *turns) == [""] * (PATIENCE + 3)


def test_an_actor_that_waits_for_its_process_is_not_refused() -> None:
    census = Census((actor("a"), actor("b", waits=True)), whole=True)
    assert looks(grant(), *[census] * (PATIENCE + 1)) == [""] * (PATIENCE + 1)


def test_a_group_that_is_not_whole_means_that_the_run_is_lost() -> None:
    found = grant().judge(Census((), whole=False))
    assert found is not None
    assert (found.outcome, found.category) == ("lost", "lost")


@pytest.mark.parametrize(
    ("allowed", "own", "given", "refused"),
    [
        (("env_vars",), '{"env_vars": {"A": "1"}}', "{}", ""),
        ((), '{"env_vars": {"A": "1"}}', "{}", "env_vars"),
        ((), '{"env_vars": {"A": "1"}}', '{"env_vars": {"A": "1"}}', ""),
        (("pip",), '{"pip": {"packages": ["x"]}}', '{"pip": {"packages": ["y"]}}', "pip"),
        (("pip",), '{"pip": {"packages": ["x"]}, "config": {"eager_install": true}}', '{"pip": {"packages": ["x"]}}', ""),
        ((), '{"working_dir": "gcs://x.zip"}', "{}", "working_dir"),
        ((), "", "", ""),
        ((), "no JSON", "{}", ""),
    ],
)
def test_a_task_brings_no_more_than_its_job(allowed: tuple[str, ...], own: str, given: str, refused: str) -> None:
    census = Census((actor("a", runtime_env=own),), whole=True, given=(given,))
    found = grant(*allowed).judge(census)
    assert (found.category if found else "") == ("runtime_env" if refused else "")
    assert not refused or (found is not None and f"actor a brings a runtime_env with {refused}, which" in found.message)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({f"CPU_group_{GROUP}": 2.0, f"bundle_group_{GROUP}": 0.001}, {"CPU": 2.0}),
        ({f"CPU_group_{GROUP}": 2.0, f"CPU_group_1_{GROUP}": 2.0, f"bundle_group_1_{GROUP}": 0.001}, {"CPU": 2.0}),
        ({f"memory_group_{GROUP}": 5.0, f"my_group_x_group_{GROUP}": 1.0}, {"memory": 5.0, "my_group_x": 1.0}),
        ({"CPU": 1.0, "my_group_1": 1.0}, {"CPU": 1.0, "my_group_1": 1.0}),
        ({}, {}),
    ],
)
def test_amounts_within_a_group_have_their_usual_names(resources: dict[str, float], expected: dict[str, float]) -> None:
    assert plain(resources) == expected


def test_amounts_in_words() -> None:
    assert amounts({"memory": 1.5 * 2**30, "CPU": 2.0, "GPU": 0.5}) == "2 CPU, 0.5 GPU and 1.5 GiB memory"


def test_a_namespace_tells_its_run() -> None:
    assert run_of_namespace(namespace_of("job-7hq2-1")) == "job-7hq2-1"
    assert [run_of_namespace(name) for name in ("cpn", "cpn-script-", "x-cpn-script-a", "")] == [None] * 4
