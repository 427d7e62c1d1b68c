"""Completion in the shells themselves: each loads its script, and completes what is typed.

zsh and fish are tried where they are installed, and under POLPOD_TEST_STRICT; bash always.
"""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from select import select
from typing import Any, get_type_hints

import pytest
from kit.backlog import full
from kit.scripted import HANG_UP, SILENCE, TASK, Refusal, Scripted

from polpoctl import live
from polpoctl.commands.completion import script_for
from polpod.services.rpc.table import METHODS

STRICT = os.environ.get("POLPOD_TEST_STRICT") == "1"
SHELLS = ["bash", *(shell for shell in ("zsh", "fish") if STRICT or shutil.which(shell))]
BELL = b"\a"
"""What a shell rings where it has nothing to complete."""
KILL_LINE = b"\x15"
BOUND = 60.0
"""Seconds until something is shown."""
PATIENT = "from polpoctl import live\nlive.BOUND = 60\nfrom polpoctl.__main__ import main\nmain()\n"
"""A polpoctl that asks polpod for longer than anybody would wait who has pressed Tab: on a busy machine it may have to."""

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


TASKS = [
    TASK,
    TASK | {"id": "1234", "title": "a title: with\n a line", "labels": {"env": "prod", "x": "$(touch pwned)"}},
    TASK | {"id": "8\n9", "labels": {}},
]
ROWS: dict[str, Any] = {
    "task.list": {"tasks": TASKS, "next": None},
    "queue.list": {"queues": [{"name": "nightly"}, {"name": "q$(touch pwned)`touch pwned`"}]},
    "mission.list": {"missions": [{"name": "two words", "status": "active"}], "next": None},
    "approval.list": {"approvals": [{"id": "a17", "kind": "start", "message": "Go?"}], "next": None},
    "agent.list": {"agents": [{"name": "ann", "role": "writes"}], "next": None},
    "schedule.list": {"schedules": [], "next": None},
    "run.list": {"runs": [{"id": 4711, "status": "running"}], "next": None},
    "daemon.status": {"tasks": {"in_progress": 3}},
}
LIVE = {
    "cancel 12": "1234",
    "submit --after 12": "1234",
    "submit --queue ni": "nightly",
    "submit --agent a": "ann",
    "list --label env": "env=prod",
    "list --status in_": "in_progress",
    "logs --run 47": "4711",
    "approval approve a": "a17",
    "mission show tw": {"fish": "two words", "zsh": r"two\ words", "bash": r"two\ words"},
    "rpc daemon.hea": "daemon.health",
    "queue q": {
        "fish": "q$(touch pwned)`touch pwned`",
        "zsh": r"q\$\(touch\ pwned\)\`touch\ pwned\`",
        "bash": r"q\$\(touch\ pwned\)\`touch\ pwned\`",
    },
}
"""What is typed after `polpoctl --socket S`, and its last word when it has been completed, where that differs by shell."""


@pytest.mark.parametrize("shell", SHELLS)
def test_what_polpod_knows_is_completed_and_nothing_of_it_is_executed(shell: str, script: Path) -> None:
    with Scripted(ROWS) as polpod, ExitStack() as stack:
        shown = None if shell == "fish" else stack.enter_context(terminal(shell, script))
        for typed, words in LIVE.items():
            word = words if isinstance(words, str) else words[shell]
            line = f"polpoctl --socket {polpod.path} {typed}"
            if shown is None:
                assert fish(script, line) == [word]
            else:
                shown.text = b""
                os.write(shown.fd, KILL_LINE + line.encode() + b"\t")
                shown.until(f"{typed.rpartition(' ')[0]} {word}".encode())
    assert not (script.parent / "pwned").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_word_that_the_shell_has_quoted_is_completed_further(shell: str, script: Path) -> None:
    missions = [{"name": name, "status": "active"} for name in ("two words", "two worlds")]
    with Scripted(ROWS | {"mission.list": {"missions": missions, "next": None}}) as polpod:
        line = f"polpoctl --socket {polpod.path} mission show tw"
        if shell == "fish":
            assert fish(script, rf"{line}o\ word") == ["two words"]
        else:
            with terminal(shell, script) as shown:
                os.write(shown.fd, line.encode() + b"\td\t")
                shown.until(rb"mission show two\ words")


@pytest.mark.parametrize("shell", SHELLS)
def test_where_no_polpod_answers_nothing_is_completed_and_nothing_said(shell: str, script: Path) -> None:
    line = f"polpoctl --socket {script.parent}/none cancel 12"
    if shell == "fish":
        assert fish(script, line) == []
    else:
        with terminal(shell, script) as shown:
            os.write(shown.fd, line.encode() + b"\t34567\n")
            # What was typed goes on as if nobody had asked; only the command itself says that nobody answers.
            shown.until(b"cancel 1234567")
            shown.until(b"no polpod answers")
            assert shown.text.count(b"no polpod answers") == 1


def values(
    path: str, kind: str, *before: str, shell: str = "bash", program: tuple[str, str] = ("-m", "polpoctl")
) -> subprocess.CompletedProcess[bytes]:
    line = f"--line=polpoctl --socket {path} {' '.join(before)}"
    command = [sys.executable, *program, "completion", shell, "--values", kind, line]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


def test_candidates_are_lines_of_the_shell_s_form() -> None:
    with Scripted(ROWS) as polpod:

        def candidates(kind: str, *before: str, shell: str = "bash") -> bytes:
            return values(polpod.path, kind, *before, shell=shell, program=("-c", PATIENT)).stdout

        assert candidates("task") == b"5\n1234\n"
        assert candidates("task", shell="fish") == b"5\tready make check\n1234\tready a title: with a line\n"
        assert candidates("task", shell="zsh") == b"5:ready make check\n1234:ready a title: with a line\n"
        assert candidates("schedule") == candidates("of another version") == b""
        assert candidates("task", "cancel", "'an open quotation") == b"5\n1234\n"


@pytest.mark.parametrize("trouble", [SILENCE, HANG_UP, Refusal("unavailable")])
def test_whatever_polpod_does_the_shell_gets_its_answer_soon(trouble: Any) -> None:
    with Scripted({"task.list": trouble}) as polpod:
        done = values(polpod.path, "task")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_one_that_accepts_nobody_holds_up_no_shell(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with full(path):
        done = values(path, "task")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_resolver_that_takes_its_time_holds_up_no_shell(tmp_path: Path) -> None:
    """It works in C, where no handler of a signal is called."""
    key = tmp_path / "key"
    key.write_text("polpo_x")
    key.chmod(0o600)
    code = "import hashlib, socket, sys; from polpoctl.__main__ import main; sys.argv[0] = 'polpoctl'\n"
    code += "socket.getaddrinfo = lambda *a, **k: hashlib.pbkdf2_hmac('sha1', b'', b'', 2**31 - 1); main()"
    line = f"--line=polpoctl --url wss://far --key-file {key} cancel "
    command = [sys.executable, "-c", code, "completion", "bash", "--values", "task", line]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_every_kind_has_a_method_that_lists_it() -> None:
    """With those parameters, and with what is shown in each row: as the table of methods says."""
    for method, params, name, told in live.LISTS.values():
        row = METHODS[method]
        assert set(params) <= set(row.params.__struct_fields__)
        members = row.result.values() if isinstance(row.result, dict) else get_type_hints(row.result).values()
        (of,) = (member.__args__[0] for member in members if getattr(member, "__origin__", None) is list)
        assert {name, *told} <= set(of.__struct_fields__), method


@pytest.fixture
def script(tmp_path: Path, shell: str) -> Path:
    """The script for the shell of the test's parameters, in a directory with another one."""
    (tmp_path / "only").mkdir()
    path = tmp_path / f"completion.{shell}"
    path.write_text(script_for(shell))
    program = tmp_path / "bin" / "polpoctl"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{PATIENT}")
    program.chmod(0o700)
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
        assert fish(script, words) == [word]
    else:
        with terminal(shell, script) as shown:
            os.write(shown.fd, words.encode() + b"\t")
            shown.until(f"{words.rpartition(' ')[0]} {word}".encode())


def fish(script: Path, typed: str) -> list[str]:
    """What fish would complete."""
    command = f"source {script}; complete -C '{typed}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", command], env=environment(script), capture_output=True, timeout=60, check=False
    )
    assert done.stderr == b""
    return [line.split(b"\t")[0].decode() for line in done.stdout.splitlines()]


def environment(script: Path) -> dict[str, str]:
    """With the polpoctl that lies beside it, which the script asks."""
    return {"PATH": f"{script.parent}/bin:{os.environ['PATH']}", "HOME": str(script.parent)}


class Terminal:
    """An interactive shell that has loaded the script."""

    def __init__(self, shell: str, script: Path) -> None:
        command, load = START[shell]
        self.fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 500, 0, 0))  # so that nothing is wrapped
        env = environment(script) | {"TERM": "dumb"}
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=script.parent, start_new_session=True
        )
        os.close(theirs)
        self.text = b""
        # The word is put together by the shell: as it is typed, it does not show up.
        os.write(self.fd, f"{load.format(script=script)}; PS1=; echo loa''ded\n".encode())
        self.until(b"loaded")

    def until(self, text: bytes) -> None:
        """Read until the text was shown.  Raises AssertionError after BOUND."""
        while text not in self.text:
            assert select([self.fd], [], [], BOUND)[0], f"{text!r} is not in {self.text!r}"
            self.text += os.read(self.fd, 65536).replace(BELL, b"")

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
