"""The terminal: taken over, drawn upon, and given back as it was, whatever happens.

Rules:

1. What it shows comes from `grid` alone, what is typed goes to `keys` alone.
2. It is given back before anything else may write to it: on leaving, on Ctrl-Z, on a signal that ends the process.
3. A write waits until the line has taken it: so a slow one gets fewer pictures, and none is ever queued.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from types import FrameType

from polpoctl.top import grid
from polpoctl.top.grid import Grid

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # the alternate screen, no cursor, no line wraps
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_OURS = (signal.SIGINT, signal.SIGTSTP, signal.SIGWINCH, *_ENDING)
_STUCK = 1.0
"""Seconds after which a terminal that takes nothing, as after Ctrl-S, is left without a word."""


class Gone(Exception):
    """Nobody is at the terminal any more."""


class Terminal:
    """stdin and stdout, which must be a terminal; a context."""

    def __init__(self) -> None:
        self._shown: Grid | None = None
        self._taken = False
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        os.set_blocking(self._wake, False)

    def __enter__(self) -> Terminal:
        self._before = termios.tcgetattr(0)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where somebody had it ignored
        signal.signal(signal.SIGTSTP, self._suspend)
        signal.signal(signal.SIGWINCH, self._resized)
        for number in _ENDING:
            signal.signal(number, _end)
        try:
            self._take()
        except BaseException:  # of a signal too: then nobody leaves what was not entered
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for number in _OURS:  # a second one would come before it is given back
            signal.signal(number, signal.SIG_IGN)
        try:
            self._give_back()
        except (Gone, termios.error):  # there is nobody to give it to
            pass
        for number in _OURS:
            signal.signal(number, signal.SIG_DFL)

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            found = os.get_terminal_size(1)
        except OSError:
            raise Gone from None
        return found.columns or 80, found.lines or 24

    def ring(self) -> None:
        """End `wait`; for other threads."""
        try:
            os.write(self._waker, b"!")
        except BlockingIOError:  # it rings already
            pass

    def wait(self, seconds: float | None) -> bytes:
        """What was typed; nothing once somebody rang or the time is over.  Raises Gone."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        ready = dict(poll.poll(None if seconds is None else max(0.0, seconds) * 1000))
        if self._wake in ready:
            os.read(self._wake, 4096)
        if 0 not in ready:
            return b""
        try:
            data = os.read(0, 4096)
        except OSError:
            raise Gone from None
        if not data:
            raise Gone
        return data

    def draw(self, new: Grid) -> None:
        """Show this; what it shows already is not sent again.  Raises Gone."""
        shown, self._shown = self._shown, new  # first: a signal may have it forgotten meanwhile
        if shown is not None and [len(shown), len(shown[0])] != [len(new), len(new[0])]:
            shown = None
        self._write(grid.changes(shown, new))

    def forget(self) -> None:
        """What it shows is not known any more: all of it is drawn next time."""
        self._shown = None

    def _take(self) -> None:
        tty.setcbreak(0, termios.TCSAFLUSH)
        self._taken = True
        self.forget()
        self._write(_ENTER)

    def _give_back(self) -> None:
        if not self._taken:  # ended while it was stopped: the shell has it
            return
        termios.tcsetattr(0, termios.TCSANOW, self._before)
        if select.select([], [1], [], _STUCK)[1]:
            self._write(_LEAVE)
        self._taken = False

    def _write(self, text: str) -> None:
        left = memoryview(text.encode(sys.stdout.encoding or "utf-8", "replace"))
        while left:
            try:
                left = left[os.write(1, left) :]
            except BlockingIOError:  # somebody else made it so
                select.select([], [1], [])
            except OSError:
                raise Gone from None

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # here it stops, until somebody continues it
        signal.signal(number, self._suspend)
        self._take()
        self.ring()

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self.forget()
        self.ring()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
