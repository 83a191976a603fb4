"""Mixture: what the network was asked for lately, so that decisions know what the room on its accelerators is worth to others.

The mix is that of the jobs submitted last, whatever became of them: it says what will be asked for next. It is read anew when it is older
than a minute, because a thousand jobs move slowly, and what is made of it (bid prices) is worth keeping for many decisions.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from scheduler.engine.snapshot import FIRST_ACCELERATOR, WHOLE, Mix, Weights
from scheduler.freeze import Frozen
from scheduler.store.line import last_asked
from scheduler.store.session import Connection
from workloads.resources import Resources

FRESH_S = 60.0
LAST = 1000

# Cores and thousandths of accelerators of each worker, and the models that may serve it.
Class: TypeAlias = tuple[float, int, tuple[str, ...]]
Classes: TypeAlias = Sequence[tuple[Class, int]]


class Mixture:
    """The classes of the jobs submitted last, and how many workers of each. Thread-safe; it lives in memory, because it can be read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._classes: Classes = ()
        self._read_at: float | None = None

    def classes(self, conn: Connection, now: float) -> Classes:
        """What was asked for lately, about a minute old at most."""
        with self._lock:
            if self._read_at is None or not 0 <= now - self._read_at <= FRESH_S:
                self._classes, self._read_at = classes_of(last_asked(conn, LAST)), now
            return self._classes


def classes_of(asked: Iterable[Any]) -> Classes:
    """The classes of some jobs, from their resources as they are stored, in one order."""
    count = Counter(json.dumps(item, sort_keys=True) for item in asked)
    found: Counter[Class] = Counter()
    for text, jobs in count.items():
        resources = Resources.model_validate_json(text)
        accelerator = resources.accelerator
        models = tuple(sorted(choice.model for choice in accelerator.choices)) if accelerator else ()
        found[resources.cpu, round(accelerator.amount * WHOLE) if accelerator else 0, models] += jobs * resources.most
    return tuple(sorted(found.items()))


@dataclass(frozen=True)
class Scoring:
    """What decisions go by: how much each score counts, and what the network was asked for lately."""

    weights: Weights = field(default_factory=Weights)
    mixture: Mixture = field(default_factory=Mixture)

    def on(self, conn: Connection, frozen: Frozen) -> Frozen:
        """A frozen world that is decided on by it; nothing is read where no node has an accelerator."""
        snapshot = replace(frozen.snapshot, weights=self.weights)
        if (snapshot.nodes.devices >= 0).any():
            snapshot = replace(snapshot, mix=mix_of(self.mixture.classes(conn, frozen.world.now), snapshot.resources))
        return replace(frozen, snapshot=snapshot)


def mix_of(classes: Classes, resources: Sequence[str]) -> Mix:
    """The classes as arrays over the resources of a snapshot; a model that it does not have serves nobody."""
    models = resources[FIRST_ACCELERATOR:]
    allowed = np.array([[model in able for model in models] for (_, _, able), _ in classes], dtype=np.bool_)
    return Mix(
        cpu=np.array([cpu for (cpu, _, _), _ in classes], dtype=np.float64),
        milli=np.array([milli for (_, milli, _), _ in classes], dtype=np.int64),
        models=allowed.reshape(len(classes), len(models)),
        count=np.array([count for _, count in classes], dtype=np.int64),
    )
