"""What programs under fire leave behind: a line in a file for each thing that they did, so that nothing is done twice unseen.

A program says that it began, waits until it is let go, and says that it ended. A lock for each worker of a job shows two attempts that
live at the same time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

PROGRAM = """
exec 9>> "$LEDGER/lock-$CPN_JOB_ID-$RANK"
flock --nonblock 9 || echo "overlap $CPN_RUN_ID $RANK $$ $PPID" >> "$LEDGER/lines"
echo "begin $CPN_RUN_ID $RANK $$ $PPID" >> "$LEDGER/lines"
while [ ! -e "$LEDGER/go-$CPN_JOB_ID" ]; do sleep 0.05; done
echo "said by $CPN_RUN_ID"
head -c 300000 /dev/zero > "$CPN_OUTPUT_DIR/file"
echo "end $CPN_RUN_ID $RANK $$ $PPID" >> "$LEDGER/lines"
"""
# About a third of a second on one core, so that there is a moment to hit.
STATEMENT = "SELECT count(*) AS counted FROM range(60000) a, range(5000) b WHERE (a.range + b.range) % 7 = 0"


class Line(NamedTuple):
    """One thing that a worker did. `leash` is the parent of its process."""

    word: str
    run_id: str
    rank: int
    process: int
    leash: int


class Ledger:
    """The file, and the way to let programs go."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._path = folder / "lines"
        self._path.touch()

    def job(self, kind: str, name: str, **more: Any) -> dict[str, Any]:
        """A job that is tried until it succeeds."""
        always = {"attempts": 50, "on": ["infrastructure", "exit"]}
        document: dict[str, Any] = {
            "name": name, "tenant": "acme", "kind": "sql" if kind == "sql" else "command", "purpose": "research", "max_runtime": "10m",
            "retry": always, "resources": {"cpu": 1, "memory": "64MiB", **({"workers": 2} if kind == "gang" else {})}, **more,
        }  # fmt: skip
        if kind == "sql":
            return {**document, "sql": STATEMENT}
        return {**document, "command": ["sh", "main.sh"], "files": {"main.sh": PROGRAM}, "env": {"LEDGER": str(self.folder)}}

    def let_go(self, job_id: str) -> None:
        """All attempts at a job may end."""
        (self.folder / f"go-{job_id}").touch()

    def lines(self, job_id: str) -> list[Line]:
        """What was done for a job so far, in order."""
        found = [text.split() for text in self._path.read_text().splitlines()]
        lines = [Line(word, run_id, *map(int, numbers)) for word, run_id, *numbers in found]
        return [line for line in lines if line.run_id.rpartition("-")[0] == job_id]

    def done(self, job_id: str, word: str) -> dict[str, list[Line]]:
        """By run, the lines with this word."""
        found: dict[str, list[Line]] = {}
        for line in self.lines(job_id):
            if line.word == word:
                found.setdefault(line.run_id, []).append(line)
        return found
