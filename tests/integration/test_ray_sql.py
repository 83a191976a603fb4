"""SQL on a real Ray: results, limits, confinement, and warm workers that keep nothing from one run for the next."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import duckdb
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from cluster.protocol import InputFile, Preview, RunFinished
from tests.network import until
from tests.ray import Connection, SmallRay, cpu_s, is_alive
from tests.ray_runs import MIB, delivered, input_file, statement

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"
# One call of one function, which DuckDB cannot interrupt, for much longer than the grace period.
DEAF = "SELECT length(list_distinct(range(3000000)))"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    with duckdb.connect() as tables:
        tables.execute(f"COPY (SELECT range AS n, range % 3 AS carrier FROM range(1000)) TO '{folder}/flights.parquet'")
        tables.execute(f"COPY (SELECT range AS n, random() AS r FROM range(700000)) TO '{folder}/large.parquet'")
        tables.execute(f"COPY (SELECT 42 AS secret) TO '{folder}/other.parquet'")
    (folder / "carriers.csv").write_text("carrier,name\n0,United\n1,Delta\n2,日本航空\n")
    return folder


def outcome(end: RunFinished) -> tuple[str, str | None]:
    return end.outcome, end.category


def table(end: RunFinished) -> list[dict[str, object]]:
    """The rows of the result file, after it was compared with what was said of it."""
    assert [file.name for file in end.files] == ["result.parquet"]
    rows: list[dict[str, object]] = pq.read_table(io.BytesIO(delivered(end))).to_pylist()
    return rows


def test_parquet_and_csv_are_joined_into_a_table_with_a_preview(member: Connection, node: str, data: Path) -> None:
    sql = "SELECT name, count(*) AS flights FROM flights JOIN carriers USING (carrier) GROUP BY name ORDER BY flights DESC, name"
    run = statement(node, sql, {"flights": input_file(data / "flights.parquet"), "carriers": input_file(data / "carriers.csv")})
    end = member.run(run)
    assert [event.type for event in member.events(run.run_id)] == ["starting", "started", "finished"]
    assert (outcome(end), end.message) == (("succeeded", None), "")
    rows = (("United", 334), ("Delta", 333), ("日本航空", 333))
    assert end.preview == Preview(columns=("name", "flights"), types=("VARCHAR", "BIGINT"), rows=rows, total_rows=3)
    assert table(end) == [{"name": name, "flights": flights} for name, flights in rows]
    assert end.usage.transferred_bytes == 0
    assert end.usage.wall_s > 0
    assert end.usage.peak_memory_bytes > MIB


def test_inputs_from_elsewhere_are_copied_to_the_node_and_counted(member: Connection, node: str, data: Path) -> None:
    found = input_file(data / "flights.parquet", local=False).model_copy(update={"source": "gz"})
    ends = [member.run(statement(node, "SELECT count(*) AS n FROM flights", {"flights": found})) for _ in range(2)]
    assert [table(end) for end in ends] == [[{"n": 1000}]] * 2
    assert [end.usage.transferred_bytes for end in ends] == [found.size_bytes, 0]
    assert [[(one.source, one.size_bytes) for one in end.usage.transfers] for end in ends] == [[("gz", found.size_bytes)], []]
    assert [(end.usage.cache.hits, end.usage.cache.misses) for end in ends] == [(0, 1), (1, 0)]


def test_a_large_result_arrives_whole(member: Connection, node: str, data: Path) -> None:
    large = {"large": input_file(data / "large.parquet")}
    end = member.run(statement(node, "SELECT n, r FROM large ORDER BY n", large, memory_bytes=512 * MIB))
    rows = table(end)
    assert end.files[0].size_bytes > 4 * MIB
    assert [row["n"] for row in rows] == list(range(700_000))
    assert end.preview is not None
    assert (len(end.preview.rows), end.preview.total_rows) == (50, 700_000)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT nothing FROM flights", 'column "nothing" not found'),
        ("SELECT * FROM weather", "unknown table 'weather'"),
        ("SELEC 1", "does not parse"),
        ("SELECT ('x' || n)::INTEGER FROM flights", "Could not convert string 'x0'"),
    ],
)
def test_a_wrong_statement_fails_as_the_statements_fault(member: Connection, node: str, data: Path, sql: str, words: str) -> None:
    end = member.run(statement(node, sql, {"flights": input_file(data / "flights.parquet")}))
    assert (outcome(end), end.files, end.preview) == (("failed", "statement"), (), None)
    assert words in end.message


def published(path: Path, local: bool) -> InputFile:
    """A table as it was published, used in place or copied; like no other, for a copy of its bytes would do as well."""
    duckdb.sql(f"COPY (SELECT range AS n, '{path}' AS here FROM range(1000)) TO '{path}'")
    return input_file(path, local=local)


CHANGED = ("data_changed", "the data changed since its publication")


@pytest.mark.parametrize("local", [True, False], ids=["in place", "copied"])
@pytest.mark.parametrize(
    ("spoil", "category", "words"),
    [
        (Path.unlink, "data", "there is no file"),
        (lambda path: os.truncate(path, 500), *CHANGED),
        (lambda path: duckdb.sql(f"COPY (SELECT 'x' AS other) TO '{path}'"), *CHANGED),
        (lambda path: path.write_bytes(path.read_bytes()[::-1]), *CHANGED),
    ],
    ids=["missing", "truncated", "of another schema", "as long, and changed"],
)
def test_a_file_that_is_not_what_was_published_is_not_read(
    member: Connection, node: str, tmp_path: Path, local: bool, spoil: Callable[[Path], object], category: str, words: str
) -> None:
    path = tmp_path / "flights.parquet"
    run = statement(node, "SELECT count(*) FROM flights", {"flights": published(path, local)})
    spoil(path)
    end = member.run(run)
    assert (outcome(end), end.files, end.preview) == (("failed", category), (), None)
    assert words in end.message


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '{data}/other.parquet'",
        "SELECT * FROM read_parquet('{data}/other.parquet')",
        "SELECT * FROM read_parquet('{data}/flights.parquet')",
        "SELECT * FROM glob('{data}/*')",
        "COPY (SELECT 1) TO '{data}/stolen.csv'",
        "ATTACH '{data}/stolen.db'",
        "SET enable_external_access = true",
        "SELECT getenv('RAY_AUTH_TOKEN_PATH')",
        "SELECT * FROM read_csv('{url}/a.csv')",
        "SELECT * FROM '{url}/a.parquet'",
        "INSTALL httpfs FROM '{url}'",
    ],
)
def test_a_statement_reaches_no_other_file_and_no_network(member: Connection, node: str, data: Path, listener: Listener, sql: str) -> None:
    before = sorted(path.name for path in data.iterdir())
    run = statement(node, sql.format(data=data, url=listener.url), {"flights": input_file(data / "flights.parquet")})
    assert outcome(member.run(run)) == ("failed", "statement")
    assert sorted(path.name for path in data.iterdir()) == before
    assert listener.requests == []


def test_a_statement_that_needs_more_memory_than_it_asked_for_harms_no_later_one(member: Connection, node: str, data: Path) -> None:
    sql = "SELECT list(repeat('y', 100) || n) FROM large GROUP BY n % 2"
    end = member.run(statement(node, sql, {"large": input_file(data / "large.parquet")}, memory_bytes=32 * MIB))
    assert outcome(end) == ("failed", "statement")
    assert "more than its 32MiB of memory" in end.message
    assert outcome(member.run(statement(node, "SELECT 1"))) == ("succeeded", None)


def test_a_statement_uses_no_more_threads_than_cores(member: Connection, node: str) -> None:
    end = member.run(statement(node, "SELECT sum(hash(a.range * b.range)) FROM range(20000) a, range(5000) b", cpu=1.0))
    assert outcome(end) == ("succeeded", None)
    assert end.usage.cpu_s > 0.1
    assert end.usage.cpu_s < end.usage.wall_s * 1.25 + 0.1


def test_a_warm_worker_keeps_nothing_of_a_run_for_the_next(member: Connection, node: str, data: Path, ray_head: SmallRay) -> None:
    # A result that is not small, so it is a file there.
    first = statement(node, "SELECT secret, hash(range) AS h FROM t, range(20000)", {"t": input_file(data / "other.parquet")})
    assert {row["secret"] for row in table(member.run(first))} == {42}
    worker = ray_head.sql_worker(first.run_id)
    kept = worker / first.run_id / "output" / "result.parquet"
    assert kept.is_file()
    ends = []
    for sql, inputs in (
        ("SELECT * FROM t", {}),
        (f"SELECT * FROM '{kept}'", {}),
        (f"SELECT * FROM read_parquet('{kept}')", {"t": input_file(data / "flights.parquet")}),
        ("SELECT count(*) AS n FROM t", {"t": input_file(data / "flights.parquet")}),
    ):
        run = statement(node, sql, inputs)
        ends.append(member.run(run))
        assert ray_head.sql_worker(run.run_id) == worker
    assert [outcome(end) for end in ends] == [("failed", "statement")] * 3 + [("succeeded", None)]
    assert table(ends[-1]) == [{"n": 1000}]
    member.forget(first.run_id)
    assert not kept.exists()


def test_the_time_limit_ends_a_statement_and_its_worker_takes_the_next(member: Connection, node: str, ray_head: SmallRay) -> None:
    run, later = statement(node, ENDLESS, max_runtime_s=0.3), statement(node, "SELECT 1 AS one")
    end = member.run(run)
    assert (outcome(end), end.message) == (("failed", "max_runtime"), "ended after max_runtime (0.3 s)")
    assert end.usage.wall_s < 20.0
    assert table(member.run(later)) == [{"one": 1}]
    assert ray_head.sql_worker(later.run_id) == ray_head.sql_worker(run.run_id)


def test_a_cancelled_statement_ends_while_others_go_on(member: Connection, node: str) -> None:
    cancelled, other = statement(node, ENDLESS), statement(node, ENDLESS)
    for run in (cancelled, other):
        member.start(run)
    for run in (cancelled, other):
        member.started(run.run_id)
    member.stop(cancelled.run_id, "cancelled")
    assert outcome(member.end_of(cancelled.run_id)) == ("cancelled", "cancelled")
    assert table(member.run(statement(node, "SELECT 1 AS one"))) == [{"one": 1}]
    assert [event.type for event in member.events(other.run_id)] == ["starting", "started"]
    member.stop(other.run_id, "lost")
    assert outcome(member.end_of(other.run_id)) == ("lost", "lost")


def test_a_stop_right_after_the_start_ends_the_run_soon(member: Connection, node: str) -> None:
    runs = [statement(node, ENDLESS) for _ in range(5)]
    for run in runs:
        member.start(run)
        member.stop(run.run_id, "preempted", grace_s=2.0)
    ends = [member.end_of(run.run_id) for run in runs]
    assert [outcome(end) for end in ends] == [("preempted", "preempted")] * 5
    assert not [end.message for end in ends if "did not answer" in end.message]


def test_a_statement_that_cannot_be_interrupted_ends_with_its_worker(member: Connection, node: str, ray_head: SmallRay) -> None:
    run = statement(node, DEAF, memory_bytes=512 * MIB)
    member.start(run)
    worker = ray_head.sql_process(run.run_id)
    before = cpu_s(worker)
    until(lambda: cpu_s(worker) > before + 1.0, "the one call is under way")
    member.stop(run.run_id, "cancelled", grace_s=0.2)
    assert outcome(member.end_of(run.run_id)) == ("cancelled", "cancelled")
    until(lambda: not is_alive(worker), "the worker is gone")
    assert table(member.run(statement(node, "SELECT 1 AS one"))) == [{"one": 1}]


class Listener:
    """An HTTP server that remembers who asked for what."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                self.send_error(404)

            do_HEAD = do_GET  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()
