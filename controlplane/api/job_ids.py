"""Ids of jobs: random, short, and without letters that are mistaken for others."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

ALPHABET, ID_LENGTH = b"abcdefghjkmnpqrstuvwxyz23456789", 12
# Each letter stands for as many values of a byte as any other; the values that are left over are left out.
EVEN = 256 - 256 % len(ALPHABET)
LETTER_OF, LEFT_OVER = bytes(ALPHABET[value % len(ALPHABET)] for value in range(256)), bytes(range(EVEN, 256))
DRAWN = 4096


class JobIds:
    """Fresh ids: 12 characters of 31 kinds, about 59 bits. Thread-safe. `draw` gives so many random bytes.

    Many are drawn at once, because to ask the system for a few costs as much.
    """

    def __init__(self, draw: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._draw, self._lock = draw, threading.Lock()
        self._letters, self._at = "", 0

    def __call__(self) -> str:
        with self._lock:
            while self._at + ID_LENGTH > len(self._letters):
                more = self._draw(DRAWN).translate(LETTER_OF, LEFT_OVER).decode("ascii")
                self._letters, self._at = self._letters[self._at :] + more, 0
            begin, self._at = self._at, self._at + ID_LENGTH
            return f"job-{self._letters[begin : self._at]}"


new_job_id = JobIds()
