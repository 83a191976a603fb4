"""What goes when results and logs have been kept long enough: the oldest, and nothing of what still runs or is not known."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.files import RunFiles
from controlplane.retention import DAY_S, Limits, surplus
from controlplane.settings import load

NOW = 100 * DAY_S
SIZES = {"a-1": 5, "b-1": 5, "c-1": 5, "runs-1": 50, "strange": 50}
ENDED = {"a-1": NOW - 3 * DAY_S, "b-1": NOW - 2 * DAY_S, "c-1": NOW - DAY_S, "no-file": 0.0}


@pytest.mark.parametrize(
    ("limits", "gone"),
    [
        (Limits(0, 0), []),
        (Limits(2.5, 0), ["a-1"]),
        (Limits(0.5, 0), ["a-1", "b-1", "c-1"]),
        (Limits(0, 115), []),
        (Limits(0, 114), ["a-1"]),
        (Limits(0, 105), ["a-1", "b-1"]),
        (Limits(0, 1), ["a-1", "b-1", "c-1"]),
        (Limits(2.5, 110), ["a-1"]),
        (Limits(2.5, 109), ["a-1", "b-1"]),
    ],
)
def test_the_oldest_go_that_are_over_and_known(limits: Limits, gone: list[str]) -> None:
    assert surplus(SIZES, ENDED, limits, NOW) == gone
    assert limits.any == (limits != Limits(0, 0))


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.integers(0, 9), st.integers(0, 9))), st.integers(1, 40))
def test_what_is_left_is_within_the_bytes_and_newer_than_what_went(runs: dict[str, tuple[int, int]], most: int) -> None:
    sizes, ended = {name: size for name, (size, _) in runs.items()}, {name: float(at) for name, (_, at) in runs.items()}
    gone = set(surplus(sizes, ended, Limits(0, most), 10.0))
    left = runs.keys() - gone
    assert sum(sizes[name] for name in left) <= most
    assert all(ended[old] <= ended[new] for old in gone for new in left)


def test_sizes_are_those_of_the_files_and_nothing_of_a_dropped_run_stays(tmp_path: Path) -> None:
    files = RunFiles(tmp_path, max_log_bytes=4096, max_result_bytes=10)
    files.append_log("a-1", 0, b"x" * 5000)
    files.append_log("b-1", 0, b"short")
    path = files.result_path("a-1", "deep/rows")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"rows")
    sizes = files.logs.sizes()
    assert sizes["b-1"] == 5
    assert 3072 < sizes["a-1"] <= 4096
    assert files.result_sizes() == {"a-1": 4}
    files.logs.drop("a-1")
    files.drop_results("a-1")
    assert (files.logs.sizes(), files.result_sizes()) == ({"b-1": 5}, {})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("CPN_KEEP_RESULTS_DAYS", "-1", "must be 0 or more"),
        ("CPN_KEEP_LOGS_BYTES", "-1", "must be 0 or more"),
        ("CPN_KEEP_LOGS_BYTES", "1GiB", "is not a int"),
        ("CPN_KEEP_INTERVAL_S", "0", "must be more than 0"),
        ("CPN_MAX_LOG_BYTES", "4095", "must be 4096 or more"),
        ("CPN_MAX_RESULT_BYTES", "0", "must be 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*{words}"):
        load({name: text})
