"""The fold from workers' news to a run's events: order, offsets, gangs, and the same events from the same news."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.protocol import RunEvent, RunLog, RunProgress, RunStarted, RunStarting, Usage
from cluster.runs.outbox import Batch
from cluster.runs.stream import RunStream

OK: dict[str, Any] = {"outcome": "succeeded", "category": None}
BROKEN: dict[str, Any] = {"outcome": "failed", "category": "exit", "exit_code": 3}


def record(step: int, **metrics: float) -> dict[str, Any]:
    return {"step": step, "metrics": metrics, "at": float(step)}


def fold(workers: int, *news: tuple[int, Batch]) -> list[RunEvent]:
    stream = RunStream("r", workers)
    return [event for rank, batch in news for event in stream.absorb(rank, batch)]


def texts(events: list[RunEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, RunLog)]


def whole(events: list[RunEvent]) -> str:
    """The log of the events, whose offsets must follow one another."""
    text = ""
    for event in events:
        if isinstance(event, RunLog):
            assert event.offset == len(text.encode())
            text += event.text
    return text


def test_one_worker_is_told_in_order() -> None:
    stream = RunStream("r", 1)
    assert stream.begin() == [RunStarting(run_id="r")]
    assert stream.absorb(0, {"started": 5.0, "log": "é\n"}) == [RunStarted(run_id="r", at=5.0), RunLog(run_id="r", offset=0, text="é\n")]
    assert stream.absorb(0, {"log": "b", "progress": [record(1, loss=0.5), record(2, loss=0.25)]}) == [
        RunLog(run_id="r", offset=3, text="b"),
        RunProgress(run_id="r", sequence=1, step=1, metrics={"loss": 0.5}, at=1.0),
        RunProgress(run_id="r", sequence=2, step=2, metrics={"loss": 0.25}, at=2.0),
    ]
    assert stream.seen(0) == {"started": True, "log": 4, "progress": 2, "parts": 0}
    assert not stream.over
    assert stream.absorb(0, {"finished": OK}) == []
    assert (stream.over, stream.is_over(0), stream.end(), stream.first_end) == (True, True, OK, None)


def test_a_gang_has_started_when_its_last_worker_has() -> None:
    stream = RunStream("r", 3)
    assert stream.absorb(0, {"started": 5.0, "log": "a\n"}) == []
    assert stream.absorb(2, {"started": 9.0}) == []
    assert stream.absorb(1, {"started": 7.0, "log": "b\n"}) == [
        RunStarted(run_id="r", at=9.0),
        RunLog(run_id="r", offset=0, text="a\n"),
        RunLog(run_id="r", offset=2, text="[rank 1] b\n"),
    ]


def test_what_was_held_back_is_told_when_a_gang_ends_without_having_started() -> None:
    events = fold(2, (0, {"started": 1.0, "log": "a\n"}), (1, {"finished": BROKEN}), (0, {"finished": OK}))
    assert events == [RunLog(run_id="r", offset=0, text="a\n")]


def test_lines_of_a_gang_do_not_mix_and_say_whose_they_are() -> None:
    start: list[tuple[int, Batch]] = [(0, {"started": 1.0}), (1, {"started": 1.0})]
    news: list[tuple[int, Batch]] = [
        (0, {"log": "a1 "}),
        (1, {"log": "b1\nb2"}),
        (0, {"log": "a2\n"}),
        (1, {"finished": OK}),
        (0, {"finished": OK}),
    ]
    assert texts(fold(2, *start, *news)) == ["[rank 1] b1\n", "a1 a2\n", "[rank 1] b2\n"]


def test_a_run_ends_as_its_first_worker_that_did_not_succeed() -> None:
    stream = RunStream("r", 3)
    stream.absorb(0, {"finished": OK})
    stream.absorb(2, {"finished": BROKEN})
    stream.absorb(1, {"finished": {"outcome": "cancelled", "category": "cancelled"}})
    assert (stream.end(), stream.over) == (BROKEN, True)


def test_only_the_first_end_of_a_worker_counts() -> None:
    stream = RunStream("r", 1)
    stream.absorb(0, {"finished": BROKEN})
    assert stream.absorb(0, {"finished": OK}) == []
    assert stream.end() == BROKEN


def test_usage_adds_up_over_workers_but_for_the_time() -> None:
    stream = RunStream("r", 3)
    stream.absorb(0, {"finished": {**OK, "usage": {"wall_s": 2.0, "cpu_s": 1.0, "peak_memory_bytes": 10, "transferred_bytes": 5}}})
    stream.absorb(1, {"finished": {**OK, "usage": {"wall_s": 3.0, "cpu_s": 4.0, "peak_memory_bytes": 20}}})
    stream.absorb(2, {"finished": OK})
    assert stream.usage() == Usage(wall_s=3.0, cpu_s=5.0, peak_memory_bytes=30, transferred_bytes=5)


# Text with the characters that make trouble: ends of lines, several bytes, nothing.
pieces = st.lists(st.text(alphabet="a\né日\r", max_size=5), max_size=8)


@given(pieces)
def test_the_log_of_one_worker_is_what_it_wrote(written: list[str]) -> None:
    news: list[tuple[int, Batch]] = [(0, {"log": text}) for text in written if text]
    assert whole(fold(1, (0, {"started": 1.0}), *news, (0, {"finished": OK}))) == "".join(written)


@given(st.lists(st.tuples(st.integers(0, 2), st.text(alphabet="ab\n", min_size=1, max_size=4)), max_size=20))
def test_the_log_of_a_gang_has_every_line_of_every_worker_whole(written: list[tuple[int, str]]) -> None:
    starts: list[tuple[int, Batch]] = [(rank, {"started": 1.0}) for rank in range(3)]
    ends: list[tuple[int, Batch]] = [(rank, {"finished": OK}) for rank in range(3)]
    log = whole(fold(3, *starts, *((rank, {"log": text}) for rank, text in written), *ends))
    for rank in range(3):
        prefix = f"[rank {rank}] " if rank else ""
        own = "".join(text for other, text in written if other == rank)
        lines = [line.removeprefix(prefix) for line in log.splitlines() if (line.startswith(prefix) if rank else not line.startswith("["))]
        assert lines == own.splitlines()


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["started", "log", "progress", "finished"])), max_size=15))
def test_the_same_news_make_the_same_events(order: list[tuple[int, str]]) -> None:
    batches: dict[str, Batch] = {"started": {"started": 1.0}, "log": {"log": "x\n"}, "progress": {"progress": [record(1, loss=1.0)]},
                                 "finished": {"finished": BROKEN}}  # fmt: skip
    news = [(rank, dict(batches[kind])) for rank, kind in order]
    first, again = fold(2, *news), fold(2, *news)
    assert first == again
    sequence = [event.sequence for event in first if isinstance(event, RunProgress)]
    assert sequence == list(range(1, len(sequence) + 1))


def test_workers_that_leave_end_nothing_and_those_that_come_back_are_new() -> None:
    stream = RunStream("r", 2, elastic=True)
    for rank in (0, 1):
        stream.absorb(rank, {"started": 1.0, "log": f"{rank}\n"})
    stream.dismiss(1)
    stream.absorb(1, {"finished": {**BROKEN, "usage": {"wall_s": 5.0, "cpu_s": 2.0}}})
    assert (stream.over, stream.first_end) == (False, None)
    stream.resize(1)
    stream.resize(3)
    assert (stream.seen(1), stream.is_over(1)) == ({"started": False, "log": 0, "progress": 0, "parts": 0}, False)
    assert texts(stream.absorb(2, {"started": 9.0, "log": "late\n"})) == ["[rank 2] late\n"]
    for rank in (0, 1, 2):
        stream.absorb(rank, {"finished": {**OK, "usage": {"wall_s": 1.0, "cpu_s": 1.0}}})
    assert (stream.over, stream.end()["outcome"]) == (True, "succeeded")
    assert stream.usage() == Usage(wall_s=5.0, cpu_s=5.0)


def test_a_gang_of_one_that_may_grow_keeps_lines_whole() -> None:
    stream = RunStream("r", 1, elastic=True)
    assert texts(stream.absorb(0, {"started": 1.0, "log": "half"})) == []
    assert texts(stream.absorb(0, {"log": " a line\n"})) == ["half a line\n"]
