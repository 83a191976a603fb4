"""The kills, and at which stage of which kind of run each may come.

A blow is struck at a target that has reached a stage; then everything is started again that a machine's own services would start again.
`spares` says of a blow that no run may be lost by it: each job is done at its first attempt, and its work once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.kills.agents import STEPS
from tests.kills.cable import CUTS
from tests.kills.field import Field, Target
from tests.network import until
from tests.ray import WAIT_S, is_alive, parent_of

KINDS = ("sql", "command", "gang")
STAGES = ("submitted", "starting", "running", "ended", "settled")
DASHBOARD = "dashboard/dashboard.py"
Strike = Callable[[Field, Target, random.Random], None]


Aim = Callable[[Field, random.Random], None]


class Shot(NamedTuple):
    """One kind of kill at one stage of one kind of run, or at a step of the agent, for which it is condemned before there is a run."""

    blow: str
    kind: str
    stage: str
    strike: Strike
    spares: bool
    aim: Aim = lambda _field, _by: None

    def __str__(self) -> str:
        return f"{self.blow}: {self.stage} of {self.kind}"


def reach(field: Field, target: Target, stage: str) -> None:
    """Bring a job to a stage; what it passes quickly it may have left."""
    if stage == "starting":
        field.until_state(target, "starting", "running")
    elif stage == "running":
        field.until_begun(target) if target.kind != "sql" else field.sql_process(target)
    elif stage == "ended":
        field.until_ended(target)
    elif stage == "settled":
        field.ledger.let_go(target.id)
        field.until_state(target)


def _kill(*processes: int, number: signal.Signals = signal.SIGKILL) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
    until(lambda: not any(map(is_alive, processes)), f"{processes} are gone", WAIT_S)


# --- what spares every run ---


def kill_agent(field: Field, _target: Target, _by: random.Random) -> None:
    field.agents.kill()


def condemn_at(step: str) -> Aim:
    """From now on the agent dies before or after a step."""
    return lambda field, by: field.agents.condemn(step, by.choice(("before", "after")), by.choice((1, 1, 2)))


def await_the_end(field: Field, target: Target, _by: random.Random) -> None:
    """A condemned agent dies at its step, or, where it never came there, when it has nothing left to do."""
    field.ledger.let_go(target.id)
    until(
        lambda: not field.agents.alive or (field.state(target) == "succeeded" and not field.left(target)), "it dies, or all is done", WAIT_S
    )
    if field.agents.spare():
        field.agents.kill()


def kill_server(field: Field, _target: Target, _by: random.Random) -> None:
    field.network.kill_server()


def end_dashboard(field: Field, _target: Target, _by: random.Random) -> None:
    # `ray start --block` goes on after this signal; after another one it would end the whole head.
    [process] = field.ray_processes(DASHBOARD)
    field.start_again_like(process)
    _kill(process, number=signal.SIGTERM)


def cut_shortly(field: Field, target: Target, by: random.Random) -> None:
    """The network is cut while the run goes on, and is there again before the lease ends."""
    field.cable.cut(by.choice(CUTS))
    field.ledger.let_go(target.id)
    if field.ledger.done(target.id, "begin"):
        until(lambda: field.ledger.done(target.id, "end"), f"{target.id} works on", WAIT_S)


# --- what may cost a run ---


def kill_worker_process(field: Field, target: Target, by: random.Random) -> None:
    """Of a statement its worker; of a command a program of the user's, its leash or its supervisor: the program ends in any case."""
    if target.kind == "sql":
        _kill(*filter(None, [field.sql_process(target)]))
        return
    line = by.choice(field.until_begun(target))
    _kill(by.choice((line.process, line.leash, parent_of(line.leash))))
    until(lambda: not is_alive(line.process), "the program ends", WAIT_S)


def kill_head(field: Field, _target: Target, _by: random.Random) -> None:
    field.head.kill()


def kill_node(field: Field, _target: Target, _by: random.Random) -> None:
    assert field.second is not None
    field.second.kill()


def kill_part_of_head(words: str) -> Strike:
    """Ray's own watch over its processes ends the others then."""

    def strike(field: Field, _target: Target, _by: random.Random) -> None:
        _kill(*field.ray_processes(words))
        until(lambda: not field.head.running, "Ray ends all of the head", WAIT_S)

    return strike


def cut_beyond_the_lease(field: Field, target: Target, by: random.Random) -> None:
    """The network is cut until the server gives the run up. By then the agent has ended it."""
    field.cable.cut(by.choice(("broken", "silent")))  # A deaf agent is heard, and given up by nobody.
    until(lambda: field.network.cluster("sh")["health"] == "lost", "the member is lost", WAIT_S)
    assert not field.processes(target), "a run that is given up goes on"
    field.ledger.let_go(target.id)


def shots(blow: str, strike: Strike, *, spares: bool, kinds: Sequence[str] = KINDS, stages: Sequence[str] = STAGES) -> list[Shot]:
    return [Shot(blow, kind, stage, strike, spares) for kind, stage in itertools.product(kinds, stages)]


CHEAP = [
    *(Shot("agent at a step", kind, step, await_the_end, True, condemn_at(step)) for kind in KINDS for step in STEPS[kind]),
    *shots("agent", kill_agent, spares=True),
    *shots("cable", cut_shortly, spares=True, stages=STAGES[:-1]),
    *shots("dashboard", end_dashboard, spares=True, kinds=("command",)),
    *shots("worker", kill_worker_process, spares=False, stages=("running",)),
]
DEAR = [
    *shots("server", kill_server, spares=True),
    *shots("head", kill_head, spares=False),
    *shots("gcs", kill_part_of_head("gcs_server"), spares=False),
    *shots("raylet", kill_part_of_head("raylet/raylet"), spares=False),
    *shots("cable beyond the lease", cut_beyond_the_lease, spares=False, stages=("submitted", "running", "ended")),
]
NODE = shots("node", kill_node, spares=False, stages=("starting", "running", "ended"))


def chosen(shots: Sequence[Shot], seed: int) -> tuple[Shot, random.Random]:
    """The shot of a seed, and the chance of what else is open. As many seeds as there are shots have each once, few have of each blow."""
    turn, place = divmod(seed, len(shots))
    blows: dict[str, list[Shot]] = {}
    for shot in random.Random(turn).sample(shots, len(shots)):
        blows.setdefault(shot.blow, []).append(shot)
    rounds = itertools.zip_longest(*(blows[name] for name in sorted(blows)))
    return [shot for around in rounds for shot in around if shot is not None][place], random.Random(seed)
