"""`cpn audit`: the log of acts on rights, whether it is whole, and what it proves of a product's terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlplane.cli import completion
from controlplane.cli.failures import FAILED, usage
from controlplane.cli.options import Output, group
from controlplane.cli.output import fields, grid, note, say, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock

if TYPE_CHECKING:
    from controlplane.api.audit_schemas import AuditFault, AuditRowView, AuditVerdict, ProofView
    from controlplane.api.schemas import Page
    from scheduler.chain import AuditRow

app = group()
DEFAULT_FILE = Path("audit.jsonl")
EACH = 20_000  # Rows between two words on how far it is.
HASH_LENGTH = 64

File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="What `cpn audit export` wrote; no server is asked.")]
Product = Annotated[str | None, typer.Option(metavar="PRODUCT", help="Acts on one product.", autocompletion=completion.products)]
Since = Annotated[str | None, typer.Option("--from", metavar="TIME", help="From then on, like 2026-12-01 or 2026-12-01T08:00:00+08:00.")]
Until = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before then, written alike.")]


@app.command("list")
def list_rows(
    context: typer.Context, product: Product = None,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Of one tenant.", autocompletion=completion.tenants)] = None,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Of one job.", autocompletion=completion.jobs)] = None,
    subject: Annotated[str | None, typer.Option(metavar="NAME", help="On one licence, cluster, queue, token or version.")] = None,
    act: Annotated[str | None, typer.Option(metavar="ACT", help="Of one kind, like licence.revoked or run.placed.")] = None,
    since: Since = None, until: Until = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many of the newest.")] = 50,
    output: Output = "table",
) -> None:  # fmt: skip
    """Acts on rights, the newest first."""
    if job is not None and subject is not None:
        raise usage("--job and --subject both say what the acts were done to", "give one of them")
    wanted = {"product": product, "tenant": tenant, "subject": job or subject, "act": act, **_times(since, until)}
    with connect(context) as client:
        show(client.audit_rows(limit=limit, **wanted), output, _table)


def _table(page: Page[AuditRowView]) -> None:
    rows = [
        (item.sequence, clock(_moment(item.at)), item.act, item.subject, item.tenant, item.actor, _told(item.document))
        for item in page.items
    ]
    grid([">ROW", "AT", "ACT", "SUBJECT", "TENANT", "BY", "WHAT"], rows, none="no acts")
    if page.next_cursor is not None:
        note("there are more; --limit shows them, and filters find them")


def _told(document: dict[str, Any]) -> str:
    """The plain values of a row's document."""
    return ", ".join(f"{key}={value}" for key, value in document.items() if isinstance(value, str | int | float) and value != "")


@app.command("verify")
def verify(
    context: typer.Context, file: File = None,
    head: Annotated[str | None, typer.Option(metavar="HASH", help="A head hash that was kept: it must still be in the log.")] = None,
    output: Output = "table",
) -> None:  # fmt: skip
    """Find rows that were changed, removed, put in or moved since they were written. Exit status 1 when there are any.

    It tells the head hash, that of the last row. Keep it where who keeps the database cannot change it: given with --head, it shows
    rows that were removed at the end, and a log that was written anew from its beginning.
    """
    if head is not None and (len(head) != HASH_LENGTH or not set(head) <= set("0123456789abcdef")):
        raise usage(f"--head {head!r} is no head hash", f"give the {HASH_LENGTH} digits that `cpn audit verify` or `export` told")
    verdict = _verified_there(context, head) if file is None else _verified_here(file, head)
    show(verdict, output, _verdict)
    if verdict.faults_count:
        raise typer.Exit(FAILED)


def _verified_there(context: typer.Context, head: str | None) -> AuditVerdict:
    """Page by page on the server; the faults of all pages together."""
    faults: list[AuditFault] = []
    count, cursor = 0, None
    with connect(context) as client:
        while True:
            page = client.verify_audit_log(head if cursor is None else None, cursor)
            faults += page.faults
            count += page.faults_count
            cursor = page.next_cursor
            if cursor is None:
                return page.model_copy(update={"faults": faults, "faults_count": count})
            note(f"{page.rows:,} rows verified")


def _verified_here(file: Path, head: str | None) -> AuditVerdict:
    from controlplane.api.audit_schemas import AuditFault, AuditVerdict
    from scheduler.chain import Verifier

    verifier = Verifier(head)
    _read(file, lambda row: verifier.feed((row,)))
    faults = [AuditFault.of(fault) for fault in verifier.close()]
    return AuditVerdict(rows=verifier.rows, head=verifier.last, faults=faults, faults_count=verifier.faults_count, next_cursor=None)


def _verdict(verdict: AuditVerdict) -> None:
    if verdict.faults:
        grid([">ROW", "FAULT", "WHAT"], [(item.sequence, item.kind.value, item.message) for item in verdict.faults])
    found = f"{verdict.faults_count:,} faults" if verdict.faults_count else "the chain is whole"
    say(f"{verdict.rows:,} rows: {found}")
    say(f"head {verdict.head}")


@app.command("export")
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Option("-o", "--output-file", metavar="FILE", help="Where it is written.")] = DEFAULT_FILE,
) -> None:
    """Take the whole log along, a line of JSON for each row, and verify what was taken."""
    with connect(context) as client:
        try:
            client.export_audit_log(file)
        except OSError as error:
            raise usage(f"{file} cannot be written ({error.strerror})") from error
    verdict = _verified_here(file, None)
    _verdict(verdict)
    say(f"written to {file}; verify it anywhere with `cpn audit verify --file {file}`")
    if verdict.faults_count:
        raise typer.Exit(FAILED)


@app.command("prove")
def prove(
    context: typer.Context,
    product: Annotated[str, typer.Option(metavar="PRODUCT", help="The product, owner/product.", autocompletion=completion.products)],
    since: Since = None, until: Until = None, file: File = None, output: Output = "table",
) -> None:  # fmt: skip
    """List every run that read a product, where it ran and under which licence, and whether it lay within the terms.

    Each run is judged anew, by the terms, licences and clusters as they were when it was placed. Exit status 1 when one lay outside, or
    when the log is not whole.
    """
    times = _times(since, until)
    if file is None:
        with connect(context) as client:
            proof = client.prove(product, times["from"], times["to"])
    else:
        proof = _proven_here(file, product, times)
    show(proof, output, _proof)
    if not proof.holds:
        raise typer.Exit(FAILED)


def _proven_here(file: Path, product: str, times: dict[str, str | None]) -> ProofView:
    from controlplane.api.audit_schemas import ProofView
    from scheduler.proof import Prover

    begin, end = (datetime.fromisoformat(text).timestamp() if text else None for text in (times["from"], times["to"]))
    prover = Prover(product, begin, end)
    _read(file, lambda row: prover.take((row,)))
    if not prover.knows_product:
        raise usage(f"the log in {file} knows no product {product!r}")
    return ProofView.of(prover.proof())


def _proof(proof: ProofView) -> None:
    rows = [
        (
            clock(run.at), run.run, run.tenant, f"{run.cluster} ({run.jurisdiction})" if run.jurisdiction else run.cluster, run.purpose,
            run.kind, ", ".join(run.versions), run.licence, "; ".join(run.against) or "within the terms",
        )
        for run in proof.runs
    ]  # fmt: skip
    grid(["PLACED", "RUN", "TENANT", "AT", "PURPOSE", "KIND", "VERSION", "LICENCE", "VERDICT"], rows, none="no run has read it")
    for fault in proof.faults:
        note(f"row {fault.sequence} of the log is {fault.kind.value}: {fault.message}")
    log = f"the log of {proof.rows:,} rows is whole" if not proof.faults else "the log is not whole, so nothing is proved"
    runs = f"{len(proof.runs):,} runs read {proof.product}"
    fields([
        ("runs", f"{runs}, {f'{proof.outside:,} of them outside its terms' if proof.outside else 'none outside its terms'}"),
        ("log", log), ("head", proof.head), ("proved", "yes" if proof.holds else "no"),
    ])  # fmt: skip


def _read(file: Path, take: Callable[[AuditRow], None]) -> None:
    """Hand on each row of a file. Raises CommandError with the line that is none."""
    from scheduler.chain import read_row

    with _opened(file) as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = read_row(line)
            except ValueError as error:
                raise usage(f"{file}, line {number}: {error}", "write the file with `cpn audit export -o FILE`") from error
            take(row)
            if number % EACH == 0:
                note(f"{number:,} rows read")


@contextmanager
def _opened(file: Path) -> Iterator[Iterator[str]]:
    try:
        with file.open(encoding="utf-8") as lines:
            yield lines
    except OSError as error:
        raise usage(f"{file} cannot be read ({error.strerror})", "write it with `cpn audit export -o FILE`") from error


def _times(since: str | None, until: str | None) -> dict[str, str | None]:
    return {"from": _time(since, "--from"), "to": _time(until, "--to")}


def _time(text: str | None, option: str) -> str | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text.strip()).astimezone().isoformat()
    except ValueError as error:
        raise usage(f"{option} {text!r} is not a time", "write it like 2026-12-01 or 2026-12-01T08:00:00+08:00") from error


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
