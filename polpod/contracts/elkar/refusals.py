"""What an Elkar store raises: of the kinds that Elkar's own store raises, told from polpod's words by one table.

ValueError
└── Refused              the store did not do it, and nothing has changed; `word` says why
    └── UnknownTask      there is no such task; a KeyError, too
ConnectionError
└── Unreachable          no polpod answers: what was asked may have been done, or not
"""

from __future__ import annotations

from polpod.wire import errors


class Refused(ValueError):
    __str__ = Exception.__str__  # KeyError has one of its own, which would quote a sentence

    def __init__(self, message: str, word: str) -> None:
        super().__init__(message)
        self.word = word
        """One of polpod/wire/errors.py."""


class UnknownTask(Refused, KeyError):
    pass


class Unreachable(ConnectionError):
    pass


_BY_WORD: dict[str, type[Refused]] = {errors.NOT_FOUND: UnknownTask}


def refused(message: str, word: str | None) -> Refused:
    """The error for one of polpod's; `word` as in `data.type`."""
    return _BY_WORD.get(word or errors.REFUSED, Refused)(message, word or errors.REFUSED)
