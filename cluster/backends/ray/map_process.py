"""The process in which a user's function runs, on the standard library and pyarrow alone: `python map_process.py CONFIG`.

CONFIG is the path of a JSON file: `function` (its file and name), `inputs` (name in the job → a Parquet file), `columns` (none: all),
`compression`, `output` (a directory), `orders` and `reports` (named pipes). An order is a line of JSON, `{"number", "alias", "start",
"stop"}`; its partition is read, given to the function, and what that returns is written to `output`/NUMBER.parquet. The report is a
line of JSON too: `{"ready": true}` once the function is there, `{"number", "cpu_s", "peak_memory_bytes"}` for a partition, or `{"error",
"trace"}`: what went wrong, and the last lines of the traceback within the user's own code. Its leash ends it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import sys
import time
import traceback
from types import TracebackType
from typing import Any

LAST_LINES = 12


def main(path: str) -> int:
    """Serve orders. Returns the exit status, of a process that failed."""
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    # Open for writing too, so that it does not end by itself when the lane is gone: its leash ends it, and removes what it had.
    incoming = os.open(config["orders"], os.O_RDWR | os.O_CLOEXEC)
    with open(incoming, encoding="utf-8", closefd=True) as orders, open(config["reports"], "w", encoding="utf-8") as reports:

        def report(**fields: Any) -> None:
            reports.write(json.dumps(fields) + "\n")
            reports.flush()

        try:
            function, reader = _load(config), Reader(config["inputs"], config["columns"])
        except BaseException as error:  # whatever the file does when it is loaded, it is to be told
            report(**_told(error))
            return 1
        report(ready=True)
        for line in orders:
            order = json.loads(line)
            try:
                began = time.process_time()
                _write(function(reader.read(order["alias"], order["start"], order["stop"])), order["number"], config)
            except BaseException as error:  # `sys.exit` in a function too: the partition is not done
                report(**_told(error))
                return 1
            used = resource.getrusage(resource.RUSAGE_SELF)
            report(number=order["number"], cpu_s=time.process_time() - began, peak_memory_bytes=used.ru_maxrss * 1024)
    return 0


class Reader:
    """Reads rows of Parquet files. The row group that was read last is kept, for what follows is often in it too."""

    def __init__(self, inputs: dict[str, str], columns: list[str]) -> None:
        self._paths, self._columns = inputs, columns or None
        self._files: dict[str, Any] = {}
        self._kept: tuple[str, int, Any] | None = None

    def read(self, alias: str, start: int, stop: int) -> Any:
        """Rows of one input as a Table."""
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        if alias not in self._files:
            self._files[alias] = pq.ParquetFile(self._paths[alias], memory_map=True)
        file = self._files[alias]
        pieces, position, whole = [], 0, []
        for number in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            first, last = max(start - position, 0), min(stop - position, rows)
            if first == 0 and last == rows > 0:
                whole.append(number)
            elif first < last:
                pieces += self._groups(file, whole)
                whole = []
                pieces.append(self._group(alias, number).slice(first, last - first))
            position += rows
        pieces += self._groups(file, whole)
        return pa.concat_tables(pieces) if pieces else file.schema_arrow.empty_table().select(self._columns or file.schema_arrow.names)

    def _groups(self, file: Any, numbers: list[int]) -> list[Any]:
        return [file.read_row_groups(numbers, columns=self._columns)] if numbers else []

    def _group(self, alias: str, number: int) -> Any:
        if self._kept is None or self._kept[:2] != (alias, number):
            self._kept = None
            self._kept = alias, number, self._files[alias].read_row_group(number, columns=self._columns)
        return self._kept[2]


def _load(config: dict[str, Any]) -> Any:
    """The function, from its file in the working directory, whose modules it may import."""
    import pyarrow as pa

    pa.set_cpu_count(config["threads"])
    pa.set_io_thread_count(max(config["threads"], 1))
    file, name = config["function"]
    path = os.path.abspath(file)
    # As Python would have it: the script's folder comes first, then that in which the job runs.
    sys.path[:0] = [os.path.dirname(path), os.getcwd()]
    sys.argv = [path]
    spec = importlib.util.spec_from_file_location(os.path.basename(file).removesuffix(".py"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = getattr(module, name)
    if not callable(found):
        raise TypeError(f"{name} in {file} is no function")
    return found


def _write(result: Any, number: int, config: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(result, pa.RecordBatch):
        result = pa.Table.from_batches([result])
    if not isinstance(result, pa.Table):
        kind = f"{type(result).__module__}.{type(result).__qualname__}".removeprefix("builtins.")
        raise TypeError(f"the function returned {kind}, and has to return a pyarrow Table (of pandas: pyarrow.Table.from_pandas)")
    path = os.path.join(config["output"], f"{number}.parquet")
    # What a column's or the table's metadata says is not part of the result: it may differ from partition to partition.
    plain = pa.schema([field.remove_metadata() for field in result.schema])
    pq.write_table(result.cast(plain).replace_schema_metadata(None), path, compression=config["compression"])


def _told(error: BaseException) -> dict[str, str]:
    lines = "".join(traceback.format_exception(type(error), error, _of_user(error.__traceback__))).splitlines()
    home = os.getcwd() + os.sep
    return {"error": f"{type(error).__name__}: {error}", "trace": "\n".join(lines[-LAST_LINES:]).replace(home, "")}


def _of_user(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that is the user's: without ours and the import system's."""
    found = trace
    while found is not None and (found.tb_frame.f_code.co_filename == __file__ or "importlib" in found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
