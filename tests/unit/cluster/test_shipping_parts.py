"""Parts of a result are brought ahead of its end: once, and by whichever attempt made them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cluster.errors import ReportRefusedError
from cluster.protocol import ResultFile, RunFinished, RunPart, RunRequest
from tests.unit.cluster.test_shipping import AT, dock
from tests.virtual_time import until_so, virtual


@virtual
async def test_parts_go_ahead_of_the_end_and_are_not_sent_again(tmp_path: Path) -> None:
    for name in ("early", "late"):
        (tmp_path / name).write_bytes(name.encode())
    files = tuple(
        ResultFile(name=name, size_bytes=len(name), sha256=hashlib.sha256(name.encode()).hexdigest())
        for name in ("before", "early", "late")
    )
    async with dock() as place:
        place.accept(RunPart(run_id="a-1", file=files[1], directory=str(tmp_path)))
        await until_so(lambda: ("a-1", "early") in place.control.files, "it is there before the end")
        assert place.told() == []
        (tmp_path / "early").unlink()
        end = RunFinished(run_id="a-1", outcome="succeeded", at=AT, files=files, brought=("before",), directory=str(tmp_path))
        place.accept(end)
        told = await place.ended()
        assert (told.outcome, told.files) == ("succeeded", files)
        assert set(place.control.files) == {("a-1", "early"), ("a-1", "late")}


@virtual
async def test_a_part_that_is_not_taken_now_comes_again_with_the_end(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"part")
    file = ResultFile(name="part", size_bytes=4, sha256=hashlib.sha256(b"part").hexdigest())
    async with dock() as place:
        place.control.upload_errors = [ReportRefusedError("too large")]
        place.accept(
            RunPart(run_id="a-1", file=file, directory=str(tmp_path)),
            RunFinished(run_id="a-1", outcome="succeeded", at=AT, files=(file,), directory=str(tmp_path)),
        )
        assert (await place.ended()).outcome == "succeeded"
        assert place.control.files == {("a-1", "part"): b"part"}


@virtual
async def test_only_a_later_attempt_of_kind_map_asks_for_earlier_parts() -> None:
    base = {"job_id": "a", "epoch": 3, "cpu": 1.0, "memory_bytes": 1, "nodes": ("n",), "max_runtime_s": 1.0}
    first = RunRequest.model_validate({**base, "run_id": "a-1", "kind": "map", "attempt": 1})
    later = first.model_copy(update={"run_id": "a-2", "attempt": 2})
    async with dock("a-1", "a-2") as place:
        place.control.earlier = (ResultFile(name="part", size_bytes=4, sha256="0" * 64),)
        assert (await place.shipping.earlier_parts(first)).parts == ()
        assert (await place.shipping.earlier_parts(later.model_copy(update={"kind": "command"}))).parts == ()
        assert (await place.shipping.earlier_parts(later)).parts == place.control.earlier
