"""What a job puts where the daemon looks for what its run left: nothing there is waited for, or read without end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit.samples import a_run

from polpod.errors import RequestError
from polpod.model.runs import Phase, RunStatus
from polpod.paths import StateDirectory
from polpod.runner import contract, directory
from polpod.services.logs import read_log
from polpod.services.reviewing import Evidence, evidence


def a_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)


PLACED: dict[str, Callable[[str], Any]] = {
    "pipe": os.mkfifo,
    "directory": os.mkdir,
    "link to itself": lambda path: os.symlink(path, path),
    "endless": lambda path: os.symlink("/dev/zero", path),
    "socket": a_socket,
    "large": lambda path: Path(path).write_bytes(b" " * (contract.ASSESSMENT_SIZE + 1)),
}


@pytest.mark.parametrize("what", PLACED)
def test_what_is_no_file_of_a_run_says_nothing(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    paths = StateDirectory(".")
    run = paths.run(5)
    os.makedirs(run.path)
    for path in (run.assessment, run.exit, run.trouble, run.lock, "log"):
        PLACED[what](path)
    for read in (directory.read_exit, directory.read_lock):
        with pytest.raises(ValueError):  # noqa: PT011 -- of several causes
            read(run.exit if read is directory.read_exit else run.lock)
    assert not (directory.read_trouble(run) or "").strip()
    instance: Any = type("Instance", (), {"paths": paths})
    for phase in Phase:
        ended = a_run(RunStatus.FAILED, "signalled", phase=phase, log_path="log")
        assert evidence(instance, ended) == Evidence()
    if what != "large":
        with pytest.raises(RequestError, match=r"^log: "):
            read_log("log", 0, 10, None)
    kept = paths.damaged_exit(5)
    os.makedirs(os.path.dirname(kept), exist_ok=True)
    assert "damaged" in str(directory.set_aside(run, kept))
    assert not os.path.lexists(run.exit)
