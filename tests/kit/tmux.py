"""A terminal with a shell in it, driven by tmux: what is typed goes in, what a person would see comes out."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from kit.waiting import until


class Tmux:
    """A tmux server of its own with one window; `TERM` and size are what the shell in it finds."""

    def __init__(self, width: int, height: int) -> None:
        self._directory = tempfile.mkdtemp(prefix="polpod-tmux-")
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), "sh")

    def type(self, text: str) -> None:
        """Type the characters as they are."""
        self._tmux("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names for them: `Enter`, `C-c`, `PageDown`."""
        self._tmux("send-keys", *keys)

    def line(self, text: str) -> None:
        """Type a line."""
        self.type(text)
        self.press("Enter")

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self) -> list[str]:
        """The lines that are seen, without trailing blanks."""
        return [line.rstrip() for line in self._tmux("capture-pane", "-p").splitlines()]

    def ask(self, variable: str) -> str:
        """What tmux knows of the terminal: `cursor_flag`, `alternate_on`, `pane_tty`."""
        return self._tmux("display-message", "-p", f"#{{{variable}}}").strip()

    def foreground(self) -> int:
        """The process group that has the terminal."""
        status = Path(f"/proc/{self.ask('pane_pid')}/stat").read_text()
        return int(status.rpartition(")")[2].split()[5])

    def sees(self, condition: Callable[[list[str]], bool], what: str) -> list[str]:
        """The screen, once the condition holds for it."""
        seen: list[str] = []

        def holds() -> bool:
            seen[:] = self.screen()
            return condition(seen)

        try:
            until(holds, what)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *seen])) from None
        return seen

    def shows(self, *texts: str) -> list[str]:
        """The screen, once each of the texts is in some line of it."""
        return self.sees(lambda seen: all(any(text in line for line in seen) for text in texts), f"it shows {texts}")

    def close(self) -> None:
        self._tmux("kill-server")
        shutil.rmtree(self._directory)

    def _tmux(self, *words: str) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": self._directory, "LANG": "C.UTF-8", "PS1": "$ ", "SHELL": "/bin/sh"}
        command = ["tmux", "-S", f"{self._directory}/server", "-f", "/dev/null", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"tmux {words[0]}: {done.stderr}"
        return done.stdout

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
