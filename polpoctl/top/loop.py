"""Joins the daemon's news, the keys and the terminal: draws when something is to be seen, and else waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from polpoctl.client import Connection
from polpoctl.top.feed import Feed
from polpoctl.top.keys import Keys
from polpoctl.top.paint import Painter
from polpoctl.top.state import State
from polpoctl.top.terminal import Gone, Terminal

FRAME = 0.2
"""Seconds between pictures, at least, unless a key was pressed."""
TICK = 1.0
"""Seconds after which times are looked at again."""
ESCAPE = 0.2
"""Seconds within which the rest of a sequence comes, on a slow line too; else it was the key Escape."""


def run(opened: Callable[[], Connection], *, colour: bool) -> None:
    """Until somebody quits, or is there no more.  Raises what a thread of the feed could not go on with."""
    with Terminal() as terminal:
        broken: list[threading.ExceptHookArgs] = []

        def failed(args: threading.ExceptHookArgs) -> None:
            broken.append(args)
            terminal.ring()

        threading.excepthook = failed
        feed = Feed(opened, terminal.ring)
        state = State(feed)
        feed.start()
        try:
            _turn(terminal, feed, state, Painter(colour=colour), broken)
        except Gone:
            pass
        feed.close()
    for args in broken:
        if args.exc_value is not None:
            raise args.exc_value


def _turn(
    terminal: Terminal, feed: Feed, state: State, painter: Painter, broken: list[threading.ExceptHookArgs]
) -> None:
    keys = Keys()
    typed = 0.0
    while not state.over and not broken:
        width, height = terminal.size()
        state.height = height
        terminal.draw(painter.picture(state, width, height, time.time()))
        drawn, waits = time.monotonic(), TICK
        while True:
            data = terminal.wait(min(waits, ESCAPE) if keys.unfinished else waits)
            pressed = keys.feed(data)
            if data:
                typed = time.monotonic()
            elif keys.unfinished and time.monotonic() - typed >= ESCAPE:
                pressed = keys.flush()
            for key in pressed:
                if key == "redraw":
                    terminal.forget()
                state.press(key)
            for _ in range(feed.news.qsize()):  # and not what comes meanwhile, so that keys have their turn
                state.accept(feed.news.get())
            waits = drawn + FRAME - time.monotonic()
            if pressed or waits <= 0 or broken:
                break
