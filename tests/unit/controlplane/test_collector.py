"""Looking for garbage less often: a setting of the process, which finds what is garbage all the same."""

from __future__ import annotations

import gc
import weakref

import pytest

from controlplane.collector import OLDER, OLDEST, YOUNGEST, calm_collector


class Node:
    """Something that can hold itself."""

    me: Node


def test_what_is_there_is_set_apart_and_what_comes_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    # Freezing is for good, so this process, which runs other tests, is spared it.
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    before = gc.get_threshold()
    try:
        calm_collector()
        assert gc.get_threshold() == (YOUNGEST, OLDER, OLDEST)
        assert frozen
        node = Node()
        node.me, gone = node, weakref.ref(node)
        del node
        gc.collect()
        assert gone() is None
    finally:
        gc.set_threshold(*before)
