"""What polpod offers to Elkar is there for whoever has Elkar, and for nobody else a burden."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = "import sys; sys.modules['elkar'] = None; "
"""As where the package is not installed."""


def python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + script], capture_output=True, text=True, timeout=60, check=False
    )


def test_without_elkar_it_says_what_to_install() -> None:
    ended = python("import polpod.contrib.elkar")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "ImportError: this needs the package elkar: `pip install elkar`, with Python 3.12 or later"
    )


def test_the_daemon_and_polpoctl_load_nothing_of_it() -> None:
    loaded = "print([name for name in sys.modules if name.startswith(('polpod.contrib', 'polpod.contracts.elkar', 'elkar.', 'pydantic'))])"
    ended = python(f"import polpod.daemon, polpoctl.commands.a2a; {loaded}")
    assert (ended.returncode, ended.stdout) == (0, "[]\n")
