"""`ask`: a job asks a person; it ends and goes on with the answer, or waits for it."""

from __future__ import annotations

import time

from polpoctl import exits
from polpoctl.client import Lasting, connect
from polpoctl.conversation import FOR_EVER, TimeRanOut
from polpoctl.render import Screen, notice
from polpoctl.times import duration

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

LONG_POLL = 20.0


def options(parser: ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT", nargs="+", help="what is asked")
    parser.add_argument(
        "--wait", action="store_true",
        help="wait for the answer and print it; otherwise end the job with exit code 0, and the task is run again with "
        "the answer once there is one",
    )  # fmt: skip
    parser.add_argument("--timeout", metavar="D", type=duration, help="with --wait: at most so long; then exit 124")


def run(args: Namespace) -> int:
    if args.timeout is not None and not args.wait:
        raise exits.usage("--timeout is for --wait")
    # Asking the same again is asking once, so that it may be said again to a polpod that was away.
    daemon, screen = Lasting(connect(args), FOR_EVER), Screen(args)
    asked = daemon.call("approval.ask", {"text": " ".join(args.text)})["approval"]
    if not args.wait:
        if screen.json:
            screen.value(asked)
        notice(f"asked ({asked['id']}): end with exit code 0, and the task goes on when somebody answers")
        return exits.OK
    over = _answer(daemon, asked["id"], FOR_EVER if args.timeout is None else time.monotonic() + args.timeout)
    if over is None:
        notice(f"nobody has answered yet; the question stays ({asked['id']})")
        return exits.TIMED_OUT
    if screen.json:
        screen.value(over)
    elif over["status"] == "approved":
        screen.line(over["feedback"] or "")
    if over["status"] == "approved":
        return exits.OK
    notice(f"the question is {over['status']}{': ' + over['note'] if over['note'] else ''}")
    return exits.FAILED


def _answer(daemon: Lasting, request_id: str, until: float) -> dict[str, Any] | None:
    """The request once somebody answered; None: nobody has in time."""
    while True:
        timeout = max(0.0, min(LONG_POLL, until - time.monotonic()))
        try:
            over: dict[str, Any] | None = daemon.call("approval.await", {"id": request_id, "timeout": timeout}, until)[
                "approval"
            ]
        except TimeRanOut:
            return None
        if over is not None or time.monotonic() >= until:
            return over
