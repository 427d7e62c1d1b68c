"""What an agent is told of the attempt before (polpo-behaviour §9.1, §13.143): its task as it was said, and what failed.

Rule: a prompt is made of the original description each time, so that it does not grow from one attempt to the next.
"""

from __future__ import annotations

from polpod.model.assessments import Assessment
from polpod.model.runs import Run
from polpod.model.tasks import Task

KEPT = 2000
"""Characters of what a job, or a check, wrote."""
LONGEST = 8000
"""Characters that are said of failures, all together."""


def original(task: Task) -> str:
    """What the task is, in the words of whoever gave it."""
    return task.description if task.original_description is None else task.original_description


def after_run(task: Task, run: Run, tail: str) -> str:
    """For another attempt, after a run that failed."""
    how = f"Its exit code was {run.exit_code}." if run.exit_code is not None else f"It ended so: {run.reason}."
    wrote = f"\n\nThe last of what it wrote:\n\n{tail[-KEPT:]}" if tail.strip() else ""
    return f"{original(task)}\n\n## The attempt before this one failed\n\n{how}{wrote}"


def after_checks(task: Task, found: Assessment | None, *, fix: bool) -> str:
    """For a fix, or for another attempt, after checks that the work did not pass."""
    if fix:
        head = "## To be put right\n\nThe work is there, and did not pass its checks. Keep what is good, and change what is not."
    else:
        head = "## The attempt before this one failed\n\nIts work did not pass its checks."
    return f"{original(task)}\n\n{head}\n\n{report(found)}"


def report(found: Assessment | None) -> str:
    """What failed, in words."""
    if found is None:
        return "What exactly is not known: the checks could not be carried out."
    parts = []
    for one in found.bad:
        what = getattr(one, "label", "") or getattr(one, "name", "")
        kind = getattr(one, "type", "metric")
        part = f"- {kind} {what}: {one.message}"
        if one.output:
            part += f"\n\n{_indented(one.output[-KEPT:])}\n"
        parts.append(part)
    if found.scores:
        lowest = min(found.scores, key=lambda name: (found.scores or {})[name])
        scores = ", ".join(f"{name} {value:.1f}" for name, value in found.scores.items())
        parts.append(f"- scores, from 1 to 5: {scores}; the lowest is {lowest}: begin there")
    text = "\n".join(parts) or f"- {found.message}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} […]"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
