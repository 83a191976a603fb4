"""Blocks of ports: one holder each, no block with a port in use, and an error when none is left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.backends.ray import ports
from cluster.backends.ray.ports import BLOCK_SIZE, PortBlock, take_block
from cluster.errors import TransientError

# Above what the kernel gives to outgoing connections; another place for each process, in case two run at once.
FIRST = 61_000 + os.getpid() % 7 * 600
BLOCKS = 3

Take = Callable[[], PortBlock]


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Take]:
    """Takes from a few blocks of its own, which nobody else on this machine uses; gives all back."""
    monkeypatch.setattr(ports, "FIRST_PORT", FIRST)
    monkeypatch.setattr(ports, "LAST_PORT", FIRST + BLOCKS * BLOCK_SIZE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    taken: list[PortBlock] = []

    def one() -> PortBlock:
        taken.append(take_block())
        return taken[-1]

    yield one
    for block in taken:
        block.release()
        block.release()


def test_every_port_of_a_block_is_its_own(take: Take) -> None:
    block = take()
    first, last = block.workers()
    numbers = [*block.named().values(), *range(first, last + 1)]
    assert len(set(numbers)) == len(numbers) > 100
    assert all(block.first <= number < block.first + BLOCK_SIZE for number in numbers)


def test_blocks_are_held_by_one_and_come_back(take: Take) -> None:
    held = [take() for _ in range(BLOCKS)]
    assert [block.first for block in held] == [FIRST + number * BLOCK_SIZE for number in range(BLOCKS)]
    with pytest.raises(TransientError, match="no block of 200 free ports"):
        take()
    held[1].release()
    assert take().first == held[1].first


def test_a_block_with_a_port_in_use_is_passed_over(take: Take) -> None:
    with socket.create_server(("127.0.0.1", FIRST + 3)):
        assert take().first == FIRST + BLOCK_SIZE
    assert take().first == FIRST


def test_a_block_stays_held_as_long_as_a_child_has_its_lock(take: Take) -> None:
    block = take()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(block.lock,)) as child:
        block.release()
        assert take().first == FIRST + BLOCK_SIZE
        child.communicate(b"\n")
    assert take().first == FIRST
