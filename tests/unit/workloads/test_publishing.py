"""Describing data files: facts of good ones, clear words about bad ones."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workloads.catalogue.product import Column
from workloads.catalogue.publishing import describe
from workloads.errors import DataError, DataUnavailableError
from workloads.runners.sql import InputTable, run_statement


def columns(found: tuple[Column, ...]) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in found]


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "flights.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT range AS n, 'x' || range AS \"text é\", {'a': 1.5::DECIMAL(9, 2), 'b': [1]} AS nested "
            f"FROM range(5000)) TO '{path}' (ROW_GROUP_SIZE 2048)"
        )
    return path


def test_a_parquet_file(parquet: Path) -> None:
    found = describe(parquet.as_uri(), "parquet")
    assert columns(found.columns) == [("n", "BIGINT"), ("text é", "VARCHAR"), ("nested", "STRUCT(a DECIMAL(9,2), b INTEGER[])")]
    assert (found.rows, found.size_bytes) == (5000, parquet.stat().st_size)
    assert found.sha256 == hashlib.sha256(parquet.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("text", "expected", "rows"),
    [
        ("a,b\n1,x\n2,y\n", [("a", "BIGINT"), ("b", "VARCHAR")], 2),
        ("a;b\n1;2,5\n", [("a", "BIGINT"), ("b", "VARCHAR")], 1),
        ("name,city\nann,rome\nbob,oslo\n", [("name", "VARCHAR"), ("city", "VARCHAR")], 2),
        ("a,a,A\n1,2,3\n", [("a", "BIGINT"), ("a_1", "BIGINT"), ("A_2", "BIGINT")], 1),
        ("día,t\n31/12/2020,2020-01-01 10:00:00\n", [("día", "DATE"), ("t", "TIMESTAMP")], 1),
        ("a\n" + "1\n" * 50_000 + "late\n", [("a", "VARCHAR")], 50_001),
        ('"it\'s ""q""",b\n"x, y",1\n', [('it\'s "q"', "VARCHAR"), ("b", "BIGINT")], 1),
        ("a,b\n", [("a", "VARCHAR"), ("b", "VARCHAR")], 0),
        ("only\n1\n", [("only", "BIGINT")], 1),
    ],
)
def test_csv_files_and_that_a_run_reads_them_alike(tmp_path: Path, text: str, expected: list[tuple[str, str]], rows: int) -> None:
    path = tmp_path / "da'ta.csv"
    path.write_text(text)
    found = describe(str(path), "csv")
    assert (columns(found.columns), found.rows) == (expected, rows)
    outcome = run_statement("FROM t", {"t": InputTable(path, "csv")}, directory=tmp_path / "run", memory_bytes=2**27, threads=1)
    assert list(zip(outcome.columns, outcome.types, strict=True)) == expected
    assert outcome.total_rows == rows


def test_a_compressed_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "data.csv.gz"
    packer = zlib.compressobj(wbits=31)
    path.write_bytes(packer.compress(b"a,b\n1,2\n") + packer.flush())
    assert describe(str(path), "csv").rows == 1


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match="there is no file at"):
        describe(str(tmp_path / "nowhere.csv"), "csv")
    with pytest.raises(DataUnavailableError, match="there is no file at"):
        describe(str(tmp_path), "csv")


@pytest.mark.parametrize("keep", [0.3, 0.999])
def test_a_truncated_parquet_file(parquet: Path, keep: float) -> None:
    whole = parquet.read_bytes()
    parquet.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(DataError, match=r"flights.parquet cannot be read as parquet: "):
        describe(str(parquet), "parquet")


def test_a_parquet_file_broken_in_the_middle_is_refused_though_its_end_is_whole(parquet: Path) -> None:
    whole = bytearray(parquet.read_bytes())
    middle = len(whole) // 4
    whole[middle : middle + 2000] = b"\xff" * 2000
    parquet.write_bytes(whole)
    with pytest.raises(DataError, match="cannot be read as parquet"):
        describe(str(parquet), "parquet")


@pytest.mark.parametrize(
    ("column", "options"),
    [
        ([7] * 5000, {"compression": "snappy"}),
        (list(range(5000)), {"compression": "zstd"}),
        (list(range(5000)), {"compression": "none", "use_dictionary": False, "write_page_checksum": True}),
        (pa.array([None] * 5000, pa.int64()), {"compression": "none"}),
    ],
    ids=["one value", "compressed", "plain with checksums", "no value"],
)
def test_a_column_is_proved_whatever_its_statistics_say(tmp_path: Path, column: object, options: dict[str, object]) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"a": column}), path, **options)
    assert describe(str(path), "parquet").rows == 5000
    facts = pq.ParquetFile(path).metadata.row_group(0).column(0)
    end = min(facts.dictionary_page_offset or facts.data_page_offset, facts.data_page_offset) + facts.total_compressed_size
    whole = bytearray(path.read_bytes())
    whole[end - 6 : end] = b"\xff" * 6
    path.write_bytes(whole)
    with pytest.raises(DataError, match="cannot be read as parquet"):
        describe(str(path), "parquet")


@pytest.mark.parametrize("expression", ["INTERVAL 3 DAY", "uuid()", "'1'::VARIANT", "MAP {'a': [1, NULL]}", "'101'::BIT", "NULL::INTEGER"])
def test_types_that_only_one_reader_knows_are_accepted(tmp_path: Path, expression: str) -> None:
    path = tmp_path / "data.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {expression} AS a FROM range(10)) TO '{path}'")
    assert describe(str(path), "parquet").rows == 10


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n3\n", "different numbers of fields"),
        ("a,b\né,2\n".encode("latin-1"), "utf-8"),
        (bytes(range(256)) * 20, "cannot be read as csv"),
    ],
)
def test_bad_csv_files(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        describe(str(path), "csv")


def test_a_csv_file_is_no_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        describe(str(path), "parquet")
