"""Where a small look at the store is done: at once where that cannot take long, else in a thread."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controlplane.api.looking import look
from controlplane.wiring import ControlPlane
from scheduler.store.session import Store


@pytest.mark.parametrize("at_once", [True, False])
def test_a_look_is_done_on_the_loop_only_where_reads_need_no_other_process(at_once: bool) -> None:
    plane = cast(ControlPlane, SimpleNamespace(store=SimpleNamespace(reads_at_once=at_once)))

    def work(first: int, *, second: int) -> tuple[int, int, threading.Thread]:
        return first, second, threading.current_thread()

    async def scenario() -> tuple[Any, ...]:
        return *await look(plane, work, 1, second=2), threading.current_thread()

    first, second, worked, asked = asyncio.run(scenario())
    assert (first, second, worked is asked) == (1, 2, at_once)


def test_a_file_is_read_at_once(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/cpn.sqlite")
    try:
        assert store.reads_at_once
    finally:
        store.close()
