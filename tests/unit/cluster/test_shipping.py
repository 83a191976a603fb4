"""Shipping: logs and files arrive before the end of their run is told, and nothing is told twice or dropped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import AuthenticationError, ClusterError, PermanentError, ReportRefusedError, StorageFullError, UnreachableError
from cluster.protocol import (
    Observation,
    Preview,
    ResultFile,
    RunEvent,
    RunFinished,
)
from cluster.shipping import FEW, MAX_LOG_PIECE, START_RESTS_S, reduced, without_implied
from tests.unit.cluster.docks import AT, dock, end, file, log, progress, started, starting
from tests.virtual_time import in_virtual_time, until_so, virtual


@virtual
async def test_what_needs_no_upload_is_told_at_once_with_its_epoch_in_order() -> None:
    async with dock() as found:
        events = (starting(), started(), progress(0, loss=0.5), end())
        found.accept(*events)
        assert found.shipping.batch(10) == tuple(Observation(epoch=3, event=event) for event in events)
        # That a run is being prepared or has begun waits a moment for what comes next.
        assert len(found.rung) == 2
        await asyncio.sleep(1)
        assert len(found.rung) == 2
        assert found.over == ["a-1"]
        assert found.runs["a-1"].over


@virtual
@pytest.mark.parametrize("events", [(starting(),), (starting(), started())])
async def test_a_start_without_an_end_is_told_by_itself(events: tuple[RunEvent, ...]) -> None:
    async with dock() as found:
        found.accept(*events)
        assert found.rung == []
        await asyncio.sleep(START_RESTS_S * 2)
        assert len(found.rung) == 1
        assert found.told() == list(events)


@virtual
async def test_the_start_of_a_run_does_not_hold_up_the_news_of_another() -> None:
    async with dock("a-1", "b-1") as found:
        found.accept(started("a-1"), end("b-1"))
        assert len(found.rung) == 1
        assert found.told() == [started("a-1"), end("b-1")]


@virtual
async def test_events_of_unknown_and_of_ended_runs_are_repeats() -> None:
    async with dock() as found:
        found.accept(started("other-1"), end(), started(), end(outcome="failed"))
        assert found.told() == [end()]
        assert found.over == ["a-1"]


@virtual
async def test_batches_come_oldest_first_until_they_are_accepted() -> None:
    async with dock() as found:
        events = [progress(number, loss=1.0) for number in range(5)]
        found.accept(*events)
        assert [item.event for item in found.shipping.batch(2)] == events[:2]
        assert [item.event for item in found.shipping.batch(2)] == events[:2]
        found.shipping.accepted(2)
        assert found.told() == events[2:]
        found.shipping.replace_first(Observation(epoch=3, event=starting()))
        assert found.told() == [starting(), *events[3:]]
        found.shipping.replace_first(None)
        assert found.told() == events[3:]


@virtual
async def test_the_log_is_there_before_the_end_is_told() -> None:
    async with dock() as found:
        found.accept(started(), log(0, "one\n"), log(4, "two\n"), end())
        assert found.told() == [started()]
        await found.ended()
        assert bytes(found.control.logs["a-1"]) == b"one\ntwo\n"
        assert found.told() == [started(), end()]


@virtual
async def test_pieces_that_follow_each_other_travel_together() -> None:
    async with dock() as found:
        found.accept(log(0, "a"), log(1, "b"), log(2, "c"), progress(0, loss=1.0), log(3, "d"), log(1, "bcd again"), end())
        await found.ended()
        assert found.control.log_calls == [("a-1", 0, 3), ("a-1", 3, 1), ("a-1", 1, 9)]


@virtual
async def test_a_long_log_goes_in_pieces_that_cut_no_character() -> None:
    text = "第" * (MAX_LOG_PIECE // 3) + "x" + "二" * 100
    async with dock() as found:
        found.accept(log(0, text), end())
        await found.ended()
        assert bytes(found.control.logs["a-1"]).decode() == text
        assert len(found.control.log_calls) == 2
        assert all(size <= MAX_LOG_PIECE for _, _, size in found.control.log_calls)


@given(pieces=st.lists(st.text(max_size=20), max_size=20), size=st.integers(4, 30))
def test_any_log_arrives_whole(pieces: list[str], size: int) -> None:
    async def scenario() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cluster.shipping.MAX_LOG_PIECE", size)
            async with dock() as found:
                offset = 0
                for text in pieces:
                    found.accept(log(offset, text))
                    offset += len(text.encode())
                found.accept(end())
                await found.ended()
                assert bytes(found.control.logs["a-1"]).decode() == "".join(pieces)
                assert all(length <= size for _, _, length in found.control.log_calls)

    in_virtual_time(scenario)


@virtual
async def test_uploads_are_tried_until_the_control_plane_answers(tmp_path: Path) -> None:
    async with dock() as found:
        found.control.away = True
        found.accept(log(0, "one"), end(files=(file(tmp_path, "rows.parquet"),), directory=str(tmp_path)))
        await asyncio.sleep(300)
        assert found.told() == []
        found.control.away = False
        await found.ended()
        assert found.control.logs["a-1"] == b"one"
        assert found.control.files == {("a-1", "rows.parquet"): b"rows"}


@virtual
async def test_a_refused_piece_of_log_is_dropped_and_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with dock() as found:
        found.control.upload_errors = [ReportRefusedError("too large")]
        found.accept(log(0, "one"), progress(0, loss=1.0), log(0, "two"), end())
        await found.ended()
        assert found.control.logs["a-1"] == b"two"
        assert "a piece of log was refused and is dropped" in caplog.text


@virtual
async def test_of_a_run_that_is_not_current_any_more_only_the_end_is_told(tmp_path: Path) -> None:
    async with dock() as found:
        found.control.current = lambda _run_id: False
        found.accept(log(0, "one"), progress(0, loss=1.0), log(3, "two"))
        found.accept(end(files=(file(tmp_path, "rows.parquet"),), directory=str(tmp_path)))
        await found.ended()
        assert found.control.log_calls == [("a-1", 0, 3)]
        assert found.control.files == {}


@virtual
async def test_result_files_arrive_before_the_end_which_names_no_folder_of_ours(tmp_path: Path) -> None:
    async with dock() as found:
        files = (file(tmp_path, "rows.parquet"), file(tmp_path, "deep/model.bin", b"weights"))
        found.accept(end(files=files, directory=str(tmp_path)))
        assert found.told() == []
        assert await found.ended() == end(files=files)
        assert found.control.files == {("a-1", "rows.parquet"): b"rows", ("a-1", "deep/model.bin"): b"weights"}


@pytest.mark.parametrize(
    ("error", "category", "words"),
    [
        (ReportRefusedError("413 Too large"), "result", "the result file b was refused: 413 Too large"),
        (PermanentError("404 Not found"), "data", "the result file b was refused: 404"),
        (None, "infrastructure", "the result file b cannot be read"),
    ],
    ids=["too large", "refused", "unreadable"],
)
@virtual
async def test_a_success_without_its_whole_result_is_a_failure(
    tmp_path: Path, error: ClusterError | None, category: str, words: str
) -> None:
    preview = Preview(columns=("one",), types=("INTEGER",), rows=((1,),), total_rows=1)
    async with dock() as found:
        files = (file(tmp_path, "a"), file(tmp_path, "b"), file(tmp_path, "c"))
        found.accept(log(0, "x"))
        await until_so(lambda: found.control.logs["a-1"], "the log arrives")
        if error is None:
            (tmp_path / "b").unlink()
        found.accept(end(files=files, directory=str(tmp_path), preview=preview))
        if error is not None:
            await until_so(lambda: ("a-1", "a") in found.control.files, "the first file arrives")
            found.control.upload_errors = [error]
        told = await found.ended()
        assert (told.outcome, told.category, told.files, told.preview) == ("failed", category, (), None)
        assert words in told.message


@virtual
async def test_a_full_disk_of_the_control_plane_is_waited_for_a_while_and_ends_the_run_then(tmp_path: Path) -> None:
    async with dock() as found:
        found.control.upload_errors = [StorageFullError("507 no room")] * 3
        found.accept(end(files=(file(tmp_path, "a"),), directory=str(tmp_path)))
        assert (await found.ended()).outcome == "succeeded"
        assert ("a-1", "a") in found.control.files
    async with dock() as found:
        found.control.upload_errors = [StorageFullError("507 no room")] * 1000
        found.accept(end(files=(file(tmp_path, "a"),), directory=str(tmp_path)))
        told = await found.ended()
        assert (told.outcome, told.category, told.files) == ("failed", "storage", ())
        assert told.message == "the result file a was refused: 507 no room"
        assert 10 < 1000 - len(found.control.upload_errors) < 100


@virtual
async def test_another_end_without_its_whole_result_keeps_its_cause_and_what_arrived(tmp_path: Path) -> None:
    async with dock() as found:
        files = (file(tmp_path, "a"), file(tmp_path, "b"))
        (tmp_path / "b").unlink()
        found.accept(end(outcome="failed", category="exit", exit_code=3, message="it said no", files=files, directory=str(tmp_path)))
        told = await found.ended()
        assert (told.outcome, told.category, told.exit_code, told.files) == ("failed", "exit", 3, files[:1])
        assert told.message.startswith("it said no; the result file b cannot be read")


@virtual
async def test_a_large_result_holds_up_no_other_run_and_few_files_travel_at_once(tmp_path: Path) -> None:
    runs = [f"r{number}-1" for number in range(10)]
    async with dock(*runs, "small-1") as found:
        found.control.upload_s = 10.0
        for run_id in runs:
            found.accept(end(run_id, files=(file(tmp_path, run_id),), directory=str(tmp_path)))
        await asyncio.sleep(1)
        found.accept(started("small-1"), end("small-1"))
        assert found.told() == [started("small-1"), end("small-1")]
        await asyncio.sleep(10)
        assert len(found.control.files) == 4
        await until_so(lambda: len(found.over) == 11, "all results arrive")
        assert len(found.control.files) == 10


@virtual
async def test_a_refused_token_ends_the_agent() -> None:
    caught: list[BaseException] = []
    try:
        async with dock() as found:
            found.control.upload_errors = [UnreachableError("busy"), AuthenticationError("revoked")]
            found.accept(log(0, "one"))
    except* AuthenticationError as group:
        caught.extend(group.exceptions)
    assert [str(error) for error in caught] == ["revoked"]


@virtual
async def test_metrics_that_are_no_numbers_are_left_out() -> None:
    async with dock() as found:
        found.accept(progress(0, loss=float("nan"), accuracy=0.5, rate=float("-inf")), progress(1, loss=0.25))
        assert found.told() == [progress(0, accuracy=0.5), progress(1, loss=0.25)]


PREVIEW = Preview(columns=("x",), types=("DOUBLE",), rows=((1.0,),), total_rows=1)
FILES = (ResultFile(name="f", size_bytes=1, sha256="0" * 64),)


@pytest.mark.parametrize(
    ("event", "left"),
    [
        (starting(), None),
        (started(), None),
        (log(0, "x"), None),
        (progress(0, loss=1.0), None),
        (end(preview=PREVIEW), "succeeded"),
        (end(files=FILES), "succeeded"),
        (end(), "succeeded"),
        (end(outcome="failed", category="exit", message="m" * 10**6), "failed"),
        (end(outcome="failed", category="infrastructure", preview=PREVIEW), "failed"),
        # Nothing smaller can be said than this, so a second refusal ends it.
        (end(outcome="failed", category="infrastructure"), None),
    ],
)
def test_of_what_is_refused_only_the_end_is_left(event: RunEvent, left: str | None) -> None:
    found = reduced(Observation(epoch=3, event=event), "422 too large")
    if left is None:
        assert found is None
        return
    assert found is not None
    assert found.epoch == 3
    message = f"the report of the end ({left}) was refused: 422 too large"
    assert found.event == RunFinished(run_id="a-1", outcome="failed", category="infrastructure", message=message, at=AT)
    assert reduced(found, "again") is None


def observed(*events: RunEvent) -> tuple[Observation, ...]:
    return tuple(Observation(epoch=1, event=event) for event in events)


def test_of_much_that_is_told_a_success_says_that_its_run_began() -> None:
    many = [event for number in range(FEW) for event in (starting(f"m-{number}"), started(f"m-{number}"), end(f"m-{number}"))]
    others = [starting("a-1"), started("a-1"), end("a-1", outcome="failed"), starting("b-1"), started("b-1"), progress(1, loss=0.5)]
    told = [item.event for item in without_implied(observed(*others, *many))]
    assert told == [*others, *(event for event in many if isinstance(event, RunFinished))]


def test_what_is_little_is_told_whole() -> None:
    story = observed(starting(), started(), end("a-1"))
    assert without_implied(story) == story
