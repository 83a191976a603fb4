"""Writes of one kind that wait for the same commit, done as one.

A single write costs a savepoint, statements of its own, and a look at all that it rests on. Where many come one by one, those that have
gathered by the time that the writer gets to them are handed to one piece of work. Each still has an answer of its own, after the commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeAlias, TypeVar

from scheduler.store.session import Store, StoreUnavailableError, Transaction

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Waiting: TypeAlias = list[tuple[Item, Future[Answer]]]
Work: TypeAlias = Callable[[Transaction, Sequence[Item]], Sequence[Answer | Exception]]


class Gathered(Generic[Item, Answer]):
    """Thread-safe. `work(tx, items)` answers each item, in their order: by a value, or by why it is refused."""

    def __init__(self, store: Store, work: Work[Item, Answer]) -> None:
        self._store, self._work = store, work
        self._lock = threading.Lock()
        self._waiting: Waiting[Item, Answer] = []

    def put(self, item: Item) -> Future[Answer]:
        """Queue an item; the future is done after its commit, or fails with why it is refused."""
        future: Future[Answer] = Future()
        with self._lock:
            self._waiting.append((item, future))
            is_first = len(self._waiting) == 1
        if is_first:
            self._write(self._take)
        return future

    def _take(self) -> Waiting[Item, Answer]:
        """All that wait by now, but for those that nobody waits for any more."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return [(item, future) for item, future in waiting if future.set_running_or_notify_cancel()]

    def _write(self, take: Callable[[], Waiting[Item, Answer]]) -> None:
        taken: list[Waiting[Item, Answer]] = []

        def work(tx: Transaction) -> Sequence[Answer | Exception]:
            taken.append(take())
            return self._work(tx, [item for item, _ in taken[0]]) if taken[0] else ()

        # Where there is no database, nothing was taken before it failed.
        self._store.submit(work).add_done_callback(lambda done: self._answer(done, taken[0] if taken else take()))

    def _answer(self, done: Future[Sequence[Answer | Exception]], taken: Waiting[Item, Answer]) -> None:
        broken = done.exception()
        if broken is None:
            for (_, future), answer in zip(taken, done.result(), strict=True):
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        elif len(taken) > 1 and not isinstance(broken, StoreUnavailableError):
            # One of them broke the work of all; alone it breaks its own.
            for pair in taken:
                self._write(lambda pair=pair: [pair])  # type: ignore[misc]
        else:
            for _, future in taken:
                future.set_exception(broken)
