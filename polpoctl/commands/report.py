"""`report`: a job says how far it is, or that it goes on; what it said last is shown with its task."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

_USAGE = {"progress": "progress PERCENT [TEXT]", "activity": "activity [TEXT]"}


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb",
        choices=tuple(_USAGE),
        help="progress: how many per cent are done, and what is being done; activity: what is being done, or only that "
        "something is, so that nobody takes the job for stale",
    )
    parser.add_argument(
        "words",
        metavar="PERCENT [TEXT]",
        nargs="*",
        help="for progress: PERCENT [TEXT], PERCENT such as 40, 40%% or 0.4; for activity: [TEXT]",
    )


def run(args: Namespace) -> int:
    answer = connect(args).call(f"run.{args.verb}", _params(args.verb, args.words))
    screen = Screen(args)
    if screen.json:
        screen.value(answer["progress"])
    return exits.OK


def _params(verb: str, words: list[str]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    if verb == "progress":
        if not words:
            raise exits.usage("usage: polpoctl report progress PERCENT [TEXT]")
        params["percent"] = _percent(words[0])
        words = words[1:]
    return params | ({"text": " ".join(words)} if words else {})


def _percent(text: str) -> float:
    """Of `40`, of `40%`, and of a part of 1 as `0.4`; who means less than one per cent writes `0.4%`."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if "." in text and 0 <= percent <= 1 and not text.endswith("%"):
        percent *= 100
    if not 0 <= percent <= 100:
        raise exits.usage(f"{text!r} is no percentage: a number from 0 to 100, or a part of 1 such as 0.4")
    return percent
