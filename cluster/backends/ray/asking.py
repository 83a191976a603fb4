"""A question to a Ray cluster in a process of its own: Ray's calls may block, and a process can speak to one cluster only.

The process is a module of ours, run as a program with address and token file. It prints a JSON object last, `{"error": text}` when it
could not ask.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError, UnreachableError

_ROOT = Path(__file__).parents[3]
_SEPARATOR = "\x1e"


def ask_process(module: str, address: str, token_file: Path | None, limit_s: float, text: str = "") -> dict[str, Any]:
    """The answer of `module`, which reads `text` from standard input and is ended after `limit_s`.

    Raises UnreachableError when it takes longer, ClusterError when it breaks off or says that this machine cannot connect.
    """
    # Ray lets workers import from where its driver stands, and what the nodes have of their own is the question.
    command = [sys.executable, "-P", "-m", module, address, str(token_file.absolute()) if token_file else ""]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))}
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=limit_s, check=False, cwd="/", env=environ, text=True)
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"Ray at {address} was not ready for this machine within {limit_s:g} s") from None
    try:
        document: dict[str, Any] = json.loads(done.stdout.rpartition(_SEPARATOR)[2])
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise ClusterError(f"the question to the cluster broke off (status {done.returncode}): {last[:500]}") from None
    if "error" in document:
        raise ClusterError(document["error"])
    return document


def say_answer(document: dict[str, Any]) -> None:
    """Print the answer. Ray may write to standard output as well; what counts comes after a separator, last."""
    print(_SEPARATOR + json.dumps(document), flush=True)
