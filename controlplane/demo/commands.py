"""`cpn` commands run in this process: the very code of the command line, with its output where ours goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from controlplane.cli.failures import INTERRUPTED


def run_cli(arguments: Sequence[str], server: str, token: str) -> int:
    """Run one command as if it had been typed. Returns its exit status; Ctrl-C stays KeyboardInterrupt."""
    from controlplane.cli.main import app

    with _environment(server, token):
        try:
            app(args=list(arguments), prog_name="cpn")
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        else:
            status = 0
    sys.stdout.flush()
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return status


@contextmanager
def _environment(server: str, token: str) -> Iterator[None]:
    names = ("CPN_SERVER", "CPN_TOKEN")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(zip(names, (server, token), strict=True))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
