"""How much each score counts, as an operator writes it."""

from __future__ import annotations

from dataclasses import fields

import pytest

from controlplane.settings import SCORES, load
from scheduler.engine.snapshot import Weights


def test_every_weight_can_be_set_and_history_has_a_setting_of_its_own() -> None:
    assert set(SCORES) == {item.name for item in fields(Weights)} - {"history"}


def test_what_is_named_counts_so_much_and_the_others_as_usual() -> None:
    found = Weights(**load({"CPN_SCORES": " price=2, transfer = 0.5,,start=0"}).score_weights)
    assert vars(found) == vars(Weights(price=2.0, transfer=0.5, start=0.0))
    assert load({}).score_weights == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prize=1", "there is no score 'prize'; there are price, transfer, start"),
        ("history=1", "there is no score 'history'"),
        ("price", "price= is not a weight; write it like price=1"),
        ("price=much", "price=much is not a weight"),
        ("price=-1", "price=-1 is not a weight; write it like price=1, from 0 to 1000000"),
        ("price=nan", "price=nan is not a weight"),
        ("price=inf", "price=inf is not a weight"),
        ("price=1=2", "price=1=2 is not a weight"),
        ("price=1,start=1,price=2", "price is given twice"),
        ("=1", "there is no score ''"),
    ],
)
def test_what_is_no_weight_is_refused_with_the_variable(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="CPN_SCORES") as found:
        load({"CPN_SCORES": text})
    assert words in str(found.value)
