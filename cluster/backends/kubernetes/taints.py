"""Taints of nodes, and which of them runs put up with: those of accelerators, which many clusters put on such nodes, and those that the
cluster's operator names. A node with another one that keeps pods away takes no runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.model import TAINT_PATTERN

KEEPS_AWAY = ("NoSchedule", "NoExecute")


@dataclass(frozen=True)
class Toleration:
    """A taint that runs put up with. `value` None: any value; `effect` empty: any effect."""

    key: str
    value: str | None = None
    effect: str = ""

    def covers(self, taint: Mapping[str, Any]) -> bool:
        """Whether a node's taint is meant."""
        same = taint.get("key") == self.key and self.effect in ("", taint.get("effect"))
        return same and self.value in (None, taint.get("value") or "")

    def document(self) -> dict[str, str]:
        """As a pod carries it."""
        found = (
            {"key": self.key, "operator": "Exists"} if self.value is None else {"key": self.key, "operator": "Equal", "value": self.value}
        )
        return found | ({"effect": self.effect} if self.effect else {})


# What device plugins and clouds put on nodes with accelerators, so that only pods who ask for these come there.
OF_DEVICES = tuple(
    Toleration(key) for key in ("nvidia.com/gpu", "amd.com/gpu", "huawei.com/Ascend910", "huawei.com/Ascend310", "huawei.com/Ascend310P")
)


def read_toleration(text: str) -> Toleration:
    """KEY, KEY=VALUE, KEY:EFFECT or KEY=VALUE:EFFECT as kubectl writes taints. Raises ValueError."""
    if not re.match(TAINT_PATTERN, text):
        raise ValueError(f"{text!r} is no taint; write KEY, KEY=VALUE or KEY=VALUE:NoSchedule, like `kubectl taint` does")
    what, _, effect = text.partition(":")
    key, equals, value = what.partition("=")
    return Toleration(key, value if equals else None, effect)


def untolerated(taints: Iterable[Mapping[str, Any]], tolerations: Sequence[Toleration]) -> str:
    """The first taint that keeps runs away, as kubectl writes it; empty when none does."""
    for taint in taints:
        if taint.get("effect") in KEEPS_AWAY and not any(item.covers(taint) for item in (*OF_DEVICES, *tolerations)):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"{taint.get('key')}{value}:{taint['effect']}"
    return ""
