"""What a terminal sends, as names of keys: `a`, `up`, `page-down`, `enter`.

Rules:

1. A sequence that is not known is one unknown key, never the characters that it is made of: nobody cancels a task by F5.
2. Escape before another key is Escape, since a slow line brings both at once; so Alt with a key is both, too.
"""

from __future__ import annotations

import codecs
import re

_NAMED = {
    "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", "\x0c": "redraw", "\x15": "clear",
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left", "\x1bOA": "up", "\x1bOB": "down",
    "\x1bOC": "right", "\x1bOD": "left", "\x1b[H": "home", "\x1b[F": "end", "\x1bOH": "home", "\x1bOF": "end",
    "\x1b[1~": "home", "\x1b[4~": "end", "\x1b[7~": "home", "\x1b[8~": "end", "\x1b[5~": "page-up", "\x1b[6~": "page-down",
    "\x1b[Z": "backtab", "\x1b": "escape",
}  # fmt: skip
UNKNOWN = "unknown"

_KEY = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[@-~]|\x1b(?=[^\[O])|[^\x1b]", re.DOTALL)


class Keys:
    """Bytes in, keys out, however they were split on their way."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._rest = ""

    @property
    def unfinished(self) -> bool:
        """Whether something may be the beginning of a sequence, or the key Escape."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are complete with these bytes."""
        text, at, found = self._rest + self._decoder.decode(data), 0, []
        while match := _KEY.match(text, at):
            found.append(_name(match[0]))
            at = match.end()
        self._rest = text[at:]
        return found

    def flush(self) -> list[str]:
        """Nothing came for a while: what is unfinished stays so."""
        rest, self._rest = self._rest, ""
        return [_name(rest)] if rest else []


def _name(text: str) -> str:
    return _NAMED.get(text) or (text if text.isprintable() else UNKNOWN)
