"""The settings of money: what is no share and no time zone is refused by the name of its variable."""

from __future__ import annotations

from decimal import Decimal

import pytest

from controlplane.settings import load


def test_they_are_read_exactly() -> None:
    settings = load({"CPN_MARKET_FEE": "0.05", "CPN_STATEMENT_ZONE": "Asia/Shanghai"})
    assert (settings.market_fee, settings.statement_zone) == (Decimal("0.05"), "Asia/Shanghai")
    assert (load({}).market_fee, load({}).statement_zone) == (Decimal(0), "UTC")


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("CPN_MARKET_FEE", "1.01", "must be from 0 to 1"), ("CPN_MARKET_FEE", "-0.1", "must be from 0 to 1"),
        ("CPN_MARKET_FEE", "NaN", "must be from 0 to 1"), ("CPN_MARKET_FEE", "5%", "is not a Decimal"),
        ("CPN_STATEMENT_ZONE", "Shanghai", "is no time zone"), ("CPN_STATEMENT_ZONE", "../UTC", "is no time zone"),
    ],
)  # fmt: skip
def test_what_they_cannot_be_is_refused(variable: str, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"{variable}={text!r}|{variable}={text}") as refused:
        load({variable: text})
    assert words in str(refused.value)
