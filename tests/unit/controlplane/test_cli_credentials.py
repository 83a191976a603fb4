"""The stored server and token: private, and never sent elsewhere."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from controlplane.cli.credentials import Credentials, credentials_path, forget_credentials, read_credentials, write_credentials
from controlplane.cli.failures import CommandError
from controlplane.cli.session import DEFAULT_SERVER, Access, Asked, access

STORED = Credentials("http://127.0.0.1:9000", "cpn_operator_x")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CPN_CONFIG_DIR", str(tmp_path / "config"))
    return credentials_path()


def test_only_the_owner_may_read_it(path: Path) -> None:
    write_credentials(path, STORED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_text()) == {"server": STORED.server, "token": STORED.token}
    assert read_credentials(path) == STORED


def test_an_open_file_of_before_becomes_private(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("{}")
    path.chmod(0o644)
    write_credentials(path, STORED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_the_file_lies_in_the_users_folder_unless_told_otherwise(tmp_path: Path) -> None:
    assert credentials_path({"CPN_CONFIG_DIR": str(tmp_path)}) == tmp_path / "credentials.json"
    assert credentials_path({}) == Path.home() / ".config" / "cpn" / "credentials.json"


def test_only_the_same_credentials_are_forgotten(path: Path) -> None:
    write_credentials(path, STORED)
    forget_credentials(path, Credentials("http://other", "x"))
    assert path.exists()
    forget_credentials(path, STORED)
    assert not path.exists()
    forget_credentials(path, STORED)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Asked(), Access(STORED.server, STORED.token)),
        (Asked(server=STORED.server + "/"), Access(STORED.server, STORED.token)),
        (Asked(server="http://elsewhere"), Access("http://elsewhere", "")),
        (Asked(token="mine"), Access(STORED.server, "mine")),
        (Asked(server="http://elsewhere", token="mine"), Access("http://elsewhere", "mine")),
    ],
    ids=["stored", "the same server", "another server", "another token", "both given"],
)
def test_a_token_goes_only_where_it_belongs(path: Path, asked: Asked, found: Access) -> None:
    write_credentials(path, STORED)
    assert access(asked) == found


def test_without_anything_it_is_this_machine(path: Path) -> None:
    assert not path.exists()
    assert access(Asked()) == Access(DEFAULT_SERVER, "")


@pytest.mark.parametrize("text", ["", "[]", '{"server": "x"}', "not json"])
def test_a_broken_file_is_named(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(CommandError, match=r"credentials\.json") as caught:
        access(Asked())
    assert caught.value.status == 2
