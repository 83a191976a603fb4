"""`kind: map`: a Python function over the partitions of a job's inputs, as its manifest names it.

The function stands in one of the job's files, and is proved to be there without being run: a file that does not parse, a name that
it does not define or a function that takes other than one table is refused when the job is submitted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from workloads.faults import Fault

USUAL_FUNCTION = "fn"
MOST_PARTITIONS = 10_000

FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}\.py(:[A-Za-z_][A-Za-z0-9_]{0,127})?$")]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class MapStep(BaseModel):
    """What is done with the inputs: `function` takes one partition as a pyarrow Table and returns one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    function: FunctionName = Field(description="FILE.py:NAME, a file among files and a function in it; the name is fn when left out")
    columns: tuple[ColumnName, ...] = Field(default=(), strict=False, max_length=1000, description="only these are read; empty: all")
    rows: int | None = Field(default=None, ge=1, description="of one partition; left out: by size, about 64 MiB of input")
    output: Literal["parquet"] = Field(default="parquet", description="the format of the result's files, one for each partition")
    compression: Literal["zstd", "snappy", "none"] = Field(default="zstd", description="of these files")

    @property
    def place(self) -> tuple[str, str]:
        """The file and the name of the function."""
        file, _, name = self.function.partition(":")
        return file, name or USUAL_FUNCTION


def function_faults(step: MapStep, files: Mapping[str, str]) -> Iterator[Fault]:
    """Why the function cannot be the job's, by its text alone."""
    file, name = step.place
    if file not in files:
        known = ", ".join(sorted(files)) or "none"
        yield ("map", "function"), f"{file!r} is not among files ({known}); add it there, or name one of them"
        return
    try:
        module = ast.parse(files[file], file)
    except (SyntaxError, ValueError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        yield ("files", file), f"is no Python that can be read: {where}; correct it"
        return
    found = _definition(module, name)
    if found is None:
        defined = ", ".join(sorted(_defined(module))) or "nothing"
        yield ("map", "function"), f"{file} defines no {name} at its top level (but {defined}); name one that it has, like {file}:NAME"
    elif isinstance(found, ast.AsyncFunctionDef):
        yield ("map", "function"), f"{name} in {file} is an async function; write a plain one, def {name}(table)"
    elif isinstance(found, ast.FunctionDef) and not _takes_one(found.args):
        yield ("map", "function"), f"{name} in {file} has to take one table and nothing else that is needed; write def {name}(table)"


def _definition(module: ast.Module, name: str) -> ast.stmt | None:
    """The last statement at the top level, also within if and try, that gives the name a meaning."""
    found = [statement for statement in _statements(module.body) if name in _names(statement)]
    return found[-1] if found else None


def _defined(module: ast.Module) -> set[str]:
    return {statement.name for statement in _statements(module.body) if isinstance(statement, ast.FunctionDef) and statement.name[0] != "_"}


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        for block in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With):
                yield from _statements(getattr(statement, block, []))
        if isinstance(statement, ast.Try):
            for handler in statement.handlers:
                yield from _statements(handler.body)


def _names(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        # What a star brings nobody knows before it runs.
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target] if isinstance(statement, ast.AnnAssign) else []
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _takes_one(arguments: ast.arguments) -> bool:
    positional = [*arguments.posonlyargs, *arguments.args]
    needed = len(positional) - len(arguments.defaults)
    keywords = sum(default is None for default in arguments.kw_defaults)
    return needed <= 1 and bool(positional or arguments.vararg) and keywords == 0
