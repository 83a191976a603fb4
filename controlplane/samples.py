"""The first rows of a product's newest version, as its owner lets the catalogue show them: without hidden columns, and masked.

A replica on a disk of this machine is read where it lies. One elsewhere is copied for that, which is worth it for small ones only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster.protocol import Preview
from scheduler.assess import InputData
from scheduler.disclosure import table_terms
from scheduler.errors import NotFoundError, Problem, RefusedError
from workloads.catalogue.locations import local_path, read_through, suffix
from workloads.catalogue.product import Product, ProductVersion
from workloads.errors import WorkloadError
from workloads.resources import MIB
from workloads.runners.sql import InputTable, permitted_statement, run_statement

MOST_ROWS, MOST_FETCHED_BYTES = 50, 64 * MIB
_MEMORY_BYTES = 256 * MIB


def sample(product: Product, versions: Sequence[ProductVersion], rows: int) -> tuple[ProductVersion, Preview]:
    """The newest version that is not withdrawn, and up to `rows` of its first rows. Reads the data: not for the event loop.

    Raises RefusedError where the terms do not allow it, NotFoundError where there is nothing to show, WorkloadError where the data
    cannot be read.
    """
    if not product.sample:
        words = f"{product.name} shows no sample; ask owner {product.owner} to allow it (sample: true), or get a licence and submit a job"
        raise RefusedError((Problem("", "product_sample", words),))
    shown = [version for version in versions if version.standing != "withdrawn"]
    if not shown:
        raise NotFoundError(f"product {product.name!r} has no version that could be shown")
    newest = max(shown, key=lambda version: version.version)
    statement = permitted_statement(f"SELECT * FROM data LIMIT {rows}", [table_terms(InputData("data", product, newest, ()))]).sql
    with tempfile.TemporaryDirectory(prefix="cpn-sample-") as folder:
        files = {"data": InputTable(_file(newest, Path(folder)), newest.format)}
        found = run_statement(statement, files, directory=Path(folder), memory_bytes=_MEMORY_BYTES, threads=1, preview_rows=rows)
    return newest, Preview(columns=found.columns, types=found.types, rows=found.rows, total_rows=newest.rows)


def _file(version: ProductVersion, folder: Path) -> Path:
    """The data on this machine: the first replica that can be read. Raises WorkloadError of the last one."""
    failed: WorkloadError | None = None
    for replica in sorted(version.replicas, key=lambda one: (local_path(one.uri) is None, one.cluster, one.uri)):
        path = local_path(replica.uri)
        if path is not None and path.is_file():
            return path
        if version.size_bytes > MOST_FETCHED_BYTES:
            continue
        copy = folder / f"data{suffix(replica.uri)}"
        try:
            with copy.open("wb") as target:
                read_through(replica.uri, target=target, most_bytes=version.size_bytes)
            return copy
        except WorkloadError as error:
            failed = error
    if failed is not None:
        raise failed
    words = f"{version.ref} is of {version.size_bytes / MIB:.0f} MiB and on none of the server's disks; what is fetched for a sample"
    raise RefusedError((Problem("", "product_sample", f"{words} is of {MOST_FETCHED_BYTES // MIB} MiB at most; submit a job instead"),))
