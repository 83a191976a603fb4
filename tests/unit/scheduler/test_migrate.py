"""Which steps a database has taken is known without Alembic, and is what Alembic says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from scheduler.store import migrate as steps
from scheduler.store.migrate import MIGRATIONS, migrate, newest_step, taken
from scheduler.store.session import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty database."""
    opened = Store(f"sqlite:///{tmp_path / 'cpn.sqlite'}")
    yield opened
    opened.close()


def test_the_newest_step_is_alembics_head() -> None:
    assert newest_step() == ScriptDirectory(str(MIGRATIONS)).get_current_head()


def test_an_empty_database_takes_every_step(store: Store) -> None:
    with store.read() as conn:
        assert taken(conn) is None
    migrate(store)
    with store.read() as conn:
        assert taken(conn) == newest_step()


def test_a_database_that_has_taken_every_step_is_left_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(store)
    monkeypatch.setattr(steps, "_upgrade", lambda _conn: pytest.fail("there was nothing to do"))
    migrate(store)


def test_a_database_of_an_older_version_takes_what_is_missing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(store)
    asked: list[object] = []
    monkeypatch.setattr(steps, "newest_step", lambda: "9999")
    monkeypatch.setattr(steps, "_upgrade", asked.append)
    migrate(store)
    assert len(asked) == 1


def test_steps_go_by_what_each_builds_on_and_not_by_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "versions").mkdir()
    for name, before in (("0001", None), ("0003", "0001"), ("0002", "0003")):
        linked = f'"{before}"' if before else "None"
        (tmp_path / "versions" / f"{name}_step.py").write_text(f'revision = "{name}"\ndown_revision = {linked}\n')
    monkeypatch.setattr(steps, "MIGRATIONS", tmp_path)
    steps._chain.cache_clear()
    try:
        assert newest_step() == "0002"
    finally:
        monkeypatch.undo()
        steps._chain.cache_clear()
    assert newest_step() == ScriptDirectory(str(MIGRATIONS)).get_current_head()
