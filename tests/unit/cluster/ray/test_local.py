"""A Ray head of our own, as far as it needs no Ray: what is done when it ends while it starts. Small programs play it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.backends.ray.local import LocalRay
from cluster.errors import UnreachableError

SLOW, BROKEN, LIVES = "print('The current node timed out during startup.')", "print('no such option')", "import time; time.sleep(600)"
Play = Callable[..., "PlayedRay"]


class PlayedRay(LocalRay):
    """Runs one program after the other, and is ready when it is the last one's turn."""

    def __init__(self, directory: Path, programs: list[str]) -> None:
        super().__init__("played", directory, cpus=1, memory_bytes=2**30)
        self.programs = programs
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        super().start()

    def _arguments(self) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", self.programs[self.starts - 1]]

    def _check(self) -> None:
        if self.programs[self.starts - 1] != LIVES:
            raise UnreachableError("its node has not registered yet")


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    made: list[PlayedRay] = []

    def start(*programs: str) -> PlayedRay:
        made.append(PlayedRay(tmp_path, list(programs)))
        made[-1].start()
        return made[-1]

    yield start
    for ray in made:
        ray.stop(grace_s=0.0)


def test_a_head_whose_node_was_slow_is_started_once_more(play: Play) -> None:
    ray = play(SLOW, LIVES)
    address = ray.address
    ray.wait_ready()
    assert (ray.starts, ray.running, ray.address) == (2, True, address)


@pytest.mark.parametrize(("programs", "starts"), [((SLOW, SLOW, LIVES), 2), ((BROKEN, LIVES), 1)])
def test_a_head_that_ends_again_or_for_another_reason_is_an_error_with_its_log(play: Play, programs: tuple[str, ...], starts: int) -> None:
    ray = play(*programs)
    with pytest.raises(UnreachableError, match=r"Ray head played ended while starting; its log ends with:\n(The current|no such)"):
        ray.wait_ready()
    assert (ray.starts, ray.running) == (starts, False)
