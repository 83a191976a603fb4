"""How a server starts and ends: one for each database and port, in good order, and with clear words when it cannot."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path

import pytest

from controlplane.daemon import OPERATOR_TOKEN, SERVER_FILE
from tests.acceptance.market import Market
from tests.served import ENDS_WITHIN_S, ServedNetwork

# A server starts many times here, which takes long where others use the machine too.
pytestmark = pytest.mark.timeout(600)


def test_a_second_server_on_the_same_data_is_refused_and_the_first_goes_on(market: Market) -> None:
    said = market.operator.run("serve", "--data-dir", str(market.network.settings.data_dir), "--port", "0", status=1)
    assert "cannot start: another cpn server uses this database" in said.err
    assert "its own data directory or database" in said.err
    assert market.operator("queue", "list").table()


def test_a_port_that_is_taken_is_named_and_nothing_is_left(market: Market, tmp_path: Path) -> None:
    said = market.operator.run("serve", "--data-dir", str(tmp_path / "data"), "--port", str(market.network.settings.port), status=1)
    assert f"127.0.0.1:{market.network.settings.port} cannot be used (Address already in use)" in said.err
    assert "choose another with --port" in said.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CPN_PORT": "many"}, "CPN_PORT='many' is not a int"),
        ({"CPN_ALLOW_SIMULATED": "maybe"}, "CPN_ALLOW_SIMULATED='maybe' is not a bool"),
    ],
)
def test_a_setting_that_is_wrong_ends_with_2_and_its_name(market: Market, variables: dict[str, str], words: str) -> None:
    assert words in market.operator.run("serve", status=2, **variables).err


def test_a_database_that_is_not_there_is_an_error_in_words(market: Market, tmp_path: Path) -> None:
    url = f"postgresql://nobody@/nothing?host={tmp_path}"
    said = market.operator.run("serve", "--data-dir", str(tmp_path / "data"), "--port", "0", "--database-url", url, status=1)
    assert "cannot start: " in said.err
    assert "Traceback" not in said.err


def test_a_server_that_is_told_to_end_ends_in_order_and_comes_back_as_it_was(tmp_path: Path) -> None:
    network = ServedNetwork(tmp_path / "data")
    with network:
        network.add_tenant()
        told = json.loads((network.settings.data_dir / SERVER_FILE).read_text())
        assert told == {"url": network.url, "pid": network.process.pid}
        token = network.operator_token()
        for number in (signal.SIGTERM, signal.SIGINT):
            network.process.send_signal(number)
            assert network.process.wait(ENDS_WITHIN_S) == 0
            network.start_server()
        assert network.operator_token() == token
        assert [item["name"] for item in network.ok(network.operator.get("/tenants"))["items"]] == ["acme"]


def test_what_the_server_keeps_is_its_owners_alone_whatever_the_umask(market: Market) -> None:
    data_dir = market.network.settings.data_dir
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / OPERATOR_TOKEN).stat().st_mode) == 0o600
    assert stat.S_IMODE((data_dir / SERVER_FILE).stat().st_mode) == 0o600
