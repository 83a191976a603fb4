"""How a disk says that it takes no more."""

from __future__ import annotations

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: BaseException) -> bool:
    """Whether this is the error of a full disk, or of a used up quota on it."""
    return isinstance(error, OSError) and error.errno in _FULL
