"""What a run of checks is told, and what is read of it, and of runs that failed, when they are over.  Blocking."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from polpod.config import Config
from polpod.model.assessments import Assessment, decode
from polpod.model.expectations import (
    DIMENSIONS,
    Expectation,
    FileExists,
    Metric,
    Review,
    Script,
    Test,
    expectations_of,
    metrics_of,
)
from polpod.model.runs import Phase, Run
from polpod.model.tasks import Task
from polpod.rules.prompts import KEPT, original
from polpod.runner import contract, directory
from polpod.services.instance import Instance

MARGIN = 60.0
"""Seconds beyond what all checks may take, after which it is not one of them that does not end."""
SHOWN = 200
"""Characters of a command that name its check."""


class Evidence(NamedTuple):
    """What is known of a run beside its row."""

    tail: str = ""
    assessment: Assessment | None = None


def argv(path: str) -> list[str]:
    """The job of a run of checks."""
    return [sys.executable, "-I", "-m", "polpod.runner.review", path]


def review_spec(task: Task, run: Run, config: Config, result: str, work_log: str) -> contract.ReviewSpec:
    """What the job of this run is told; `work_log` is the log of the work that is judged."""
    settings = config.settings
    grace = settings.kill_grace / 1000 if task.kill_grace is None else task.kill_grace
    about = {
        "id": task.id,
        "title": task.title,
        "description": original(task),
        "attempt": task.attempts,
        "log": work_log,
    }
    checks = checks_of(task, config)
    return {
        "version": contract.VERSION, "run_id": run.id, "task": about, "checks": checks, "grace": grace, "result": result
    }  # fmt: skip


def checks_of(task: Task, config: Config) -> list[contract.Check]:
    """The task's checks, in their order, the metrics last."""
    try:
        expectations, metrics = expectations_of(task.expectations), metrics_of(task.metrics)
    except msgspec.ValidationError as exc:  # a program that has the store as a library keeps there what it likes
        return [
            {"type": "unreadable", "label": f"its checks cannot be read: {exc}", "confidence": "firm", "timeout": 1.0}
        ]
    return [*(_check(e, config) for e in expectations), *map(_metric, metrics)]


def longest(task: Task, config: Config) -> float:
    """Seconds after which the run of the task's checks is ended: when one of them does not end, it was over before."""
    checks, grace = (
        checks_of(task, config),
        config.settings.kill_grace / 1000 if task.kill_grace is None else task.kill_grace,
    )
    return MARGIN + sum((check["timeout"] + grace) * check.get("reviewers", 1) for check in checks)


def _check(said: Test | Script | FileExists | Review, config: Config) -> contract.Check:
    check: contract.Check = {
        "type": said.kind, "label": _label(said), "timeout": said.timeout_ms / 1000,
        "confidence": said.confidence or ("estimated" if isinstance(said, FileExists) else "firm"),
    }  # fmt: skip
    match said:
        case Test(command=command):
            check["argv"] = _shell(command)
        case Script(command=command):
            check["argv"] = ["bash", "-euo", "pipefail", "-c", command] if "\n" in command.strip() else _shell(command)
        case FileExists(paths=paths):
            check["paths"] = list(paths)
        case Review():
            asked = config.settings.review_command
            if said.command is None and asked is None:
                return {**check, "type": "unreadable", "label": NO_REVIEWER}
            check["argv"] = _shell(said.command) if said.command is not None else list(asked or ())
            check["criteria"] = said.criteria
            check["dimensions"] = [
                {"name": d.name, "weight": d.weight, "description": d.description, "rubric": d.rubric}
                for d in said.dimensions or DIMENSIONS
            ]
            check["threshold"], check["reviewers"] = said.threshold, said.reviewers
    return check


NO_REVIEWER = "nobody to ask for a review: set `reviewCommand` in polpo.json, or `command` in the expectation"


def without_reviewer(expectations: Iterable[Expectation], config: Config) -> int | None:
    """The number of the first review for which there is nobody to ask."""
    asked = config.settings.review_command
    for number, said in enumerate(expectations):
        if isinstance(said, Review) and said.command is None and asked is None:
            return number
    return None


def _metric(said: Metric) -> contract.Check:
    return {
        "type": "metric", "label": said.name, "name": said.name, "confidence": "firm",
        "timeout": said.timeout_ms / 1000, "argv": _shell(said.command), "threshold": said.threshold,
    }  # fmt: skip


def _shell(text: str) -> list[str]:
    return ["/bin/sh", "-c", text]


def _label(said: Test | Script | FileExists | Review) -> str:
    match said:
        case Test(command=text) | Script(command=text):
            label = text
        case FileExists(paths=paths):
            label = ", ".join(paths)
        case Review(criteria=criteria):
            label = criteria or "of the work"
    label = " ".join(label.split())
    return label if len(label) <= SHOWN else f"{label[:SHOWN]}…"


def evidence(instance: Instance, run: Run) -> Evidence:
    """Of a run that is over, of checks or of work that did not succeed.  Raises OSError when it cannot be read now: that says nothing of what is there."""
    if run.phase is Phase.REVIEW:
        return Evidence(assessment=_assessment(instance, run))
    return Evidence(tail=_tail(run.log_path))


def _assessment(instance: Instance, run: Run) -> Assessment | None:
    data = directory.read_assessment(instance.paths.run(run.id), contract.ASSESSMENT_SIZE + 1)
    if data is None or len(data) > contract.ASSESSMENT_SIZE:
        return None
    try:
        return decode(data, run.id)
    except (ValueError, RecursionError):  # its checks could write there, too; what means nothing is no verdict
        return None


def _tail(path: str) -> str:
    """The last characters of a log, without what no store keeps."""
    try:
        fd = directory.open_left(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return ""
    try:
        size = os.fstat(fd).st_size
        data = os.pread(fd, 4 * KEPT, max(0, size - 4 * KEPT))
    finally:
        os.close(fd)
    text = data.decode(errors="replace")
    return "".join(c if c in "\n\t" or c.isprintable() else " " for c in text).strip()[-KEPT:]
