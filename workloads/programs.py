"""Programs by their content: what a job of the buyer's own code does is told by one hash, which owners of data can permit.

Whatever decides what runs is in it: the kind, the command, the files, the environment, what a map job's function is given and what a
Ray program brings. So a permitted program cannot be given another command or another file and keep its hash.
"""

from __future__ import annotations

import hashlib
import json

from workloads.spec import JobSpec


def program_hash(spec: JobSpec) -> str | None:
    """SHA-256 of a job's program; None for a statement, which is no program.

    Hashed is JSON in UTF-8 with sorted keys and without spaces, of the fields `kind`, `command`, `env`, `map`, `runtime_env` (both
    without defaults, null where left out) and `files`, in which each path has the SHA-256 of its text.
    """
    if spec.kind == "sql":
        return None
    document = {
        "kind": spec.kind, "command": list(spec.command), "env": dict(spec.env),
        "files": {path: _sha256(text) for path, text in spec.files.items()},
        "map": spec.map.model_dump(mode="json", exclude_defaults=True) if spec.map else None,
        "runtime_env": spec.runtime_env.model_dump(mode="json", exclude_defaults=True) if spec.runtime_env else None,
    }  # fmt: skip
    return _sha256(json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def _sha256(text: str) -> str:
    # Text of a manifest may hold half a surrogate pair.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
