"""Finding and executing polpod itself, for what needs no daemon or has none yet."""

from __future__ import annotations

import os
import sys

from polpoctl import exits

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import NoReturn


def polpod(args: Namespace) -> list[str]:
    """The command that is polpod, with `--root` and `--socket` if they were given.

    That is the one installed beside this polpoctl, else one on PATH, else the module of this installation.  Raises Failure
    for a polpod of another host.
    """
    if args.url is not None:
        raise exits.usage("that is done on polpod's own host, without --url")
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "polpod")
    places = [beside, *(os.path.join(directory, "polpod") for directory in os.get_exec_path())]
    found = next((path for path in places if os.path.isfile(path) and os.access(path, os.X_OK)), None)
    command = [sys.executable, "-m", "polpod"] if found is None else [found]
    for option, value in (("--root", args.root), ("--socket", args.socket)):
        if value is not None:
            command += [option, os.path.abspath(value)]
    return command


def maintain(args: Namespace, *words: str) -> NoReturn:
    """Become `polpod --maintenance WORDS`, which prints and exits as polpoctl would (DESIGN §4)."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = [*polpod(args), "--maintenance", *(["--json"] if args.json else []), *words]
    os.execv(command[0], command)
