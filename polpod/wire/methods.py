"""The names of the methods that a polpod answers, `noun.verb` (DESIGN §9).  What they take and give: `rpc.discover`."""

from __future__ import annotations

METHODS = (
    "agent.list",
    "daemon.health",
    "daemon.reload",
    "daemon.shutdown",
    "daemon.status",
    "event.list",
    "queue.list",
    "queue.set",
    "rpc.discover",
    "run.get",
    "run.list",
    "run.report",
    "store.backup",
    "store.prune",
    "task.cancel",
    "task.get",
    "task.hold",
    "task.list",
    "task.logs",
    "task.release",
    "task.remove",
    "task.retry",
    "task.submit",
    "task.submit_many",
    "task.update",
    "task.wait",
    "task.why",
)
