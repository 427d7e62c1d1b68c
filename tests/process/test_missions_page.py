"""The examples of docs/missions.md, as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from kit.host import Host
from kit.waiting import BOUND

PAGE = Path(__file__).parents[2] / "docs" / "missions.md"


def example(name: str) -> str:
    (text,) = re.findall(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(text)


def shell(host: Host, script: str) -> subprocess.CompletedProcess[str]:
    """In the directory of the state directory, with `polpoctl` and `python3` of these tests."""
    functions = f'polpoctl() {{ "{sys.executable}" -m polpoctl "$@"; }}; python3() {{ "{sys.executable}" "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", functions + script], cwd=host.root, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=2 * BOUND, check=False,
    )  # fmt: skip


def test_the_release(host: Host) -> None:
    host.start()
    (host.root / "release.toml").write_text(example("release"))
    made = shell(host, "polpoctl mission create release --file release.toml --execute && polpoctl mission wait release")
    assert (made.returncode, made.stdout.splitlines()) == (5, ["1", "1.1\tpaused\tcheckpoint sign-off was reached"])
    why = shell(host, "polpoctl why 5").stdout
    assert why.splitlines()[0] == "Task 5 waits for a person at checkpoint sign-off (look at build/program)."
    assert why.splitlines()[0] in PAGE.read_text()
    ended = shell(host, "polpoctl mission resume release && polpoctl mission wait release")
    assert (ended.returncode, ended.stdout) == (0, "1.1\tcompleted\t\n")
    assert (host.root / "build" / "published").read_text() == "compiled\n"


def test_the_hundred_parts(host: Host) -> None:
    host.configure(maxConcurrency=8)
    host.start()
    printed = shell(host, example("numbers")).stdout.splitlines()
    assert printed[-2:] == ["failed {'done': 98, 'failed': 3}", "['part 13', 'part 77', 'sum']"]
    assert printed[-2] in PAGE.read_text()
    again = shell(host, "polpoctl mission resume numbers --retry-failed; polpoctl mission wait numbers")
    assert (again.returncode, again.stdout.startswith("1.1\tfailed\t3 of 101")) == (1, True)
    attempts = {task["title"]: task["attempts"] for task in host.call("mission.get", id="numbers")["tasks"]}
    assert {title for title, number in attempts.items() if number > 1} == {"part 13", "part 77"}
