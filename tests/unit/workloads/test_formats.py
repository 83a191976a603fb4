"""Every format that data may have: described, read by statements with the published columns, and refused in clear words."""

from __future__ import annotations

import gzip
import io
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from workloads.catalogue.lines import first_fault
from workloads.catalogue.product import Format
from workloads.catalogue.publishing import describe
from workloads.errors import DataError
from workloads.runners.parquet_copies import GROUP_ROWS, ParquetCopies
from workloads.runners.process import InputPath
from workloads.runners.sql import InputTable, run_statement

ROWS = [{"n": n, "word": "wé" * (1 + n % 3), "at": f"2026-01-{1 + n % 28:02}", "part": n / 2} for n in range(1000)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = ("n,word,at,part\n" + "".join(f'{row["n"]},"{row["word"]}",{row["at"]},{row["part"]}\n' for row in ROWS)).encode()
TABLE = pa.Table.from_pylist(ROWS).set_column(2, "at", pa.array([row["at"] for row in ROWS]).cast(pa.date32()))
TYPES = ["BIGINT", "VARCHAR", "DATE", "DOUBLE"]


def arrow(table: Any, *, batch_rows: int = 300, compression: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return buffer.getvalue()


def parquet(table: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


KINDS: list[tuple[str, Format, bytes]] = [
    ("a.parquet", "parquet", parquet(TABLE)),
    ("a.csv", "csv", CSV),
    ("a.csv.gz", "csv", gzip.compress(CSV)),
    ("a.jsonl", "jsonl", LINES),
    ("a.jsonl.gz", "jsonl", gzip.compress(LINES)),
    ("a.arrow", "arrow", arrow(TABLE)),
    ("a.feather", "arrow", arrow(TABLE, compression="zstd")),
]


@pytest.mark.parametrize(("name", "format", "data"), KINDS, ids=[name for name, _, _ in KINDS])
def test_each_format_is_described_and_read_alike(tmp_path: Path, name: str, format: Format, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    found = describe(str(path), format)
    assert (found.rows, [column.name for column in found.columns], [column.type for column in found.columns]) == (
        1000,
        list(ROWS[0]),
        TYPES,
    )
    sql = "SELECT count(*) AS n, sum(a.part) AS s, max(a.at) AS d FROM t a JOIN t b USING (n) WHERE a.word <> 'wé'"
    outcome = run_statement(sql, {"t": InputTable(path, format)}, directory=tmp_path / "run", memory_bytes=2**27, threads=1)
    chosen = [row for row in ROWS if row["word"] != "wé"]
    assert outcome.rows == ((len(chosen), sum(row["part"] for row in chosen), max(row["at"] for row in chosen)),)

    with closing(ParquetCopies(tmp_path, memory_bytes=2**27, threads=1)) as copies:
        copied = pq.read_table(copies.of({"t": InputPath(path, format)})["t"]).to_pylist()
    assert [{**row, "at": str(row["at"])} for row in copied] == ROWS
    assert {entry.name for entry in tmp_path.iterdir()} == {name, "run"}


@pytest.mark.parametrize(
    ("name", "format", "data", "words"),
    [
        ("a.jsonl", "jsonl", b'{"a": 1}\n{"a": 2}\n{"a": 3', "line 3 is no JSON; is the file cut off?"),
        ("a.jsonl", "jsonl", b'{"a": 1}\n\n[1, 2]\n', "line 3 is no object"),
        ("a.jsonl", "jsonl", b'[{"a": 1}, {"a": 2}]', "line 1 is no object; write one object a line"),
        ("a.jsonl", "jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', "line 2 is not in UTF-8"),
        ("a.jsonl", "jsonl", b'{"a": 1, "a": 2}\n', "line 1 has the key 'a' twice"),
        ("a.jsonl", "jsonl", b'{"a": 1, "A": 2}\n', "has the key 'A' in two spellings"),
        ("a.jsonl", "jsonl", b'{"": 1}\n', "line 1 has a key without a name"),
        ("a.jsonl", "jsonl", b"{}\n", "line 1 is an empty object"),
        ("a.jsonl", "jsonl", b"a,b\n1,2\n", "line 1 is no JSON"),
        ("a.jsonl.gz", "jsonl", gzip.compress(LINES)[:-20], "ends in the middle of what it compresses"),
        ("a.csv.gz", "csv", gzip.compress(CSV)[:-20], "cannot be read as csv"),
        ("a.arrow", "arrow", arrow(TABLE)[:-50], "cannot be read as arrow: .*write it as an IPC file"),
        ("a.arrow", "arrow", b"ARROW1" + b"x" * 50, "cannot be read as arrow"),
        ("a.arrow", "arrow", CSV, "cannot be read as arrow"),
        ("a.arrow", "arrow", arrow(pa.table([[1], [2]], names=["a", "A"])), "two columns whose names differ by case only"),
        ("a.arrow", "arrow", arrow(pa.table({"h": pa.array([1.0], pa.float16())})), "cannot be read as arrow"),
        ("a.arrow", "arrow", arrow(pa.table({})), "cannot be read as arrow|has no columns"),
        ("a.csv", "csv", b"a,b\n1,x\n3", "different numbers of fields"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(tmp_path: Path, name: str, format: Format, data: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=words) as caught:
        describe(str(path), format)
    assert str(path) in str(caught.value)


def test_an_arrow_file_with_broken_values_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    words = ["good", "words"] * 500
    whole = bytearray(arrow(pa.table({"word": words}), batch_rows=100))
    place = whole.rindex(b"goodwords")
    whole[place : place + 4] = b"\xff\xfe\xff\xfe"
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"in record batch 9: .*UTF8"):
        describe(str(path), "arrow")


@pytest.mark.filterwarnings("ignore:Feather V1:DeprecationWarning")
def test_other_files_of_arrow_are_told_what_to_be(tmp_path: Path) -> None:
    old, stream = tmp_path / "old.feather", tmp_path / "a.arrows"
    feather.write_feather(TABLE.select(["n"]), old, version=1)
    with pa.ipc.new_stream(str(stream), TABLE.schema) as writer:
        writer.write_table(TABLE)
    for path in (old, stream):
        with pytest.raises(DataError, match="not as a stream or as Feather 1"):
            describe(str(path), "arrow")


def test_json_lines_of_many_shapes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "deep": {"x": [1]}}\n{"a": 2.5, "late": true, "nothing": null}\n{"mixed": 1}\n{"mixed": "b"}\n')
    assert first_fault(path) is None
    assert {column.name: column.type for column in describe(str(path), "jsonl").columns} == {
        "a": "DOUBLE", "deep": "STRUCT(x BIGINT[])", "late": "BOOLEAN", "nothing": "VARCHAR", "mixed": "JSON",
    }  # fmt: skip
    outcome = run_statement("FROM t", {"t": InputTable(path, "jsonl")}, directory=tmp_path / "run", memory_bytes=2**27, threads=1)
    assert outcome.rows[0] == (1.0, {"x": [1]}, None, None, None)


def test_copies_are_cut_into_row_groups_by_their_rows_alone(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.arrow", 2 * GROUP_ROWS + 5
    path.write_bytes(arrow(pa.table({"n": range(rows)}), batch_rows=10_007))
    for threads in (1, 2):
        with (
            closing(ParquetCopies(tmp_path, memory_bytes=2**27, threads=threads)) as copies,
            pq.ParquetFile(str(copies.of({"t": InputPath(path, "arrow")})["t"])) as file,
        ):
            counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            assert counts == [GROUP_ROWS, GROUP_ROWS, 5]
            assert file.read_row_group(1)["n"][0].as_py() == GROUP_ROWS


def test_a_copy_of_a_broken_file_fails_by_its_input(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a')
    with (
        closing(ParquetCopies(tmp_path, memory_bytes=1, threads=1)) as copies,
        pytest.raises(DataError, match="input t cannot be read as jsonl") as caught,
    ):
        copies.of({"t": InputPath(path, "jsonl")})
    assert str(path) not in str(caught.value)
