"""`cpn migrate`: who waits for whom, and what is never tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from controlplane.migration import PAUSE_S, BehindError, Migrated, bring_up_to_date
from controlplane.settings import Settings, load
from scheduler.clock import ManualClock
from scheduler.errors import ConflictError, NewerSchemaError
from scheduler.store.exclusive import sole_server
from scheduler.store.migrate import newest_step
from scheduler.store.session import Store, StoreUnavailableError
from tests.databases import empty_database

NEWEST = newest_step()


class Waiting:
    """A clock that moves while somebody waits, and what happens meanwhile, at the second pause."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.clock, self.pauses, self._then = ManualClock(), 0, then

    def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.pauses += 1
        if self.pauses == 2:
            self._then()

    def run(self, settings: Settings, *, check: bool = False, wait_s: float = 0.0) -> Migrated:
        return bring_up_to_date(settings, check=check, wait_s=wait_s, clock=self.clock, pause=self.pause)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A server with a database that has taken all steps."""
    (tmp_path / "cpn.sqlite").write_bytes(empty_database())
    return Settings(tmp_path)


def put_at(settings: Settings, step: str) -> None:
    """Let the database say that it is at a step."""
    store = Store(settings.store_url)
    store.write(lambda tx: tx.conn.execute(text("UPDATE alembic_version SET version_num = :step"), {"step": step}))
    store.close()


def test_an_empty_database_is_brought_to_the_newest_step_and_again_nothing_changes(tmp_path: Path) -> None:
    settings, waiting = Settings(tmp_path), Waiting()
    assert waiting.run(settings) == Migrated(None, NEWEST)
    assert waiting.run(settings) == waiting.run(settings, check=True) == Migrated(NEWEST, NEWEST)
    assert waiting.pauses == 0


def test_a_check_waits_for_whoever_migrates(settings: Settings) -> None:
    put_at(settings, "0001")
    with pytest.raises(BehindError, match=f"is at step 0001, this version of cpn needs step {NEWEST}; run `cpn migrate`"):
        Waiting().run(settings, check=True)
    waiting = Waiting(lambda: put_at(settings, NEWEST))
    assert waiting.run(settings, check=True, wait_s=60) == Migrated(NEWEST, NEWEST)
    assert waiting.pauses == 2


def test_a_migration_waits_until_the_server_that_runs_has_let_go(settings: Settings, tmp_path: Path) -> None:
    store = Store(settings.store_url)
    holding = sole_server(store, tmp_path / "server.lock")
    holding.__enter__()
    with pytest.raises(ConflictError, match="another cpn server uses this database"):
        Waiting().run(settings)
    waiting = Waiting(lambda: holding.__exit__(None, None, None))
    assert waiting.run(settings, wait_s=60) == Migrated(NEWEST, NEWEST)
    assert waiting.pauses == 2
    store.close()


def test_it_waits_as_long_as_it_was_told_and_no_longer(tmp_path: Path) -> None:
    waiting = Waiting()
    with pytest.raises(StoreUnavailableError):
        waiting.run(Settings(tmp_path, database_url=f"postgresql://nobody@/nothing?host={tmp_path}"), wait_s=3 * PAUSE_S)
    assert waiting.pauses == 3


@pytest.mark.parametrize("check", [True, False])
def test_a_database_of_a_newer_version_is_refused_at_once(settings: Settings, check: bool) -> None:
    put_at(settings, "9999")
    waiting = Waiting()
    with pytest.raises(NewerSchemaError, match=f"at step 9999, and this version of cpn knows steps up to {NEWEST}; use the version that"):
        waiting.run(settings, check=check, wait_s=60)
    assert waiting.pauses == 0


@pytest.mark.parametrize("url", ["nonsense", "mysql://u@h/d", "postgresql://u:secret@h:abc/d"])
def test_a_url_that_is_none_of_a_database_is_refused_without_telling_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="CPN_DATABASE_URL is not the URL of a database; write it like postgresql://") as refused:
        load({}, data_dir=tmp_path, database_url=url)
    assert "secret" not in str(refused.value)
