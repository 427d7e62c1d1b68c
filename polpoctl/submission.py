"""What `submit` and `run` share: the options that describe a task, and what they say as parameters of task.submit."""

from __future__ import annotations

import json
import os
from argparse import ArgumentTypeError

from polpoctl import exits
from polpoctl.budget import HELP, budget
from polpoctl.parsers import amount, count, pair, positive
from polpoctl.render import notice
from polpoctl.sizes import size
from polpoctl.times import duration, instant

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable
    from typing import Any

CLEAN = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ")
"""What `--clean-env` leaves (DESIGN §6)."""

OF_A_JOB = "POLPO_"
"""What a job finds in its environment to know itself by is not passed on to the jobs that it submits."""

_EXPECT: dict[str, Callable[[str], dict[str, Any]]] = {
    "test": lambda text: {"type": "test", "command": text},
    "script": lambda text: {"type": "script", "command": _text_of(text)},
    "file": lambda text: {"type": "file_exists", "paths": [text]},
    "review": lambda text: {"type": "llm_review", "criteria": text},
}
"""What may be expected of a task's work, and what the text after the colon makes of it."""

_AS_THEY_ARE = (
    "title", "description", "project", "queue", "agent", "priority", "depends_on", "max_retries", "retry_delay",
    "max_duration", "stale_threshold", "memory_max", "cpus", "tasks_max", "nice", "not_before", "deadline", "hold",
    "needs_approval", "approve_done", "budget", "idempotency_key",
)  # fmt: skip
"""Options that are fields of task.submit by the same name; one that was not given is not said."""


def options(parser: ArgumentParser) -> None:
    """Add the options of DESIGN §10."""
    add = parser.add_argument
    add("--title", metavar="TEXT", help="what it is called (default: the command)")
    add("--description", metavar="TEXT", help="what an agent is to do")
    add("--project", metavar="NAME", help="the project that it belongs to")
    add("--queue", metavar="NAME", help="the queue that it waits in (default: default)")
    add("--agent", metavar="NAME", help="the agent that carries it out")
    add("--priority", metavar="N", type=int, help="higher ones start first (default: 0)")
    add("--after", metavar="ID", dest="depends_on", nargs="+", action="extend", help="start when these are done")
    add("--retries", metavar="N", dest="max_retries", type=count, help="how often to run it again when it fails")
    add("--retry-delay", metavar="D", type=duration, help="how long the first retry waits; the next ones wait longer")
    add("--timeout", metavar="D", dest="max_duration", type=duration, help="end a run that takes longer")
    add("--stale-after", metavar="D", dest="stale_threshold", type=duration, help="warn of a run that is idle so long")
    add("--memory", metavar="SIZE", dest="memory_max", type=size, help="end it when it uses more, such as 512M or 2G")
    add("--cpus", metavar="N", type=amount, help="let it use so many CPUs' time, such as 0.5 or 2")
    add("--tasks", metavar="N", dest="tasks_max", type=positive, help="let it have so many processes and threads")
    add("--nice", metavar="N", type=int, help="how much it gives way to others: from -20, not at all, to 19")
    add("--cwd", metavar="DIR", help="where it runs (default: here; for an agent, where that works)")
    add("--env", metavar="K=V", type=pair, action="append", default=[], help="an environment variable more")
    add("--clean-env", action="store_true", help=f"pass on only {' '.join(CLEAN)}")
    add("--label", metavar="K=V", type=pair, action="append", default=[], help="a label")
    add("--not-before", metavar="T", type=instant, help="when it may start: an RFC 3339 time, or a duration from now")
    add(
        "--deadline", metavar="T", type=instant, help="when it should be done: you are told when that is close, or past"
    )
    add("--hold", action="store_true", default=None, help="do not start it until it is released")
    add("--needs-approval", action="store_true", default=None, help="do not start it until somebody approves")
    add("--approve-done", action="store_true", default=None, help="it is done when somebody approves what it did")
    add("--budget", metavar="BUDGET", type=budget, help=f"stop and ask when it spends more: {HELP}")
    add("--idempotency-key", metavar="K", help="the same key and work again give the same task")
    add(
        "--expect",
        metavar="CHECK",
        type=expectation,
        action="append",
        help="what its work must stand to be done: test:COMMAND, script:FILE, file:PATH, review:CRITERIA, or JSON",
    )
    parser.add_argument("command", metavar="CMD", nargs="...", help="what to run, and its arguments")


def params(args: Namespace) -> dict[str, Any]:
    """The parameters of task.submit that the options say.  Raises Failure for what is not UTF-8, naming it."""
    said = {name: value for name in _AS_THEY_ARE if (value := getattr(args, name)) is not None}
    if args.command:
        said["command"] = args.command
    if args.label:
        said["labels"] = dict(args.label)
    if args.expect:
        said["expectations"] = args.expect
    if args.cwd is not None or args.agent is None or args.command:
        said["cwd"] = _cwd(args.cwd)
    return said | {"env": _environment(args.clean_env) | dict(args.env), "umask": _umask()}


def _cwd(given: str | None) -> str:
    try:
        return os.path.abspath(os.fsencode(given or ".")).decode()
    except UnicodeDecodeError:
        raise exits.usage(f"the working directory {os.getcwdb()!r} is not UTF-8") from None
    except FileNotFoundError:
        raise exits.usage("the working directory does not exist any more") from None


def _environment(clean: bool) -> dict[str, str]:
    env: dict[str, str] = {}
    left_out: list[str] = []
    for raw, value in os.environb.items():
        try:
            name, text = raw.decode(), value.decode()
        except UnicodeDecodeError:
            left_out.append(raw.decode(errors="backslashreplace"))
            continue
        if name and not name.startswith(OF_A_JOB) and (not clean or name in CLEAN):
            env[name] = text
    if left_out and not clean:
        notice(f"not passed on, since not UTF-8: {', '.join(sorted(left_out))}")
    return env


def _umask() -> int:
    umask = os.umask(0)  # it can only be read by setting it
    os.umask(umask)
    return umask


def expectation(text: str) -> dict[str, Any]:
    """A check, from an option's value.  Raises ArgumentTypeError."""
    if text.startswith("{"):
        try:
            return dict(json.loads(text))
        except ValueError as exc:
            raise ArgumentTypeError(f"not JSON: {exc}") from None
    kind, _, rest = text.partition(":")
    if kind not in _EXPECT or not rest:
        raise ArgumentTypeError(f"{text!r} is not of the form KIND:TEXT; kinds are {', '.join(_EXPECT)}")
    return _EXPECT[kind](rest)


def _text_of(path: str) -> str:
    """A script, as it is now: what is checked with does not change behind the task's back."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as exc:
        raise ArgumentTypeError(f"{path}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ArgumentTypeError(f"{path}: not UTF-8") from None
