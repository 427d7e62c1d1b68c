"""`message`: say something in a channel, and read what was said there."""

from __future__ import annotations

import time

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.parsers import positive
from polpoctl.render import Screen
from polpoctl.times import ago

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb", choices=("send", "history"), help="send: say TEXT in CHANNEL; history: what was said there last"
    )
    parser.add_argument(
        "channel", metavar="CHANNEL", help="which channel; there is one as soon as somebody speaks in it"
    )
    parser.add_argument("text", metavar="TEXT", nargs="*", help="for send: what is said")
    parser.add_argument("--to", metavar="NAME", help="for send: for whom (default: whoever reads the channel)")
    parser.add_argument(
        "-n", "--limit", metavar="N", type=positive, default=100, help="for history: the last N (default: 100)"
    )


def run(args: Namespace) -> int:
    screen = Screen(args)
    if bool(args.text) is not (args.verb == "send"):
        raise exits.usage("usage: polpoctl message send CHANNEL TEXT, or polpoctl message history CHANNEL [-n N]")
    if args.verb == "send":
        said = {"channel": args.channel, "text": " ".join(args.text)} | ({} if args.to is None else {"to": args.to})
        message = connect(args).call("message.send", said)["message"]
        if screen.json:
            screen.value(message)
        return exits.OK
    asked = {"channel": args.channel, "limit": min(args.limit, 1000)}
    messages = connect(args).call("message.history", asked)["messages"]
    if screen.json:
        screen.value(messages)
        return exits.OK
    now = time.time()
    screen.table(("SENT", "FROM", "TEXT"), [_row(message, now, screen.terminal) for message in messages])
    return exits.OK


def _row(message: dict[str, Any], now: float, terminal: bool) -> tuple[str, ...]:
    sent = ago(message["timestamp"], now) if terminal else message["timestamp"]
    return sent, message["from"], message["content"]
