"""Manifests: YAML that means what it looks like, files that travel along, faults named by their path."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.cli.documents import parse, read_document
from controlplane.cli.failures import CommandError
from controlplane.cli.manifest import read_job

SQL = "name: count\ntenant: acme\nkind: sql\npurpose: research\nsql: SELECT 1\n"
COMMAND = "name: report\ntenant: acme\nkind: command\npurpose: research\ncommand: [python, report.py]\n"


def _file(folder: Path, text: str, name: str = "job.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _fault(path: Path, *changes: str) -> str:
    with pytest.raises(CommandError) as caught:
        read_job(path, changes)
    assert caught.value.status == 2
    return str(caught.value)


def test_a_manifest_is_a_job(tmp_path: Path) -> None:
    spec = read_job(_file(tmp_path, SQL + "resources: {cpu: 2, memory: 2GiB}\nmax_runtime: 10m\nbudget: 5.00 CNY\n"))
    assert (spec.resources.cpu, spec.resources.memory, spec.max_runtime) == (2, 2 * 1024**3, 600)
    assert str(spec.budget) == "5.00 CNY"


def test_json_is_read_too(tmp_path: Path) -> None:
    text = '{"name": "count", "tenant": "acme", "kind": "sql", "purpose": "research", "sql": "SELECT 1"}'
    assert read_job(_file(tmp_path, text, "job.json")).name == "count"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("no", "no"), ("true", True), ("2026-12-01", "2026-12-01"),
        ("2026-12-01T08:00:00+08:00", "2026-12-01T08:00:00+08:00"),
        ("1:30", "1:30"), ("010", "010"), ("10", 10), ("-1.5", -1.5), ("1e3", 1000.0), ("1_000", "1_000"), ("~", None), ("", None),
        ("5.00 CNY", "5.00 CNY"), ("[a, 1]", ["a", 1]), (".nan", ".nan"), ("0x10", "0x10"),
    ],
)  # fmt: skip
def test_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    assert parse(text, "x") == value


def test_a_deadline_and_a_retry_on_exit_survive_yaml(tmp_path: Path) -> None:
    spec = read_job(_file(tmp_path, SQL + "deadline: 2036-12-01T08:00:00+08:00\nretry: {attempts: 2, on: [exit]}\n"))
    assert spec.deadline is not None
    assert spec.deadline.isoformat() == "2036-12-01T08:00:00+08:00"
    assert spec.retry.on == ("exit",)


def test_files_are_read_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "report.py").write_text("print('ü')")
    spec = read_job(_file(tmp_path, COMMAND + "files: [lib/report.py]\n"))
    assert spec.files == {"report.py": "print('ü')"}


def test_files_may_be_written_out(tmp_path: Path) -> None:
    assert read_job(_file(tmp_path, COMMAND + "files: {report.py: 'pass'}\n")).files == {"report.py": "pass"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    fault = _fault(_file(tmp_path, COMMAND + "files: [report.py]\n"))
    assert "files.0" in fault
    assert str(tmp_path / "report.py") in fault
    assert "relative to the manifest" in fault


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.py").write_text("")
    assert "two files are called 'x.py'" in _fault(_file(tmp_path, COMMAND + "files: [a/x.py, b/x.py]\n"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in _fault(_file(tmp_path, COMMAND + "files: [x.bin]\n"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (SQL + "colour: red\n", "colour: there is no such field"),
        (SQL + "resources: {cpus: 2}\n", "resources.cpus: there is no such field"),
        (SQL + "resources: {memory: 5}\n", "resources.memory: 5 has no unit"),
        (SQL + "max_runtime: soon\n", "max_runtime: 'soon' is not a duration"),
        (SQL + "inputs: {f: flights}\n", "inputs.f: "),
        ("name: count\n", "tenant: this field is required; add it"),
        (SQL + "name: again\n", "line 6: the key 'name' stands twice"),
        (SQL + "sql: [\n", "job.yaml, line"),
        ("- a\n", "no mapping"),
        ("", "holds nothing"),
    ],
)
def test_faults_are_named_by_file_and_path(tmp_path: Path, text: str, fault: str) -> None:
    found = _fault(_file(tmp_path, text))
    assert fault in found
    assert "job.yaml" in found


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nowhere\.yaml cannot be read"):
        read_document(tmp_path / "nowhere.yaml")


def test_set_changes_fields(tmp_path: Path) -> None:
    path = _file(tmp_path, SQL)
    spec = read_job(
        path, ["resources.cpu=2", "purpose=marketing", "budget=1.00 CNY", r"placement.labels.cpn\.dev/x=y", "placement.jurisdictions=[CN]"]
    )
    assert (spec.resources.cpu, spec.purpose, str(spec.budget)) == (2, "marketing", "1.00 CNY")
    assert spec.placement.labels == {"cpn.dev/x": "y"}
    assert spec.placement.jurisdictions == ("CN",)


@pytest.mark.parametrize("change", ["cpu", "=2", "resources.=2", "name.x=1"])
def test_a_bad_set_is_refused(tmp_path: Path, change: str) -> None:
    assert "--set" in _fault(_file(tmp_path, SQL), change)


def test_standard_input_is_a_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(SQL))
    assert read_job(Path("-")).name == "count"
