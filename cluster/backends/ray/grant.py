"""Whether a run of kind ray stays within what it was granted: pure, from one census after the other.

Ray itself refuses at once what no bundle of a group can hold. What it does not refuse it leaves pending: what goes around the group
by a scheduling strategy of its own, and actors that live together and do not fit together. Those are refused here. One look can
catch a program between the end of one actor and the start of the next, so a sum counts only when the same actor waits in several
looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.backends.ray.census import Ask, Census

PATIENCE = 3
_MARGIN = 1e-6
_GIB = 1024.0**3
# What Ray adds to the runtime environments that it was given.
_RAYS_FIELDS = frozenset({"config", "_ray_commit", "_ray_release", "_inject_current_ray"})


@dataclass(frozen=True)
class Breach:
    """Why a run is ended."""

    outcome: str
    category: str
    message: str


class Grant:
    """What a run holds: `workers` bundles, in Ray's words, and the fields of runtime environments that its tasks may have."""

    def __init__(self, bundle: Mapping[str, float], workers: int, allowed: Iterable[str]) -> None:
        self._bundle, self._workers, self._allowed = dict(bundle), workers, frozenset(allowed)
        self._waited: dict[str, int] = {}

    @property
    def words(self) -> str:
        """The grant in words."""
        many = "1 worker" if self._workers == 1 else f"{self._workers} workers"
        return f"granted are {many} with {amounts(self._bundle)}{' each' if self._workers > 1 else ''}"

    def judge(self, census: Census) -> Breach | None:
        """What stands against the run now."""
        if not census.whole:
            return Breach("lost", "lost", "a node of the run is gone, and its part of the placement group with it")
        for ask in census.asks:
            if not ask.inside and ask.resources:
                remedy = "leave its scheduling strategy and placement group out, so that it stays within them, or ask for more resources"
                return self._beyond(f"{ask.what} asks for {amounts(ask.resources)} outside the run's resources", remedy)
        return self._foreign(census) or self._too_many([ask for ask in census.asks if ask.actor and ask.inside])

    def _foreign(self, census: Census) -> Breach | None:
        """A runtime environment of a task's or actor's own that brings what the job's does not have; variables are its own affair."""
        given = [_document(text) for text in census.given]
        for ask in census.asks:
            for field, value in sorted(_document(ask.runtime_env).items()):
                known = field in _RAYS_FIELDS or (field == "env_vars" and field in self._allowed)
                if value and not known and all(value != one.get(field) for one in given):
                    message = f"{ask.what} brings a runtime_env with {field}, which is not in the job's own"
                    remedy = "give it in runtime_env of the manifest, as far as the cluster allows it"
                    return Breach("failed", "runtime_env", f"{message}; {remedy}")
        return None

    def _too_many(self, actors: list[Ask]) -> Breach | None:
        """Actors that wait because those that live take all that there is."""
        total: dict[str, float] = {}
        for actor in actors:
            for what, amount in actor.resources.items():
                total[what] = total.get(what, 0.0) + amount
        over = {what: amount for what, amount in total.items() if amount > self._bundle.get(what, 0.0) * self._workers + _MARGIN}
        waiting = {actor.identity: actor for actor in actors if actor.waits and over.keys() & actor.resources.keys()}
        self._waited = {identity: self._waited.get(identity, 0) + 1 for identity in waiting} if over else {}
        late = [waiting[identity].what for identity, looks in self._waited.items() if looks >= PATIENCE]
        if not late:
            return None
        asked = f"its actors ask for {amounts(over)} together, and {late[0]} waits for room that no other gives back"
        return self._beyond(asked, "start fewer actors at once, or ask for more resources.workers or resources.cpu")

    def _beyond(self, asked: str, remedy: str) -> Breach:
        return Breach("failed", "beyond_grant", f"{asked}; {self.words}; {remedy}")


def amounts(resources: Mapping[str, float]) -> str:
    """`2 CPU and 1.5 GiB memory`; Ray's own words for all else."""
    parts = [f"{amount / _GIB:g} GiB {what}" if what in ("memory", "object_store_memory") else f"{amount:g} {what}"
             for what, amount in sorted(resources.items())]  # fmt: skip
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else "".join(parts)


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
