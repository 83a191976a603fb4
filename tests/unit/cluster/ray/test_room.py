"""Room in Ray's books, as far as it needs no Ray: asked for again until it is there, the time is over or it is given up."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.backends.ray.room import Room, owner_of


class ScarceRoom(Room):
    """Ray that has room at the `after`-th try; `given` are the bundles that it holds now."""

    def __init__(self, after: int) -> None:
        super().__init__("owner", "node")
        self.after, self.tries = after, 0
        self.given: list[dict[str, float]] = []
        self.places: Sequence[str] = ()

    def release(self) -> None:
        self._group = None
        self.given.clear()

    def _make(self, bundle: Mapping[str, float], nodes: Sequence[str]) -> Any:
        self.tries, self.places = self.tries + 1, nodes
        self.given += [dict(bundle) for _ in nodes]
        return object()

    def _is_there(self) -> bool:
        return self.tries >= self.after


def test_room_that_is_there_is_held_until_it_is_released() -> None:
    room = ScarceRoom(after=1)
    assert room.hold({"CPU": 2.0}, limit_s=30.0)
    assert (room.tries, room.given) == (1, [{"CPU": 2.0}])
    room.release()
    assert room.given == []


def test_a_bundle_lies_on_each_node_that_is_named_else_on_its_own() -> None:
    room = ScarceRoom(after=1)
    assert room.hold({"CPU": 2.0}, limit_s=30.0)
    assert list(room.places) == ["node"]
    room.release()
    assert room.hold({"CPU": 2.0}, 30.0, ["a", "b", "b"])
    assert (list(room.places), room.given) == (["a", "b", "b"], [{"CPU": 2.0}] * 3)


def test_room_that_comes_later_is_asked_for_anew() -> None:
    room = ScarceRoom(after=2)
    assert room.hold({"CPU": 2.0}, limit_s=30.0)
    assert (room.tries, room.given) == (2, [{"CPU": 2.0}])


def test_nothing_is_held_after_the_time_is_over() -> None:
    room = ScarceRoom(after=1_000_000)
    assert not room.hold({"CPU": 2.0}, limit_s=0.0)
    assert (room.tries, room.given) == (1, [])


def test_who_waits_for_room_may_give_up() -> None:
    room = ScarceRoom(after=1_000_000)
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(room.hold({"CPU": 2.0}, limit_s=600.0)))
    waiting.start()
    while not room.tries:
        pass
    room.give_up()
    waiting.join()
    assert (answers, room.given) == ([False], [])


def test_who_needs_nothing_holds_nothing() -> None:
    room = ScarceRoom(after=1_000_000)
    assert room.hold({}, limit_s=0.0)
    assert room.tries == 0


def test_a_name_says_whose_room_it_is() -> None:
    assert owner_of("cpn-warm-1234567890ab-0123.17") == "cpn-warm-1234567890ab-0123"
    assert owner_of("another") == ""
