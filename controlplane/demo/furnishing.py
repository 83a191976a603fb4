"""What the demo's network is furnished with: documents in its folder, and the commands that bring them to the server.

The same commands are shown one by one in the demo and run silently by `cpn up --demo`, where those that were
run before are left out.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from controlplane.client import Client
from controlplane.demo.catalogue import GRANTS, OWNER, PRODUCTS, QUEUE, TARGET, TENANT, product_document, target_document
from controlplane.demo.commands import run_cli
from controlplane.demo.data import make_tables
from controlplane.demo.members import MEMBERS
from controlplane.network import LocalNetwork, NetworkError

Command = tuple[str, ...]


def prepare(folder: Path) -> None:
    """Write tables, documents and jobs into the network's folder. What was there is written anew."""
    make_tables(folder)
    for member in MEMBERS:
        document = member.spec.model_dump(mode="json", exclude_defaults=True)
        _write(folder / "clusters" / f"{member.name}.yaml", document)
    for product in PRODUCTS:
        _write(folder / "products" / f"{product.name.partition('/')[2]}.yaml", product_document(product, folder))
    _write(folder / "target.yaml", target_document())
    with as_file(files("controlplane.demo") / "jobs") as jobs:
        shutil.copytree(jobs, folder / "jobs", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


def _write(path: Path, document: dict[str, Any]) -> None:
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")


def missing_commands(client: Client) -> Iterator[Command]:
    """What is still to be run, relative to the network's folder, in order."""
    if TENANT not in {item.name for item in client.tenants().items}:
        yield ("tenant", "create", TENANT)
    if QUEUE not in {item.name for item in client.queues().items}:
        yield ("queue", "create", QUEUE, "--weight", "2")
    published = {item.product.name for item in client.products().items if item.versions}
    for product in PRODUCTS:
        if product.name not in published:
            yield ("product", "publish", "-f", f"products/{product.name.partition('/')[2]}.yaml")
    for grant in GRANTS:
        name = f"{OWNER}/{grant.table}"
        granted = name in published and any(not item.revoked and item.tenant == TENANT for item in client.licences(name).items)
        if not granted:
            purposes = [part for purpose in grant.purposes for part in ("--purpose", purpose)]
            yield ("product", "grant", name, "--tenant", TENANT, *purposes)
    if TARGET not in {item.name for item in client.targets().items}:
        yield ("target", "set", "-f", "target.yaml")


def furnish(network: LocalNetwork) -> None:
    """Run what is still to be run, without a word. Raises NetworkError with what a command said when it fails."""
    with network.operator() as client:
        commands = list(missing_commands(client))
    for command in commands:
        said = io.StringIO()
        with contextlib.chdir(network.data_dir), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = run_cli(command, network.url, network.operator_token)
        if status:
            raise NetworkError(f"`cpn {' '.join(command)}` ended with status {status}: {said.getvalue()}")
