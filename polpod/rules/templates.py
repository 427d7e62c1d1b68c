"""Commands of agents: argument vectors with places that are filled in when a run starts.

Rules:

1. A place is one of the names below in braces.  Any other `{…}` stays as it is: awk, JSON and shells have their own.
2. All places are filled in at once, so that what is put into one is never looked through for others.
3. An argument stays one argument, whatever is put into it: no shell takes it apart that the command does not name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

PLACES: Mapping[str, str] = {
    "prompt": "what is to be done: the task's description as it is then",
    "prompt_file": "the path of a file with the same text, for its own user alone",
    "task_id": "the task's id",
    "run_id": "the run's number",
    "attempt": "the how manieth run of its task it is, from 1",
    "title": "the task's title",
    "cwd": "the directory that the job works in",
    "agent": "the agent's name",
    "execution_id": "the execution of its mission; empty without one",
    "context_file": "the path of a JSON file with the task, what it waited for, and what became of its last run",
}

LONGEST_ARGUMENT = 2**17 - 1
"""Bytes; Linux takes no longer one (MAX_ARG_STRLEN, execve(2)), whatever there is room for in all."""

_PLACE = re.compile(r"\{(" + "|".join(PLACES) + r")\}")


def places(command: Sequence[str]) -> frozenset[str]:
    """The names of the places that the command has."""
    return frozenset(name for part in command for name in _PLACE.findall(part))


def fill(command: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The command with these values in its places; every place has one."""
    return [_PLACE.sub(lambda place: values[place[1]], part) for part in command]


def longest(command: Sequence[str]) -> int:
    """Bytes of the longest argument."""
    return max((len(part.encode(errors="surrogateescape")) for part in command), default=0)
