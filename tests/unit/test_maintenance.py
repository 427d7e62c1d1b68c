"""`polpod --maintenance`: what polpoctl does to a state directory without a daemon, as processes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from kit.starting import WITHOUT_OVERRIDE

from polpod.config import DEFAULT_TEXT


class Directory:
    """A directory, and what `--maintenance` says about it: exit status, and both its outputs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / ".polpo" / "polpo.json"

    def write(self, text: str) -> None:
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(text)

    def run(self, *words: str, stdin: str | bytes | None = None) -> tuple[int, str, str]:
        return self.polpod("--root", str(self.root), "--maintenance", *words, stdin=stdin)

    def polpod(self, *words: str, stdin: str | bytes | None = None, cwd: str = "") -> tuple[int, str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("POLPO")}
        said = stdin.encode() if isinstance(stdin, str) else stdin
        command = [*WITHOUT_OVERRIDE, sys.executable, "-m", "polpod", *words]
        ran = subprocess.run(command, cwd=cwd or self.root, env=env, input=said, capture_output=True, timeout=60)
        return ran.returncode, ran.stdout.decode(), ran.stderr.decode()

    def ok(self, *words: str) -> str:
        code, out, err = self.run(*words)
        assert (code, err) == (0, "")
        return out

    def refuses(self, *words: str) -> tuple[int, str]:
        """The exit status and what was said, which is one line of ours."""
        before = self.file.read_bytes() if self.file.exists() else None
        code, out, err = self.run(*words)
        assert (out, err.count("\n"), err[:8]) == ("", 1, "polpod: ")
        assert (self.file.read_bytes() if self.file.exists() else None) == before
        return code, err.removeprefix("polpod: ").strip()


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_init_makes_a_state_directory_that_only_its_owner_may_enter(directory: Directory) -> None:
    target = directory.root / "new"
    said = directory.ok("init", str(target))
    assert f"polpoctl --root {target} start" in said
    assert (target / ".polpo" / "polpo.json").read_text() == DEFAULT_TEXT
    assert (target / ".polpo").stat().st_mode & 0o777 == 0o700


def test_init_without_a_directory_is_about_the_one_it_is_in(directory: Directory) -> None:
    directory.ok("init")
    assert directory.file.read_text() == DEFAULT_TEXT


def test_init_leaves_a_configuration_alone_and_says_so(directory: Directory) -> None:
    directory.write('{"project": "mine"}')
    code, out, err = directory.run("init")
    assert (code, out, err) == (0, "", f"{directory.file} is there already\n")
    assert directory.file.read_text() == '{"project": "mine"}'


def test_init_where_nothing_can_be_made_says_where(directory: Directory) -> None:
    (directory.root / "file").touch()
    code, said = directory.refuses("init", str(directory.root / "file"))
    assert (code, said) == (1, f"{directory.root}/file/.polpo: Not a directory")


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("init",), {"path": "{root}/.polpo", "made": False}),
        (("config", "get", "storage"), "sqlite"),
        (("config", "set", "killGrace", "7"), {"key": "killGrace", "value": 7}),
        (
            ("config", "check"),
            {"path": "{root}/.polpo/polpo.json", "good": True, "unknown": ["$.more"], "without_effect": ["$.teams"]},
        ),
    ],
)
def test_whoever_asks_for_json_gets_it(directory: Directory, words: tuple[str, ...], value: object) -> None:
    directory.write('{"more": 1, "teams": []}')
    code, out, _ = directory.run("--json", *words)
    assert (code, json.loads(out.replace(str(directory.root), "{root}"))) == (0, value)


def test_what_polpo_knows_and_polpod_does_not_is_said_by_check_alone(directory: Directory) -> None:
    directory.write('{"settings": {"orchestratorSkills": {}, "maxResolutionAttempts": 2}}')
    said = [
        f"{directory.file}: $.settings.{key} has no effect in polpod\n"
        for key in ("orchestratorSkills", "maxResolutionAttempts")
    ]
    assert directory.run("config", "check") == (0, f"{directory.file}: good\n", "".join(said))
    directory.ok("config", "show")
    directory.ok("config", "set", "killGrace", "7")
    kept = json.loads(directory.file.read_text())["settings"]
    assert kept == {"orchestratorSkills": {}, "maxResolutionAttempts": 2, "killGrace": 7}


def test_show_has_the_defaults_too(directory: Directory) -> None:
    directory.write('{"project": "mine", "settings": {"killGrace": 5}}')
    shown = json.loads(directory.ok("--json", "config", "show"))
    assert (shown["project"], shown["settings"]["killGrace"], shown["settings"]["onShutdown"]) == ("mine", 5, "stop")


def test_show_names_what_it_does_not_know(directory: Directory) -> None:
    directory.write('{"settings": {"killGrave": 5}}')
    code, out, err = directory.run("config", "show")
    assert (code, json.loads(out)["settings"]["killGrace"]) == (0, 10_000)
    assert err == f"{directory.file}: $.settings.killGrave means nothing to this version\n"


def test_check(directory: Directory) -> None:
    assert directory.ok("config", "check") == f"{directory.file}: good\n"
    directory.write('{"settings": {"killGrace": "5"}}')
    code, said = directory.refuses("config", "check")
    assert (code, said) == (2, f"{directory.file}: Expected `int`, got `str` - at `$.settings.killGrace`")
    code, _, err = directory.polpod("--root", str(directory.root), "--check-config")
    assert (code, err) == (2, f"polpod: {said}\n")


@pytest.mark.parametrize(
    ("key", "said"),
    [("killGrace", "10000"), ("settings.onShutdown", "stop"), ("maxRetries", "null"), ("queues.builds.slots", "1")],
)
def test_get(directory: Directory, key: str, said: str) -> None:
    directory.write('{"settings": {"queues": {"builds": {"slots": 1}}}}')
    assert directory.ok("config", "get", key) == f"{said}\n"


@pytest.mark.parametrize("key", ["killGrave", "killGrace.x", "queues.builds"])
def test_get_of_what_is_not_there(directory: Directory, key: str) -> None:
    assert directory.refuses("config", "get", key) == (3, f"{directory.file}: there is no setting {key}")


@pytest.mark.parametrize(
    ("key", "text", "stored"),
    [
        ("killGrace", "5", {"killGrace": 5}),
        ("settings.onShutdown", "keep", {"onShutdown": "keep"}),
        ("queues.builds.slots", "2", {"queues": {"builds": {"slots": 2}}}),
        ("queues.builds.paused", "true", {"queues": {"builds": {"paused": True}}}),
        ("queues", '{"a": {"slots": 1}}', {"queues": {"a": {"slots": 1}}}),
        ("taskTimeout", "null", {"taskTimeout": None}),
    ],
)
def test_set_keeps_the_rest_of_the_file(directory: Directory, key: str, text: str, stored: dict[str, object]) -> None:
    directory.write('{"project": "mine", "colour": 1, "settings": {"reserve": 0}}')
    assert directory.ok("config", "set", key, text).startswith(f"{key} is now ")
    document = json.loads(directory.file.read_text())
    assert document == {"project": "mine", "colour": 1, "settings": {"reserve": 0} | stored}
    assert os.listdir(directory.file.parent) == ["polpo.json"]


def test_set_makes_the_file_in_a_state_directory_without_one(directory: Directory) -> None:
    directory.file.parent.mkdir()
    directory.ok("config", "set", "killGrace", "5")
    assert json.loads(directory.file.read_text()) == {"settings": {"killGrace": 5}}


@pytest.mark.parametrize("key", ["killGrave", "queues.builds.slotz", "killGrace.x.y", "storage.x"])
def test_set_refuses_what_means_nothing(directory: Directory, key: str) -> None:
    directory.write('{"settings": {"killGrace": 5, "storage": "sqlite"}}')
    assert directory.refuses("config", "set", key, "1") == (3, f"{directory.file}: there is no setting {key}")


@pytest.mark.parametrize(
    ("key", "text", "path"),
    [("killGrace", "soon", "killGrace"), ("maxConcurrency", "0", "maxConcurrency"), ("queues.x", "3", "queues[...]")],
)
def test_set_refuses_a_wrong_value(directory: Directory, key: str, text: str, path: str) -> None:
    directory.write("{}")
    code, said = directory.refuses("config", "set", key, text)
    assert code == 2
    assert said.endswith(f" - at `$.settings.{path}`")


@pytest.mark.parametrize("text", ["", "[]", '{"settings": 3}', "{"])
def test_set_does_not_repair_a_broken_file(directory: Directory, text: str) -> None:
    directory.write(text)
    code, said = directory.refuses("config", "set", "killGrace", "5")
    assert (code, said.startswith(f"{directory.file}: ")) == (2, True)


def test_set_without_a_state_directory_says_so(directory: Directory) -> None:
    code, said = directory.refuses("config", "set", "killGrace", "5")
    assert (code, said.startswith(f"there is no {directory.file.parent}; ")) == (3, True)
    assert said.endswith("polpoctl init makes one")


URL = "postgres://ann:secret@db/builds"
SHOWN = "postgres://ann:***@db/builds"


def test_a_value_comes_from_stdin_and_no_password_goes_out(directory: Directory) -> None:
    directory.write("{}")
    for words in ((), ("--json",)):
        code, out, err = directory.run(*words, "config", "set", "databaseUrl", "-", stdin=f"{URL}\n")
        assert (code, err) == (0, "")
        assert SHOWN in out
    assert json.loads(directory.file.read_text())["settings"]["databaseUrl"] == URL
    assert directory.ok("config", "get", "databaseUrl") == f"{SHOWN}\n"
    assert "secret" not in directory.ok("config", "show")
    assert directory.run("config", "set", "killGrace", "-", stdin="7")[0] == 0
    assert json.loads(directory.file.read_text())["settings"] == {"databaseUrl": URL, "killGrace": 7}
    assert directory.run("config", "set", "databaseUrl", "-", stdin=b"\xff")[0] == 1
    assert directory.run("config", "set", "databaseUrl", "null") == (
        0, "databaseUrl is now null; it takes effect when polpod starts\n", "",
    )  # fmt: skip


@pytest.mark.parametrize("url", [URL, "host=db password=secret"])
def test_a_password_on_the_command_line_is_taken_with_a_warning(directory: Directory, url: str) -> None:
    directory.write("{}")
    code, out, err = directory.run("config", "set", "databaseUrl", url)
    assert (code, "secret" in out + err) == (0, False)
    assert err.endswith("polpoctl config set databaseUrl - asks for it\n")
    assert json.loads(directory.file.read_text())["settings"]["databaseUrl"] == url
    assert directory.run("config", "set", "databaseUrl", "postgres://ann@db/builds")[2] == ""


def ask_for_url(directory: Directory, typed: bytes) -> tuple[int, bytes]:
    """What happens where this is typed when a terminal asks for it: how it ends, and what is shown."""
    command = [sys.executable, "-m", "polpod", "--root", str(directory.root), "--maintenance", "config", "set"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*command, "databaseUrl", "-"])
    shown = b""
    while not shown.endswith(b"databaseUrl: "):
        shown += os.read(terminal, 1024)
    os.write(terminal, typed)
    with suppress(OSError):  # how a terminal ends
        while data := os.read(terminal, 1024):
            shown += data
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def test_on_a_terminal_a_password_is_asked_for_and_not_shown(directory: Directory) -> None:
    directory.write("{}")
    code, shown = ask_for_url(directory, f"{URL}\n".encode())
    assert (code, b"secret" in shown) == (0, False)
    assert json.loads(directory.file.read_text())["settings"]["databaseUrl"] == URL


def test_whoever_types_no_password_is_told_so(directory: Directory) -> None:
    directory.write("{}")
    code, shown = ask_for_url(directory, b"\x04")
    assert (code, b"stdin: it ended" in shown) == (1, True)
    assert directory.file.read_text() == "{}"


VERBS = (
    *("config show", "config get storage", "config set reserve 5", "config check"),
    *("check", "salvage", "copy --to file", "backup b", "doctor"),
)


@pytest.mark.parametrize("verb", [*VERBS, "init ."])
@pytest.mark.parametrize("closed", [".", ".polpo"])
def test_a_directory_without_rights_is_told_of(directory: Directory, verb: str, closed: str) -> None:
    """Exit status 6, as of polpoctl where something is not allowed, and never a traceback."""
    directory.write("{}")
    root, place = directory.root / closed, directory.file.parent
    words = [word.replace(".", str(directory.root)) for word in verb.split()]
    root.chmod(0)
    code, out, err = directory.polpod("--root", str(directory.root), "--maintenance", *words, cwd="/")
    root.chmod(0o700)
    if verb == "doctor":
        assert (code, err) == (1, "")
        assert f"you may not look into {root.resolve()}" in out
        return
    (line,) = err.splitlines()
    assert (code, out) == (6, "")
    assert line.startswith(f"polpod: {place}")
    assert line.endswith(": Permission denied")


@pytest.mark.parametrize("verb", VERBS)
def test_where_there_is_no_state_directory_at_all(directory: Directory, verb: str) -> None:
    """Some say what would hold, and the others that there is none."""
    code, out, err = directory.run(*verb.split())
    assert "Traceback" not in err
    if verb.startswith("config") and "set" not in verb:
        assert (code, err) == (0, "")
    else:
        assert code == (1 if verb == "doctor" else 3)
        assert f"there is no {directory.file.parent}" in out + err


def test_an_unknown_verb_is_a_mistake_of_usage(directory: Directory) -> None:
    code, _, err = directory.run("explode")
    assert code == 2
    assert "invalid choice: 'explode'" in err
