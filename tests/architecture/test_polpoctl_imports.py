"""What polpoctl's everyday commands load: modules are counted, not milliseconds (DESIGN §4, performance F2)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from kit.scripted import STATUS, TASK, Scripted

# As a console script does, which has loaded `re` before anything of ours.
CODE = """
import re, sys
before = set(sys.modules)
from polpoctl.__main__ import run
code = run(sys.argv[1:])
print(code, *sorted(set(sys.modules) - before), file=sys.stderr)
"""

OURS = {
    "polpoctl", "polpoctl.__main__", "polpoctl.budget", "polpoctl.catalog", "polpoctl.client", "polpoctl.commands", "polpoctl.conversation",
    "polpoctl.exits", "polpoctl.parsers", "polpoctl.queues", "polpoctl.render", "polpoctl.selection", "polpoctl.sizes", "polpoctl.submission",
    "polpoctl.times", "polpoctl.transport", "polpod", "polpod.paths", "polpod.wire", "polpod.wire.errors", "polpod.wire.frames", "polpod.wire.jsonrpc",
}  # fmt: skip

THEIRS = {
    "__future__", "_json", "_socket", "argparse", "collections.abc", "gettext", "json", "json.decoder", "json.encoder",
    "json.scanner", "warnings",
}  # fmt: skip
"""Everything else is too heavy: each module here is below a millisecond once `re` is there, but argparse."""

ANSWERS: dict[str, Any] = {
    "daemon.status": STATUS,
    "task.submit": {"id": "5", "created": True},
    "task.list": {"tasks": [TASK], "next": None},
}


@pytest.mark.parametrize(
    "argv",
    [("status",), ("submit", "--timeout", "1h", "--label", "a=b", "--", "make", "-j4"), ("list", "--queue", "q")],
)
@pytest.mark.parametrize("lang", ["C.UTF-8", "en_US.UTF-8"])
def test_an_everyday_command_loads_only_what_it_needs(argv: tuple[str, ...], lang: str) -> None:
    with Scripted(ANSWERS) as polpod:
        done = subprocess.run(
            [sys.executable, "-c", CODE, "--socket", polpod.path, *argv],
            capture_output=True,
            text=True,
            env={"LANG": lang, "PATH": "/usr/bin:/bin"},
            timeout=60,
        )
    code, *loaded = done.stderr.split()
    assert code == "0"
    assert set(loaded) - OURS - THEIRS - {f"polpoctl.commands.{argv[0]}"} == set()
