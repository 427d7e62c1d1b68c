"""Where things are: the order in which directories and sockets are looked for (DESIGN §10)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from polpod.paths import SUN_PATH_MAX, StateDirectory, client_sockets, daemon_root, daemon_socket, nearest, user_root

USER = {"HOME": "/home/u"}
DAEMON = {**USER, "POLPO_ROOT": "/env", "STATE_DIRECTORY": "/var/lib/polpo:/var/lib/other"}
SERVICE = {"POLPO_SOCKET": "/env.sock", "RUNTIME_DIRECTORY": "/run/polpo:/run/other"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory deep in one that has a `.polpo`."""
    (tmp_path / ".polpo").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    return tmp_path


def without(env: dict[str, str], *names: str) -> dict[str, str]:
    return {k: v for k, v in env.items() if k not in names}


def test_the_nearest_state_directory_is_here_or_above(project: Path) -> None:
    assert nearest(str(project)) == nearest(str(project / "a" / "b")) == str(project)
    (project / "a" / ".polpo").mkdir()
    assert nearest(str(project / "a" / "b")) == str(project / "a")


def test_a_file_of_that_name_is_no_state_directory(project: Path) -> None:
    (project / "a" / ".polpo").touch()
    assert nearest(str(project / "a" / "b")) == str(project)


def test_above_the_root_there_is_nothing() -> None:
    assert nearest("/proc/self") is None


def test_the_user_s_root_follows_xdg() -> None:
    assert user_root({"XDG_STATE_HOME": "/x", "HOME": "/home/u"}) == "/x/polpo"
    assert user_root({"XDG_STATE_HOME": "", "HOME": "/home/u"}) == "/home/u/.local/state/polpo"
    assert user_root({}) == os.path.expanduser("~/.local/state/polpo")


def test_the_daemon_s_root_option_environment_service_project_user(project: Path) -> None:
    here = str(project / "a")
    assert daemon_root("/given", DAEMON, here) == "/given"
    assert daemon_root(None, DAEMON, here) == "/env"
    assert daemon_root(None, without(DAEMON, "POLPO_ROOT"), here) == "/var/lib/polpo"
    assert daemon_root(None, USER, here) == str(project)
    assert daemon_root(None, USER, "/proc/self") == "/home/u/.local/state/polpo"


def test_a_relative_root_becomes_absolute() -> None:
    assert daemon_root("x", {}, "/") == os.path.join(os.getcwd(), "x")


def test_the_daemon_s_socket_option_environment_service_root() -> None:
    assert daemon_socket("/given.sock", SERVICE, "/r") == "/given.sock"
    assert daemon_socket(None, SERVICE, "/r") == "/env.sock"
    assert daemon_socket(None, without(SERVICE, "POLPO_SOCKET"), "/r") == "/run/polpo/polpod.sock"
    assert daemon_socket(None, {}, "/r") == "/r/.polpo/polpod.sock"
    assert daemon_socket("s", {}, "/r") == os.path.join(os.getcwd(), "s")


def test_a_client_that_was_told_where_tries_only_there(project: Path) -> None:
    here, env = str(project / "a"), {"POLPO_SOCKET": "/env.sock", "POLPO_ROOT": "/env"}
    assert client_sockets("/given.sock", "/root", env, here) == ["/given.sock"]
    assert client_sockets(None, "/root", env, here) == ["/env.sock"]
    assert client_sockets(None, "/root", without(env, "POLPO_SOCKET"), here) == ["/root/.polpo/polpod.sock"]
    assert client_sockets(None, None, without(env, "POLPO_SOCKET"), here) == ["/env/.polpo/polpod.sock"]
    assert client_sockets(None, None, {}, here) == [f"{project}/.polpo/polpod.sock"]


def test_a_client_that_was_told_nothing_tries_the_user_s_and_the_system_s() -> None:
    user = "/home/u/.local/state/polpo/.polpo/polpod.sock"
    assert client_sockets(None, None, USER, "/proc/self") == ["/run/polpo/polpod.sock", user]
    with_runtime = USER | {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert client_sockets(None, None, with_runtime, "/proc/self") == [
        *("/run/user/7/polpo/polpod.sock", "/run/polpo/polpod.sock", user),
    ]


def test_daemon_and_client_meet(project: Path) -> None:
    root = daemon_root(None, USER, str(project / "a"))
    assert client_sockets(None, None, USER, str(project / "a" / "b")) == [daemon_socket(None, USER, root)]
    root = daemon_root(None, USER, "/proc/self")
    assert daemon_socket(None, USER, root) in client_sockets(None, None, USER, "/proc/self")


def test_the_files_of_a_state_directory() -> None:
    paths = StateDirectory("/r")
    assert vars(paths) == {
        "root": "/r", "path": "/r/.polpo", "config": "/r/.polpo/polpo.json", "lock": "/r/.polpo/polpod.lock",
        "ballast": "/r/.polpo/ballast", "tasks_db": "/r/.polpo/state.db", "runs_db": "/r/.polpo/runs.db", "run_directories": "/r/.polpo/tmp",
        "key_secret": "/r/.polpo/key.secret",
        "logs": "/r/.polpo/logs", "daemon_log": "/r/.polpo/logs/polpod.log", "content": "/r/.polpo/content",
    }  # fmt: skip
    assert paths.log(17) == "/r/.polpo/logs/17.log"
    run = paths.run(17)
    assert run.path == "/r/.polpo/tmp/run-17"
    assert {os.path.dirname(path) for name, path in vars(run).items() if name != "path"} == {run.path}
    assert (os.path.basename(run.spec), os.path.basename(run.exit)) == ("spec.json", "exit.json")
    assert len(set(vars(run).values())) == len(vars(run))


def test_a_socket_s_path_has_as_many_bytes_as_linux_takes(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_PATH)
    start = f"/proc/self/fd/{directory}/"
    name = start + "x" * (SUN_PATH_MAX - len(start))
    try:
        with socket.socket(socket.AF_UNIX) as fits, socket.socket(socket.AF_UNIX) as too_long:
            fits.bind(name)
            with pytest.raises(OSError, match="too long"):
                too_long.bind(name + "x")
    finally:
        os.close(directory)
