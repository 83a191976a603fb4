"""The lease is counted from when an answered call was made, so that the agent gives up before the control plane does."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cluster.contact import Contact
from cluster.errors import UnreachableError
from tests.virtual_time import virtual, virtual_clock


async def left_s(contact: Contact) -> float:
    """How long the lease still lasts."""
    began = virtual_clock().now()
    await contact.lease_end()
    return virtual_clock().now() - began


@virtual
async def test_calls_are_counted_from_one_with_their_time() -> None:
    contact = Contact(10.0)
    first, began = contact.begin()
    await asyncio.sleep(2)
    second, later = contact.begin()
    assert (first, second, contact.calls) == (1, 2, 2)
    assert later - began == pytest.approx(2)


@virtual
async def test_without_any_answer_the_first_lease_runs_out() -> None:
    contact = Contact(10.0)
    assert await left_s(contact) == pytest.approx(10)
    assert contact.lease_lost


@virtual
async def test_an_answer_counts_from_when_its_call_was_made() -> None:
    contact = Contact(10.0)
    _, began = contact.begin()
    await asyncio.sleep(4)
    contact.succeeded(began, 30.0)
    assert await left_s(contact) == pytest.approx(26)


@virtual
async def test_a_slow_answer_takes_nothing_from_a_later_one() -> None:
    contact = Contact(10.0)
    _, early = contact.begin()
    await asyncio.sleep(5)
    _, late = contact.begin()
    contact.succeeded(late, 30.0)
    contact.succeeded(early, 30.0)
    assert await left_s(contact) == pytest.approx(30)


@virtual
async def test_an_answer_during_the_wait_for_the_end_puts_it_off() -> None:
    contact = Contact(10.0)
    waiting = asyncio.create_task(left_s(contact))
    await asyncio.sleep(9)
    contact.succeeded(contact.begin()[1], 10.0)
    assert await waiting == pytest.approx(19)


@virtual
async def test_a_lease_comes_back_with_the_first_fresh_answer() -> None:
    contact = Contact(1.0)
    await contact.lease_end()
    returned = asyncio.create_task(contact.lease_return())
    await asyncio.sleep(5)
    assert not returned.done()
    contact.succeeded(contact.begin()[1], 10.0)
    await returned
    assert not contact.lease_lost
    assert await left_s(contact) == pytest.approx(10)


@virtual
async def test_an_answer_to_a_call_of_long_ago_brings_no_lease_back() -> None:
    contact = Contact(1.0)
    _, began = contact.begin()
    await contact.lease_end()
    await asyncio.sleep(20)
    contact.succeeded(began, 10.0)
    assert contact.lease_lost


@virtual
async def test_silence_is_said_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    contact = Contact(10.0)
    with caplog.at_level(logging.INFO, "cpn.agent"):
        for _ in range(3):
            contact.failed(UnreachableError("no route"))
        contact.succeeded(contact.begin()[1], 10.0)
        contact.succeeded(contact.begin()[1], 10.0)
    assert [record.getMessage() for record in caplog.records] == [
        "the call to the control plane failed: no route", "the control plane answers again",
    ]  # fmt: skip


@virtual
async def test_a_shorter_lease_counts_at_once_whatever_was_allowed_before() -> None:
    contact = Contact(45.0)
    waiting = asyncio.create_task(left_s(contact))
    await asyncio.sleep(1)
    contact.succeeded(contact.begin()[1], 16.0)
    await asyncio.sleep(1)
    contact.succeeded(contact.begin()[1], 4.0)
    assert await waiting == pytest.approx(6)
