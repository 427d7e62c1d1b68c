"""Completion in the shells themselves: each loads its script, and completes what is typed.

zsh and fish are tried where they are installed; bash always.
"""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select

import pytest

from polpoctl.commands.completion import script_for

SHELLS = ["bash", *filter(shutil.which, ("zsh", "fish"))]
BOUND = 30.0
"""Seconds until something is shown."""

START = {
    "bash": (("bash", "--norc", "--noprofile", "-i"), "source {script}"),
    "zsh": (("zsh", "-f", "-i"), "autoload -U compinit; compinit -u -D; source {script}"),
}

TYPED = {
    "polpoctl comple": "completion",
    "polpoctl --root /tmp statu": "status",
    "polpoctl wait --exi": "--exit-status",
    "polpoctl submit --not": "--not-before",
    "polpoctl list --color al": "always",
    "polpoctl completion z": "zsh",
    "polpoctl init {dir}/onl": "{dir}/only/",
    "polpoctl submit --batch {dir}/onl": "{dir}/only/",
    "polpoctl run --title x -- {dir}/onl": "{dir}/only/",
}
"""What is typed, and its last word when it has been completed; in {dir} there is a directory `only`."""


@pytest.fixture
def script(tmp_path: Path, shell: str) -> Path:
    """The script for the shell of the test's parameters, in a directory with another one."""
    (tmp_path / "only").mkdir()
    path = tmp_path / f"completion.{shell}"
    path.write_text(script_for(shell))
    return path


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_for_its_shell(shell: str, script: Path) -> None:
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("typed", TYPED)
def test_what_is_typed_is_completed(shell: str, script: Path, typed: str) -> None:
    words, word = typed.format(dir=script.parent), TYPED[typed].format(dir=script.parent)
    if shell == "fish":
        command = f"source {script}; complete -C '{words}'"
        env = {"PATH": os.environ["PATH"], "HOME": str(script.parent)}
        done = subprocess.run(["fish", "--no-config", "-c", command], env=env, capture_output=True, timeout=60)
        assert [line.split(b"\t")[0].decode() for line in done.stdout.splitlines()] == [word]
    else:
        with terminal(shell, script) as shown:
            os.write(shown.fd, words.encode() + b"\t")
            shown.until(f"{words.rpartition(' ')[0]} {word}".encode())


class Terminal:
    """An interactive shell that has loaded the script."""

    def __init__(self, shell: str, script: Path) -> None:
        command, load = START[shell]
        self.fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 500, 0, 0))  # so that nothing is wrapped
        env = {"PATH": os.environ["PATH"], "HOME": str(script.parent), "TERM": "dumb"}
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
        )
        os.close(theirs)
        self._shown = b""
        # The word is put together by the shell: as it is typed, it does not show up.
        os.write(self.fd, f"{load.format(script=script)}; PS1=; echo loa''ded\n".encode())
        self.until(b"loaded")

    def until(self, text: bytes) -> None:
        """Read until the text was shown.  Raises AssertionError after BOUND."""
        while text not in self._shown:
            assert select([self.fd], [], [], BOUND)[0], f"{text!r} is not in {self._shown!r}"
            self._shown += os.read(self.fd, 65536)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self.fd)


@contextmanager
def terminal(shell: str, script: Path) -> Iterator[Terminal]:
    shown = Terminal(shell, script)
    try:
        yield shown
    finally:
        shown.close()
