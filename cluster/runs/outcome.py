"""What a process that drives a run leaves to be told of its end: a file that its supervisor reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_OUTCOME = "outcome.json"


def write_outcome(root: Path, end: dict[str, Any]) -> None:
    """`{"outcome", "category", "message", "preview"}`, whole or not at all."""
    partial = root / f".{_OUTCOME}"
    partial.write_text(json.dumps(end), encoding="utf-8")
    partial.replace(root / _OUTCOME)


def read_outcome(root: Path) -> dict[str, Any] | None:
    """What was written there, None when it did not come to that."""
    try:
        end: dict[str, Any] = json.loads((root / _OUTCOME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return end
