"""Bells: who listens is woken, nobody else, in this thread and in event loops."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractContextManager

import pytest

from scheduler.bells import CYCLE, Bells, agent_bell, job_bell, whoever_waits_first


def test_a_ring_wakes_those_who_listen_to_it() -> None:
    bells, woken = Bells(), []
    with (
        bells.listen("a", lambda: woken.append("a1")),
        bells.listen("b", lambda: woken.append("b")),
        bells.listen("a", lambda: woken.append("a2")),
    ):
        bells.ring("a")
    assert woken == ["a1", "a2"]


def test_a_ring_that_nobody_hears_is_lost() -> None:
    bells, woken = Bells(), []
    bells.ring("a")
    with bells.listen("a", lambda: woken.append("a")):
        pass
    bells.ring("a")
    assert woken == []


def test_the_same_waker_may_listen_twice() -> None:
    bells, woken = Bells(), []

    def wake() -> None:
        woken.append("a")

    with bells.listen("a", wake):
        with bells.listen("a", wake):
            bells.ring("a")
        bells.ring("a")
    bells.ring("a")
    assert woken == ["a", "a", "a"]


def test_many_bells_ring_in_the_order_in_which_they_are_named() -> None:
    bells, woken = Bells(), []
    with bells.listen("a", lambda: woken.append("a")), bells.listen("b", lambda: woken.append("b")):
        bells.ring_each(["b", "nobody", "a"])
        bells.ring_each([])
    bells.ring_each(["a", "b"])
    assert woken == ["b", "a"]


def test_everybody_can_be_woken() -> None:
    bells, woken = Bells(), []
    with bells.listen("b", lambda: woken.append("b")), bells.listen("a", lambda: woken.append("a")):
        bells.ring_all()
    assert sorted(woken) == ["a", "b"]


def test_a_listener_leaves_also_when_its_work_fails() -> None:
    bells, woken = Bells(), []
    with pytest.raises(ValueError, match="no"), bells.listen("a", lambda: woken.append("a")):
        raise ValueError("no")
    bells.ring("a")
    assert woken == []


def test_a_listener_may_ring_and_listen_itself() -> None:
    bells, woken = Bells(), []
    with bells.listen("b", lambda: woken.append("b")), bells.listen("a", lambda: bells.ring("b")):
        bells.ring("a")
    assert woken == ["b"]


def test_a_ring_of_another_thread_wakes_a_loop() -> None:
    bells = Bells()

    async def listen() -> bool:
        with bells.listen_async("a") as rung:
            ringer = threading.Thread(target=bells.ring, args=("a",))
            ringer.start()
            woken = await asyncio.wait_for(rung.wait(), 10)
            ringer.join()
            return woken

    assert asyncio.run(listen())


def test_a_ring_between_look_and_sleep_is_not_missed() -> None:
    bells = Bells()

    async def look_then_sleep() -> bool:
        with bells.listen_async("a") as rung:
            rung.clear()
            bells.ring("a")
            return await asyncio.wait_for(rung.wait(), 10)

    assert asyncio.run(look_then_sleep())


def test_a_loop_that_was_closed_hurts_no_ring() -> None:
    bells, woken = Bells(), []
    loop = asyncio.new_event_loop()

    async def listen() -> AbstractContextManager[asyncio.Event]:
        context = bells.listen_async("a")
        context.__enter__()
        return context

    context = loop.run_until_complete(listen())
    loop.close()
    with bells.listen("a", lambda: woken.append("a")):
        bells.ring("a")
    context.__exit__(None, None, None)
    assert woken == ["a"]


def test_bells_are_told_apart_by_name() -> None:
    assert len({CYCLE, agent_bell("sh"), agent_bell("gz"), job_bell("sh"), job_bell("gz")}) == 5


def test_after_an_end_those_are_woken_first_who_wait_for_it() -> None:
    bells = [CYCLE, agent_bell("sh"), job_bell("b"), agent_bell("gz"), job_bell("a")]
    assert sorted(bells, key=whoever_waits_first) == [job_bell("a"), job_bell("b"), agent_bell("gz"), agent_bell("sh"), CYCLE]
