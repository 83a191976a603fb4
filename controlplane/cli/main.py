"""`cpn`: the command line of the computing-power network.

Groups are loaded when one of their commands is wanted, and each command imports what it needs when it runs, so
that help and completion answer at once.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from controlplane.cli import capacity, captures, money, servers, simulate
from controlplane.cli.failures import CommandError, as_command_error, tell
from controlplane.cli.lazy import LazyGroup
from controlplane.cli.session import Asked
from controlplane.errors import ClientError

HELP = """One queue over many clusters: submit jobs over licensed data, see where they may run and what that costs.

Exit status: 0 success, 1 the job or action failed, 2 usage, 3 the server is not reachable, 4 refused by policy.
"""


GROUPS = {
    "cluster": ("controlplane.cli.clusters:app", "The clusters of the network."),
    "node": ("controlplane.cli.clusters:nodes", "The clusters' nodes."),
    "link": ("controlplane.cli.links:app", "How fast data comes from one cluster to another."),
    "product": ("controlplane.cli.products:app", "Data products, their versions, and who may use them."),
    "queue": ("controlplane.cli.queues:app", "The queues that jobs wait in."),
    "reservation": ("controlplane.cli.windows:reservations", "Nodes kept for a tenant or a queue for a time."),
    "maintenance": ("controlplane.cli.windows:maintenance", "Times at which nodes take no work."),
    "tenant": ("controlplane.cli.tenants:app", "The tenants: who submits jobs and holds licences."),
    "job": ("controlplane.cli.jobs:app", "Jobs: plan, submit, follow, explain, settle."),
    "ledger": ("controlplane.cli.money:app", "The journal of what was charged, and whether it is sound."),
    "speed": ("controlplane.cli.speeds:app", "How fast like jobs are on each accelerator model."),
    "target": ("controlplane.cli.capacity:targets", "Targets for the network's computing power."),
    "bench": ("controlplane.cli.bench:app", "Measurements to repeat: what decisions cost."),
    "audit": ("controlplane.cli.audit:app", "The audit log: who did what, whether it is whole, and what it proves."),
    "token": ("controlplane.cli.tokens:app", "Tokens: who may call the server, as what, until when."),
}


class Cpn(TyperGroup):
    """The commands, with every failure told in one way."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (application, words) in GROUPS.items():
            self.add_command(LazyGroup(name, application, words))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CommandError as error:
            raise typer.Exit(tell(error)) from error
        except ClientError as error:
            raise typer.Exit(tell(as_command_error(error))) from error


app = typer.Typer(
    name="cpn", help=HELP, cls=Cpn, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)  # fmt: skip


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"cpn {version('cpn')}")
        except PackageNotFoundError:
            print("cpn (run from its source tree)")
        raise typer.Exit


@app.callback()
def begin(
    context: typer.Context,
    server: Annotated[str | None, typer.Option(envvar="CPN_SERVER", metavar="URL", help="The server; else what `cpn up` stored.")] = None,
    token: Annotated[
        str | None, typer.Option(envvar="CPN_TOKEN", metavar="TOKEN", help="The token; else what `cpn up` stored.", show_envvar=True)
    ] = None,
    _version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """What holds for every command."""
    context.obj = Asked(server or None, token or None)


for commands in (servers, capacity, money, simulate, captures):
    commands.add_to(app)


def main() -> None:
    """The entry point of `cpn` and `python -m controlplane.cli.main`."""
    app(prog_name="cpn", args=sys.argv[1:])


if __name__ == "__main__":
    main()
