"""Prepares what a runner finds: its cgroup, its run directory, and spec.json.  Blocking; called in a worker thread."""

from __future__ import annotations

import os

from polpod.model.runs import Phase, Run
from polpod.model.tasks import Spec, Task
from polpod.paths import RunDirectory
from polpod.runner import contract, directory
from polpod.runner.containment import Cgroup
from polpod.services import limits, prompts, reviewing
from polpod.services.instance import Instance

JOBS_FIRST = 100
"""Of oom_score_adj, whose unit is a thousandth of the memory; to raise it needs no privilege."""


def prepare(
    instance: Instance,
    run: Run,
    task: Task,
    spec: Spec,
    token: str,
    context: bytes | None = None,
    parked: bytes | None = None,
) -> str | None:
    """Make the run's cgroup and directory; None, or the reason why it cannot start.

    `context`: what its command finds in its context file, where it names one; `parked`: what its job finds as POLPO_CONTEXT.
    """
    settings = instance.config.settings
    place = instance.paths.run(run.id)
    checks = run.phase is Phase.REVIEW
    grace = settings.kill_grace / 1000 if task.kill_grace is None else task.kill_grace
    try:
        for needed in (instance.paths.logs, instance.paths.run_directories):
            if not os.path.lexists(needed):  # somebody cleaned up (F51, F61)
                os.mkdir(needed, 0o700)
        if run.cgroup is not None:
            Cgroup(run.cgroup).make()
        directory.prepare(
            place,
            texts=({} if checks else prompts.texts(place, task, spec, context))
            | ({} if parked is None else {place.parked: parked}),
            spare=instance.spares.take(),
            spec=contract.RunSpec(
                version=contract.VERSION,
                run_id=run.id,
                task_id=run.task_id,
                attempt=run.attempt,
                nonce=run.nonce,
                token=token,
                runs_db=instance.paths.runs_db,
                socket=instance.socket,
                daemon_lock=instance.paths.lock,
                argv=reviewing.argv(place.review) if checks else _argv(place, run, task, spec),
                cwd=spec.cwd,
                env=spec.environment | ({} if parked is None else {"POLPO_CONTEXT": place.parked}),
                umask=spec.umask,
                stdin=None if checks else prompts.stdin(place, spec),
                log_path=run.log_path,
                log_limit=settings.log_limit,
                log_head=min(contract.LOG_HEAD, settings.log_limit // 2),
                containment="session" if run.cgroup is None else "cgroup",
                cgroup=run.cgroup,
                claim_until_mono=run.claim_until_mono,
                kill_grace=grace,
                leftovers=settings.leftovers,
                max_duration=run.max_duration,
                rlimits={"RLIMIT_NOFILE": list(instance.descriptors)},
                nice=os.getpriority(os.PRIO_PROCESS, 0),
                oom_score_adj=_oom_score_adj(),
                **limits.of(task, run),
            ),
        )
        if checks:
            work_log = instance.paths.log(task.result.run_id if task.result is not None else run.id)
            directory.hand_over(place, reviewing.review_spec(task, run, instance.config, place.assessment, work_log))
    except OSError as exc:
        return f"{exc.filename or instance.paths.path}: {exc.strerror}"
    return None


def _argv(files: RunDirectory, run: Run, task: Task, spec: Spec) -> list[str]:
    if spec.template is not None:
        return prompts.filled(files, run.id, run.attempt, task, spec)
    return list(spec.command) if spec.command is not None else ["/bin/sh", "-c", spec.shell or ""]


def _oom_score_adj() -> int:
    """The jobs': when memory is short, the kernel takes them rather than polpod or their runners (F15)."""
    with open("/proc/self/oom_score_adj") as file:
        return min(max(0, int(file.read()) + JOBS_FIRST), 1000)
