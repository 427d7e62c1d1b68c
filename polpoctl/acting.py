"""What cancel, retry, remove, hold and release share: one call for the tasks that are selected, a result for each."""

from __future__ import annotations

from polpoctl import exits, selection
from polpoctl.render import Screen, notice
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from polpoctl.client import Connection


def perform(args: Namespace, connection: Connection, method: str) -> tuple[list[dict[str, Any]], int]:
    """Call the method on the selected tasks and say what came of it; returns the results and the exit code."""
    results: list[dict[str, Any]] = connection.call(method, {"select": selection.required(args)})["results"]
    screen = Screen(args)
    if screen.json:
        screen.value(results)
    else:
        screen.table(("ID", "STATUS"), [(r["id"], r["status"]) for r in results if not r.get("error")], state=1)
    refused = [(r["id"], r["error"]) for r in results if r.get("error")]
    for task_id, error in refused:
        notice(f"{task_id}: {error['message']}")
    if not results:
        notice("no task is selected")
    errors = (RemoteError(error["code"], error["message"], error.get("data")) for _, error in refused)
    return results, exits.of_errors(errors, len(results))
