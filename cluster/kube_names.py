"""What a run's objects are called in Kubernetes: for the backend that makes them, and for people who look for them by kubectl."""

from __future__ import annotations

import hashlib
import re

PREFIX = "cpn.dev/"
JOB_LABEL = f"{PREFIX}job"
_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")


def name_of(run_id: str) -> str:
    """The name of a run's objects: a DNS label of at most 45 characters, so there is room for a rank and for a pod's suffix."""
    if _NAME.match(run_id):
        return f"cpn-{run_id}"
    slug = re.sub(r"[^a-z0-9]+", "-", run_id.lower()).strip("-")[:28].strip("-")
    return f"cpn-{slug}-{hashlib.sha256(run_id.encode()).hexdigest()[:10]}"
