"""Statements as a page that a browser shows and prints: one file without scripts, with nothing fetched from anywhere.

Everything that came from people goes through `escape`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from workloads.catalogue.statement import Account, OwnerAccount, OwnerStatement, Part, Statement

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; color: #111; margin: 2em auto; max-width: 70em; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin-top: 2em; } h3 { font-size: 1em; margin-bottom: .3em; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .2em .8em .2em 0; vertical-align: top; }
th { border-bottom: 1px solid #888; } .n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.job td { border-top: 1px solid #ccc; font-weight: 600; } .sum td { border-top: 1px solid #111; font-weight: 600; }
.note { color: #555; }
@media print {
  @page { size: A4; margin: 15mm; }
  body { font-size: 10px; margin: 0; max-width: none; padding: 0; }
  thead { display: table-header-group; } tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
}
"""
Row = Sequence[str]


def of_statement(statement: Statement) -> str:
    """The page of a tenant's statement."""
    body = [f"<h1>Statement of {escape(statement.tenant)}, {escape(statement.month)}</h1>", _period(statement)]
    if not statement.accounts:
        body.append("<p>Nothing was charged in this month.</p>")
    for account in statement.accounts:
        body.append(f"<h2>{escape(account.currency)}: to be paid {escape(str(account.payable))}</h2>")
        body.append(f'<p class="note">{account.jobs:,} jobs, exactly {escape(str(account.total))}; rounded once, half up to the cent.</p>')
        body.extend(_parts(account))
    if statement.items:
        body.append("<h2>Jobs</h2>")
        body.append(_jobs(statement))
    if statement.items_left_out:
        body.append(f'<p class="note">{statement.items_left_out:,} more jobs are in the totals; the CSV lists all.</p>')
    return _page(f"Statement of {statement.tenant}, {statement.month}", body)


def of_owner(statement: OwnerStatement) -> str:
    """The page of an owner's statement."""
    body = [f"<h1>Income of {escape(statement.owner)}, {escape(statement.month)}</h1>", _period(statement)]
    if not statement.accounts:
        body.append("<p>None of the products was used in this month.</p>")
    for account in statement.accounts:
        body.append(f"<h2>{escape(account.currency)}: to be paid out {escape(str(account.payable))}</h2>")
        body.append(_products(account))
    if statement.uses:
        rows = [
            (f"{use.issued_at:%Y-%m-%d %H:%M}", use.ref, use.licence or "none needed", use.tenant, use.purpose, use.cluster, use.job_id,
             str(use.income))
            for use in statement.uses
        ]  # fmt: skip
        body.append("<h2>Uses</h2>")
        body.append(_table(("at (UTC)", "version", "licence", "tenant", "purpose", "cluster", "job", ">income"), rows))
    if statement.uses_left_out:
        body.append(f'<p class="note">{statement.uses_left_out:,} more uses are in the totals; the CSV lists all.</p>')
    return _page(f"Income of {statement.owner}, {statement.month}", body)


def _period(statement: Statement | OwnerStatement) -> str:
    end = "" if statement.closed else " The month is not over: more may be added."
    words = (
        f"From {statement.begins_at:%Y-%m-%d %H:%M} until before {statement.ends_at:%Y-%m-%d %H:%M} UTC, a month in {statement.time_zone}."
    )
    return f'<p class="note">{escape(words + end)}</p>'


def _parts(account: Account) -> Iterable[str]:
    by = {"what": account.by_kind, "purpose": account.by_purpose, "cost centre": account.by_cost_centre, "research": account.by_research}
    for name, parts in by.items():
        yield f"<h3>By {name}</h3>"
        yield _table((name, ">jobs", ">exactly", ">in cents"), [_part(part) for part in parts])


def _part(part: Part) -> Row:
    return part.name, f"{part.jobs:,}", str(part.total), str(part.payable)


def _products(account: OwnerAccount) -> str:
    rows: list[Row] = [(item.product, f"{item.uses:,}", str(item.income)) for item in account.products]
    rows += [("all", "", str(account.income)), ("the market's fee", "", str(account.fee)), ("left", "", str(account.net))]
    return _table(("product", ">uses", ">income"), rows)


def _jobs(statement: Statement) -> str:
    head = "<tr><th>item<th>detail<th class=n>quantity<th>unit<th class=n>price<th class=n>amount</tr>"
    rows = []
    for item in statement.items:
        named = [f"{item.issued_at:%Y-%m-%d %H:%M}", item.job_id, item.purpose, f"at {item.cluster}"]
        named += [f"cost centre {item.cost_centre}"] if item.cost_centre else []
        named += ["research"] if item.research else []
        rows.append(f"<tr class=job><td colspan=5>{escape(' · '.join(named))}<td class=n>{escape(str(item.total))}</tr>")
        for line in item.lines:
            detail = escape(line.detail) + (f' <span class="note">{escape(line.note)}</span>' if line.note else "")
            rows.append(
                f"<tr><td>{escape(line.item)}<td>{detail}<td class=n>{line.quantity:f}<td>{escape(line.unit)}"
                f"<td class=n>{escape(str(line.unit_price))}<td class=n>{escape(str(line.amount))}</tr>"
            )
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _table(headers: Row, rows: Iterable[Row]) -> str:
    """A table; a header that begins with `>` belongs to a column of numbers."""
    numeric = [header.startswith(">") for header in headers]
    kinds = [" class=n" if is_number else "" for is_number in numeric]
    head = "".join(f"<th{kind}>{escape(header.removeprefix('>'))}" for kind, header in zip(kinds, headers, strict=True))
    body = "".join(f"<tr>{''.join(f'<td{kind}>{escape(cell)}' for kind, cell in zip(kinds, row, strict=True))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _page(title: str, body: Iterable[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>\n'
        f"<body>{''.join(body)}</body></html>\n"
    )
