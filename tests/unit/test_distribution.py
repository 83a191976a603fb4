"""Who runs which file's tests: what is dear to start is started once, and a worker with nothing else to do helps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.distribution import Distribution, choose, need_of

RAY, MORE_RAY, KUBE, PLAIN = "tests/a/test_ray_a.py", "tests/b/test_ray_b.py", "tests/b/test_kube_c.py", "tests/a/test_a.py"


@pytest.mark.parametrize(("path", "need"), [(RAY, "ray"), (KUBE, "kube"), (PLAIN, ""), ("tests/unit/ray/test_rays.py", "")])
def test_a_files_name_says_what_it_shares(path: str, need: str) -> None:
    assert need_of(path) == need


@pytest.mark.parametrize(
    ("waiting", "done", "others", "next_one"),
    [
        ([PLAIN, RAY, KUBE], [], [], RAY),  # nobody has either; by name
        ([PLAIN, RAY, KUBE], [], [KUBE], RAY),
        ([PLAIN, MORE_RAY, KUBE], [RAY], [], MORE_RAY),
        ([PLAIN, KUBE], [RAY], [PLAIN], KUBE),
        ([PLAIN, MORE_RAY], [KUBE], [RAY], PLAIN),
        ([MORE_RAY], [KUBE], [RAY], MORE_RAY),  # nothing else is left
        ([MORE_RAY, PLAIN], [KUBE, RAY], [RAY], MORE_RAY),  # it has one too by now
    ],
)
def test_what_a_worker_has_started_comes_first_and_what_another_has_last(
    waiting: list[str], done: list[str], others: list[str], next_one: str
) -> None:
    assert choose(waiting, done, others) == choose(waiting[::-1], done, others) == next_one


class Worker:
    """A worker process as far as the distribution knows it: what it was given to run."""

    def __init__(self, name: str, tests: list[str]) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.tests, self.given, self.shutting_down = tests, list[str](), False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += [self.tests[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True


def distribution(tests: list[str]) -> tuple[Any, Worker, Worker]:
    """Two workers that have collected these tests and were given the first of them."""
    config = SimpleNamespace(getvalue=lambda _name: ["popen", "popen"], option=SimpleNamespace(loadscopereorder=True))
    made: Any = Distribution(config)
    workers = Worker("gw0", tests), Worker("gw1", tests)
    for worker in workers:
        made.add_node(worker)
        made.add_node_collection(worker, tests)
    made.schedule()
    return made, *workers


def of(path: str, count: int) -> list[str]:
    return [f"{path}::test_{number}" for number in range(count)]


def test_files_stay_together_and_every_test_is_run_once() -> None:
    tests = of(PLAIN, 4) + of(RAY, 4) + of(MORE_RAY, 4) + of(KUBE, 4)
    made, first, second = distribution(tests)
    assert (first.given, second.given) == (of(RAY, 4), of(KUBE, 4))
    for worker in (first, second):
        for test in tuple(worker.given):
            made.mark_test_complete(worker, tests.index(test))
    assert first.given == of(RAY, 4) + of(MORE_RAY, 4)
    assert second.given == of(KUBE, 4) + of(PLAIN, 4)


def test_the_test_that_ended_its_worker_is_told_and_not_run_again_and_the_others_of_its_file_are() -> None:
    tests = of(PLAIN, 4) + of(RAY, 5) + of(KUBE, 4)
    made, first, second = distribution(tests)
    made.mark_test_complete(first, tests.index(f"{RAY}::test_0"))
    assert made.remove_node(first) == f"{RAY}::test_1"
    for test in second.given:
        made.mark_test_complete(second, tests.index(test))
    assert second.given == of(KUBE, 4) + of(RAY, 5)[2:] + of(PLAIN, 4)
    assert second.shutting_down
