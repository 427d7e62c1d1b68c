"""start, stop, init and config: the commands that need an executable polpod, with one that does as it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from kit.waiting import until

CODE = "import sys; from polpoctl.__main__ import main; sys.argv[0] = '/nowhere/polpoctl'; main()"

DAEMON = """\
#!{python}
import json, os, socket, sys
print("told", *sys.argv[1:], flush=True)
root = sys.argv[sys.argv.index("--root") + 1]
path = os.path.join(root, ".polpo", "polpod.sock")
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
facts = {{"pid": os.getpid(), "root": root, "socket": path, "session": os.getsid(0), "stdin": os.readlink("/proc/self/fd/0")}}
with open(os.path.join(root, "facts"), "w") as file:
    json.dump(facts, file)
while True:
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb") as stream:
        for line in stream:
            request = json.loads(line)
            answer = {{"jsonrpc": "2.0", "id": request["id"], "result": facts}}
            stream.write(json.dumps(answer).encode() + b"\\n")
            stream.flush()
            if request["method"] == "daemon.shutdown":
                os.unlink(path)
                sys.exit()
"""


def executable(directory: Path, text: str) -> str:
    """A directory with `polpod` in it, to be PATH."""
    directory.mkdir()
    path = directory / "polpod"
    path.write_text(textwrap.dedent(text).format(python=sys.executable))
    path.chmod(0o755)
    return str(directory)


def polpoctl(*argv: str, path: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(cwd), "LANG": "C.UTF-8"}
    return subprocess.run(
        [sys.executable, "-c", CODE, *argv], capture_output=True, text=True, env=env, cwd=cwd, timeout=60
    )


def test_start_detaches_a_polpod_and_stop_waits_until_it_is_gone(tmp_path: Path) -> None:
    path, root = executable(tmp_path / "bin", DAEMON), tmp_path / "r"
    done = polpoctl("start", "--root", str(root), path=path, cwd=tmp_path)
    facts: dict[str, Any] = json.loads((root / "facts").read_text())
    pid = facts["pid"]
    assert (done.returncode, done.stdout, done.stderr) == (0, f"polpod running, pid {pid}\n", "")
    assert (facts["session"], facts["stdin"]) == (pid, "/dev/null")
    assert (root / ".polpo/logs/polpod.log").read_text() == f"told --root {root}\n"

    done = polpoctl("start", "--root", "r", path=path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"polpod was running already, pid {pid}\n")
    done = polpoctl("--json", "start", "--root", "r", path=path, cwd=tmp_path)
    assert json.loads(done.stdout)["started"] is False

    done = polpoctl("stop", "--root", str(root), path=path, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"polpod stopped, pid {pid}\n", "")
    until(lambda: not os.path.exists(f"/proc/{pid}") or _is_zombie(pid), "its process is gone")
    assert polpoctl("stop", "--root", str(root), path=path, cwd=tmp_path).returncode == 4


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(("code", "exit_code"), [(1, 1), (2, 2), (9, 1)])
def test_a_start_that_failed_shows_the_end_of_its_log(tmp_path: Path, code: int, exit_code: int) -> None:
    script = "#!/bin/sh\nfor n in $(seq 20); do echo line $n; done\necho broken >&2\nexit %d\n"
    path = executable(tmp_path / "bin", script % code)
    done = polpoctl("start", "--root", ".", path=path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr.endswith("polpoctl:   line 20\npolpoctl:   broken\n")
    assert "line 11" not in done.stderr


def test_a_start_that_says_nothing_shows_that_and_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / ".polpo" / "logs").mkdir(parents=True)
    (tmp_path / ".polpo/logs/polpod.log").write_text("of an earlier start\n")
    done = polpoctl("start", "--root", ".", path=executable(tmp_path / "bin", "#!/bin/sh\nexit 1\n"), cwd=tmp_path)
    assert done.stderr.endswith("ends:\npolpoctl:   (nothing)\n")


ECHO = '#!/bin/sh\necho "$@"\nexit 3\n'


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("init",), "--maintenance init {cwd}"),
        (("init", "d"), "--maintenance init {cwd}/d"),
        (("--root", "e", "init"), "--root {cwd}/e --maintenance init {cwd}/e"),
        (("config", "show", "--json"), "--maintenance --json config show"),
        (("config", "get", "maxConcurrency", "--root", "/r"), "--root /r --maintenance config get maxConcurrency"),
        (("config", "set", "--json", "k", "v"), "--maintenance --json config set k v"),
        (("config", "check"), "--maintenance config check"),
        (("doctor", "--json", "--root", "/r"), "--root /r --maintenance --json doctor"),
        (("store", "check", "--root", "/r"), "--root /r --maintenance check"),
        (("store", "restore", "b", "--root", "/r"), "--root /r --maintenance restore {cwd}/b"),
        (("store", "salvage", "--root", "/r"), "--root /r --maintenance salvage"),
        (("backup", "b", "--root", "/nowhere"), "--root /nowhere --maintenance backup {cwd}/b"),
    ],
)
def test_offline_commands_become_polpod_itself(tmp_path: Path, argv: tuple[str, ...], told: str) -> None:
    done = polpoctl(*argv, path=executable(tmp_path / "bin", ECHO), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, told.format(cwd=tmp_path) + "\n")


def test_without_any_executable_the_module_is_polpod(tmp_path: Path) -> None:
    done = polpoctl("config", "check", "--root", str(tmp_path), path="/nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/.polpo/polpo.json: good\n")
