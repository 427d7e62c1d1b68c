"""How what an agent is to do reaches its program: the command that is filled in, the files beside it, and its stdin.

Rules:

1. What a run executes is made of its task as it is when the run starts: retries and corrections rewrite descriptions.
2. What comes by stdin or from a file is in no argument, where anybody on the host could read it; the files are for
   the job's own user, and go with the run.
3. What a command became is kept with the run, long arguments cut; its environment never.
"""

from __future__ import annotations

from typing import Any

import msgspec

from polpod.model.runs import Run
from polpod.model.tasks import Spec, Task
from polpod.paths import RunDirectory
from polpod.rules import templates
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.tables import Tasks

MOST_SHOWN = 1000
"""Characters of an argument that are kept with the run: a prompt is in its task, too."""

MOST_TOLD = 100
"""Tasks that a context tells of."""


def filled(files: RunDirectory, run_id: int, attempt: int, task: Task, spec: Spec) -> list[str]:
    """The agent's command with everything in its places."""
    values = {
        "prompt": task.description,
        "prompt_file": files.prompt,
        "task_id": task.id,
        "run_id": str(run_id),
        "attempt": str(attempt),
        "title": task.title,
        "cwd": spec.cwd,
        "agent": task.assigned_to or "",
        "execution_id": task.execution_id or "",
        "context_file": files.context,
    }
    return templates.fill(spec.template or (), values)


def shown(files: RunDirectory, run_id: int, attempt: int, task: Task, spec: Spec) -> str | None:
    """What is kept of it with the run, as JSON; None for a command that is no agent's."""
    if spec.template is None:
        return None
    parts = [_cut(part) for part in filled(files, run_id, attempt, task, spec)]
    return msgspec.json.encode(parts).decode()


def stdin(files: RunDirectory, spec: Spec) -> str | None:
    """The file that the job reads."""
    by_stdin = spec.agent is not None and spec.agent.prompt == "stdin"
    return files.prompt if by_stdin else spec.stdin


def texts(files: RunDirectory, task: Task, spec: Spec, context: bytes | None) -> dict[str, bytes]:
    """What the run directory has for the job, by path."""
    if spec.template is None:
        return {}
    wanted = {}
    if stdin(files, spec) == files.prompt or "prompt_file" in templates.places(spec.template):
        wanted[files.prompt] = task.description.encode()
    if context is not None:
        wanted[files.context] = context
    return wanted


def context(tx: Tx, task: Task, run: Run, spec: Spec) -> bytes | None:
    """What an agent may want to know beside its prompt, as JSON; None: its command names no file for it."""
    if spec.template is None or "context_file" not in templates.places(spec.template):
        return None
    mission = tx[Missions].get(task.mission_id) if task.mission_id is not None else None
    before = [other for other_id in task.depends_on[:MOST_TOLD] if (other := tx[Tasks].get(other_id)) is not None]
    return msgspec.json.encode(
        {
            "run_id": run.id,
            "attempt": run.attempt,
            "task": _told(task) | {"description": task.description, "labels": task.labels, "phase": task.phase},
            "mission": None if mission is None else {"id": mission.id, "name": mission.name, "prompt": mission.prompt},
            "execution_id": task.execution_id,
            "depends_on": [_told(other) for other in before],
        }
    )


def _told(task: Task) -> dict[str, Any]:
    """A task, and what became of its last run."""
    return {"id": task.id, "title": task.title, "status": task.status, "result": task.result}


def _cut(part: str) -> str:
    return part if len(part) <= MOST_SHOWN else f"{part[:MOST_SHOWN]}… ({len(part)} characters)"
