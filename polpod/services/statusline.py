"""The line that `systemctl status` shows: what the daemon does, and what keeps it from doing more.

From memory alone; a disk that does not answer holds up nobody here.
"""

from __future__ import annotations

from collections.abc import Sequence

from polpod.services.instance import Instance


def line(instance: Instance, disk: str | None = None, others: Sequence[str] = ()) -> str:
    """`disk`: what is wrong with it, which is why nothing starts, too; `others`: what else is wrong."""
    return "; ".join(filter(None, [_doing(instance), disk or _held_up(instance), *others]))


def _held_up(instance: Instance) -> str | None:
    if instance.tasks.trouble is not None:
        return f"the task store cannot be reached: {instance.tasks.trouble}"
    if instance.launcher_paused is None or instance.stopping.is_set():
        return None
    return f"nothing starts: {instance.launcher_paused}"


def _doing(instance: Instance) -> str:
    tasks, recovery = instance.journal.tasks, instance.recovery
    running = tasks["in_progress"]
    if instance.stopping.is_set():
        if running == 0:
            return "stopping"
        verb = "leaving" if instance.config.settings.on_shutdown == "keep" else "waiting for"
        return f"stopping: {verb} {_runs(running)}"
    if not instance.recovered.is_set():
        return f"recovering: {recovery.done:,} of {_runs(recovery.total)} looked at"
    counts = {"running": running, "queued": tasks["pending"], "awaiting approval": tasks["awaiting_approval"]}
    return ", ".join(f"{n:,} {word}" for word, n in counts.items() if n) or "idle"


def _runs(number: int) -> str:
    return f"{number:,} run{'' if number == 1 else 's'}"
