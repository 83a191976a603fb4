"""The care around Ray's client, as far as it needs no Ray: blocking calls with a limit, and the token's file."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.ray.session import Session
from cluster.errors import AuthenticationError, ClusterReplacedError, UnreachableError


def test_a_blocking_call_gives_its_answer_or_its_error() -> None:
    async def scenario() -> None:
        session = Session("10.0.0.1:1", None)
        assert await session.call(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await session.call(divmod, 7, 0)

    asyncio.run(scenario())


def test_a_call_that_takes_too_long_is_left_behind() -> None:
    go_on = threading.Event()

    async def scenario() -> None:
        with pytest.raises(UnreachableError, match=r"Ray at 10.0.0.1:1 does not answer within 0.01 s"):
            await Session("10.0.0.1:1", None).call(go_on.wait, limit_s=0.01)

    asyncio.run(scenario())
    go_on.set()


def test_many_calls_may_wait_at_once() -> None:
    together = threading.Barrier(50, timeout=30)

    async def scenario() -> None:
        session = Session("10.0.0.1:1", None, call_limit_s=30.0)
        assert sorted(await asyncio.gather(*(session.call(together.wait) for _ in range(50)))) == list(range(50))

    asyncio.run(scenario())


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    session = Session("10.0.0.1:1", tmp_path / "token")
    with pytest.raises(AuthenticationError, match=r"the token file .*/token cannot be read: No such file"):
        asyncio.run(session.connect())


def test_leaving_a_cluster_that_was_never_reached_does_nothing() -> None:
    asyncio.run(Session("10.0.0.1:1", None).disconnect())


class Wavering(Session):
    """A session whose cluster answers a look-up as it is told: an error is raised, anything else is the actor."""

    def __init__(self, *answers: Any) -> None:
        super().__init__("10.0.0.1:1", None)
        self.answers = list(answers)

    async def check(self) -> None:
        if isinstance(self.answers[0], ClusterReplacedError):
            raise self.answers.pop(0)

    async def actor(self, name: str) -> Any | None:  # noqa: ARG002
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (["actor"], "actor"),
        ([None], None),
        ([UnreachableError(), UnreachableError(), "actor"], "actor"),
        ([UnreachableError(), ClusterReplacedError()], None),
    ],
)
def test_an_actor_is_looked_for_until_the_cluster_answers(answers: list[Any], found: str | None) -> None:
    session = Wavering(*answers)
    assert asyncio.run(session.surely_actor("name")) == found
    assert session.answers == []
