"""What a network was asked for lately, in the words of `tests.builders`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from scheduler.engine.snapshot import WHOLE, Mix, Snapshot
from tests.builders import job


def mixed(snapshot: Snapshot, asked: Mapping[str, int]) -> Snapshot:
    """The same world after `asked`: sizes as jobs have them, each with how many workers; `1+1H200|A100` may have either model."""
    models = snapshot.resources[2:]
    cpu, milli, allowed = [], [], []
    for words in asked:
        amount, *others = words.split("|")
        size = job("j", amount).size
        able = {*size.accelerators, *others}
        cpu.append(size.cpu)
        milli.append(round(sum(size.accelerators.values()) * WHOLE))
        allowed.append([model in able for model in models])
    table = np.array(allowed, dtype=np.bool_).reshape(len(asked), len(models))
    mix = Mix(np.array(cpu, dtype=np.float64), np.array(milli, dtype=np.int64), table, np.array(list(asked.values()), dtype=np.int64))
    return replace(snapshot, mix=mix)
