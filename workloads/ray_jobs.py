"""`kind: ray`: what a job may ask of Ray's runtime environments, and what the operator of a cluster allows.

A Ray program brings what its tasks need in a *runtime environment*. Of all that Ray knows there three fields are taken, because
each of them can be bounded: variables, folders of the job's own files, and packages from a directory that the operator filled. The
rest (containers, other interpreters, URLs) would let a job choose what runs on the nodes. Which of the three a cluster takes its
operator says, and a cluster of which nothing is said runs no such jobs at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from workloads.faults import Fault, refuse

EnvField = Literal["env_vars", "py_modules", "pip"]
FIELDS: tuple[EnvField, ...] = ("env_vars", "py_modules", "pip")
# Ray reads its own settings, its token's place among them, from variables; ours tell a run who it is.
RESERVED_PREFIXES = ("CPN_", "RAY_")
PYTHONS = frozenset({"python", "python3"})

_VERSION = r"(==|~=|!=|<=|>=|<|>)[A-Za-z0-9.!+*_-]{1,64}"
Requirement = Annotated[
    str, StringConstraints(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,127}}(\[[A-Za-z0-9._,-]{{1,127}}\])?({_VERSION}(,{_VERSION})*)?$")
]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Folder = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RuntimeEnv(_Frozen):
    """What the tasks and actors of a job of kind ray have beside the node's own packages."""

    env_vars: dict[Variable, str] = Field(default={}, max_length=200, description="variables of its tasks and actors")
    py_modules: tuple[Folder, ...] = Field(
        default=(), strict=False, max_length=50, description="folders among files, importable everywhere"
    )
    pip: tuple[Requirement, ...] = Field(
        default=(), strict=False, max_length=200, description="packages by name and version, from the directory that the operator filled"
    )

    @model_validator(mode="before")
    @classmethod
    def _only_what_can_be_bounded(cls, document: Any) -> Any:
        if isinstance(document, dict):
            unknown = sorted(str(name) for name in document if name not in FIELDS)
            refuse(
                "RuntimeEnv",
                [((name,), f"is not taken; there are {', '.join(FIELDS)}, or have it installed on the nodes") for name in unknown],
            )
        return document

    @model_validator(mode="after")
    def _variables_are_the_users(self) -> Self:
        refuse("RuntimeEnv", _variable_faults(self.env_vars))
        return self

    @property
    def used(self) -> tuple[EnvField, ...]:
        """The fields that ask for something."""
        return tuple(field for field in FIELDS if getattr(self, field))


class RayJobs(_Frozen):
    """That a cluster runs jobs of kind ray, and what they may bring."""

    runtime_env: tuple[EnvField, ...] = Field(
        default=("env_vars", "py_modules"), strict=False, description="the fields of runtime_env that jobs may use here"
    )
    wheelhouse: str = Field(
        default="", max_length=4096, description="with pip: a directory of wheels on every node, the only source of packages"
    )

    @model_validator(mode="after")
    def _packages_have_a_source(self) -> Self:
        faults: list[Fault] = []
        if "pip" in self.runtime_env and not self.wheelhouse.startswith("/"):
            faults.append((("wheelhouse",), "pip needs the absolute path of a directory of wheels on every node"))
        if "pip" not in self.runtime_env and self.wheelhouse:
            faults.append((("wheelhouse",), "is used by pip alone; leave it out, or add pip to runtime_env"))
        refuse("RayJobs", faults)
        return self


def forbidden(asked: RuntimeEnv | None, rules: RayJobs | None) -> tuple[str, str] | None:
    """Why a cluster with these rules does not run a job of kind ray that asks for this, and what would change it; None where it does."""
    if rules is None:
        return "kind ray: its operator has not switched it on", "choose another cluster, or ask its operator for ray_jobs"
    missing = [field for field in (asked.used if asked else ()) if field not in rules.runtime_env]
    if not missing:
        return None
    named = ", ".join(f"runtime_env.{field}" for field in missing)
    allowed = ", ".join(rules.runtime_env) or "nothing"
    return f"kind ray: its operator does not allow {named} (allowed: {allowed})", "leave it out, or choose another cluster"


def command_faults(command: tuple[str, ...]) -> Iterator[Fault]:
    """What keeps a command from being a Ray program: it has to be a Python script or module, which is run in a prepared interpreter."""
    if command and command[0] and command[0] not in PYTHONS:
        yield ("command", 0), "kind ray runs a Python program; write [python, main.py, …] or [python, -m, module, …]"
    elif command and (len(command) < 2 or not command[1] or (command[1].startswith("-") and (command[1] != "-m" or len(command) < 3))):
        yield ("command",), "names no script; write [python, main.py, …] or [python, -m, module, …]"


def module_faults(asked: RuntimeEnv, files: Iterable[str]) -> Iterator[Fault]:
    """Folders that are not among the job's files."""
    present = tuple(files)
    for index, folder in enumerate(asked.py_modules):
        if any(part in ("", ".", "..") for part in folder.split("/")) or not any(path.startswith(f"{folder}/") for path in present):
            yield ("runtime_env", "py_modules", index), f"{folder!r} is no folder of the job's files; name one that files has paths in"


def _variable_faults(variables: dict[str, str]) -> Iterator[Fault]:
    for name, value in variables.items():
        if name.startswith(RESERVED_PREFIXES):
            yield ("env_vars", name), f"names that begin with {' or '.join(RESERVED_PREFIXES)} are set by cpn and Ray; choose another name"
        if "\0" in value:
            yield ("env_vars", name), "holds a NUL character, which no process can be given"
