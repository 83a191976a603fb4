"""Where a node keeps what runs have there, and copies of data."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

WORK_DIR_VARIABLE = "CPN_WORK_DIR"
CACHE_DIR_VARIABLE = "CPN_CACHE_DIR"


def node_root() -> Path:
    """This node's directory for runs and data, made private when it does not exist."""
    named = os.environ.get(WORK_DIR_VARIABLE)
    root = Path(named) if named else Path(tempfile.gettempdir()) / f"cpn-work-{os.getuid()}"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


def run_root() -> Path:
    """Where the runs' directories lie."""
    root = node_root() / "runs"
    root.mkdir(exist_ok=True, mode=0o700)
    return root


def cache_folder() -> Path:
    """Where this node keeps copies of product versions."""
    named = os.environ.get(CACHE_DIR_VARIABLE)
    return Path(named) if named else node_root() / "inputs"
