"""The agent's journals: written before anything is passed on, read back by the next agent, whatever was cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.protocol import GangSize, RunFinished
from cluster.runs.journal import Journal, Journals, Recorded, Sized
from cluster.runs.outbox import Batch
from tests.ray_runs import command

RUN = command("n1", "true")
FINISHED = RunFinished(run_id=RUN.run_id, outcome="succeeded", at=9.0)
BATCHES: list[tuple[int, Batch]] = [
    (0, {"started": 1.0, "log": "日本\r\n\u2028"}),
    (1, {"progress": [{"step": 1, "metrics": {}, "at": 2.0}]}),
]


@pytest.fixture
def journals(tmp_path: Path) -> Journals:
    return Journals(tmp_path)


def write(journals: Journals, *, end: bool = True) -> Path:
    journal = journals.open(RUN.run_id)
    journal.begin(RUN)
    for rank, batch in BATCHES:
        journal.batch(rank, batch)
    if end:
        journal.finish(FINISHED)
    journal.close()
    journal.close()
    (path,) = (path for path in journals.results("x").parent.parent.glob("journal/*"))
    return path


def test_a_journal_reads_back(journals: Journals) -> None:
    write(journals)
    assert journals.read(RUN.run_id) == Recorded(RUN, BATCHES, FINISHED)
    assert journals.run_ids() == [RUN.run_id]


def test_a_run_goes_on_in_the_same_journal(journals: Journals) -> None:
    write(journals, end=False)
    journal = journals.open(RUN.run_id)
    journal.finish(FINISHED)
    journal.close()
    assert journals.read(RUN.run_id) == Recorded(RUN, BATCHES, FINISHED)


def test_every_cut_leaves_what_was_whole_before_it(journals: Journals) -> None:
    path = write(journals)
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        recorded = journals.read(RUN.run_id)
        lines = data[:size].count(b"\n")
        assert recorded == (Recorded(RUN, BATCHES[: lines - 1]) if lines else None)
        assert path.read_bytes() == b"".join(data.splitlines(keepends=True)[:lines]), "what was cut is gone from the file"


def test_a_broken_line_in_the_middle_ends_what_is_believed(journals: Journals) -> None:
    path = write(journals)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2][:5] + lines[3]]))
    assert journals.read(RUN.run_id) == Recorded(RUN, BATCHES[:1])
    assert path.read_bytes() == b"".join(lines[:2])


def test_an_unknown_run_has_no_journal(journals: Journals) -> None:
    assert journals.read("unknown-1") is None
    journals.remove("unknown-1")
    assert journals.run_ids() == []


def test_removing_a_run_removes_its_result_too(journals: Journals) -> None:
    path = write(journals)
    (journals.results(RUN.run_id)).mkdir()
    (journals.results(RUN.run_id) / "file").touch()
    journals.remove(RUN.run_id)
    assert (path.exists(), journals.results(RUN.run_id).exists(), journals.run_ids()) == (False, False, [])


def test_journals_are_private(journals: Journals) -> None:
    path = write(journals)
    assert [oct(found.stat().st_mode & 0o777) for found in (path, path.parent, journals.results("x").parent)] == ["0o600", "0o700", "0o700"]


def test_a_full_disk_is_an_error_not_a_silence() -> None:
    journal = Journal(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        journal.begin(RUN)
    journal.close()


def test_changes_of_size_are_read_back_in_their_place(journals: Journals) -> None:
    size = GangSize(generation=1, nodes=("n1", "n2"), accelerator_devices=((0,), (1,)))
    journal = journals.open(RUN.run_id)
    journal.begin(RUN)
    journal.batch(*BATCHES[0])
    journal.sized(Sized(size, over=False))
    journal.sized(Sized(size, over=True, message="why"))
    journal.batch(*BATCHES[1])
    journal.close()
    found = journals.read(RUN.run_id)
    assert found == Recorded(RUN, [BATCHES[0], Sized(size, over=False), Sized(size, over=True, message="why"), BATCHES[1]])
