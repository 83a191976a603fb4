"""Cursor pagination: a cursor is the key of the last item, opaque to clients."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import HTTPException, Query

from controlplane.api.schemas import Page

T = TypeVar("T")
Limit = Annotated[int, Query(ge=1, le=1000, description="items on a page")]
Cursor = Annotated[str | None, Query(max_length=400, description="next_cursor of the page before")]


def encode(key: str) -> str:
    """A key as a cursor."""
    return base64.urlsafe_b64encode(f"k:{key}".encode()).decode().rstrip("=")


def decode(cursor: str | None) -> str | None:
    """The key in a cursor. Answers 400 for what is no cursor of ours."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        text = ""
    if not text.startswith("k:"):
        raise HTTPException(400, "the cursor is not one that this API gave; start without a cursor")
    return text[2:]


def decode_number(cursor: str | None) -> int | None:
    """The same for a numeric key."""
    key = decode(cursor)
    if key is None:
        return None
    if not key.isdigit():
        raise HTTPException(400, "the cursor is not one of this list; start without a cursor")
    return int(key)


def page_of(items: Sequence[T], key: Callable[[T], str], cursor: str | None, limit: int) -> Page[T]:
    """A page of a short list that is sorted by `key`."""
    after = decode(cursor)
    rest = [item for item in items if after is None or key(item) > after]
    chosen = rest[:limit]
    return Page(items=chosen, next_cursor=encode(key(chosen[-1])) if len(rest) > limit else None)
