"""The daemon's log as the journal gets it: entries on its socket, or lines with priorities."""

from __future__ import annotations

import errno
import io
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polpod import journald


def entry(data: bytes) -> dict[str, str]:
    """A datagram of the journal's native protocol, as its documentation says."""
    fields, rest = {}, data
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, is_short, value = line.partition(b"=")
        if not is_short:
            (size,) = struct.unpack_from("<Q", rest)
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "journal"))
        listener.settimeout(10)
        yield listener


@pytest.fixture
def stderr() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(tmp_path: Path, stderr: io.StringIO) -> Iterator[logging.Logger]:
    logger = logging.Logger("polpod.test")
    handler = journald.Journal(stderr, str(tmp_path / "journal"))
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_an_entry_has_its_priority_its_place_and_its_run(
    log: logging.Logger, journal: socket.socket, stderr: io.StringIO
) -> None:
    log.warning("run %d: “%s”", 7, "größe", extra={"run_id": 7, "task_id": "41"})
    found = entry(journal.recv(65536))
    assert found.pop("CODE_LINE").isdecimal()
    assert found == {
        "MESSAGE": "run 7: “größe”",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "polpod",
        "LOGGER": "polpod.test",
        "CODE_FILE": __file__,
        "CODE_FUNC": "test_an_entry_has_its_priority_its_place_and_its_run",
        "POLPO_RUN_ID": "7",
        "POLPO_TASK_ID": "41",
    }
    assert stderr.getvalue() == ""


def test_a_traceback_is_one_entry(log: logging.Logger, journal: socket.socket) -> None:
    try:
        raise ValueError("why\nthat is")
    except ValueError:
        log.exception("it failed")
    found = entry(journal.recv(65536))
    assert found["MESSAGE"].startswith("it failed\nTraceback (most recent call last):\n")
    assert found["MESSAGE"].endswith("ValueError: why\nthat is")
    assert (found["PRIORITY"], found["LOGGER"]) == ("3", "polpod.test")


@pytest.mark.parametrize("size", [10, 2**24])
def test_what_the_journal_cannot_take_is_on_stderr_with_priorities(
    tmp_path: Path, log: logging.Logger, stderr: io.StringIO, size: int
) -> None:
    """It is not there; or (longer than any datagram) it is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        if size > 10:
            listener.bind(str(tmp_path / "journal"))
        log.error("first\n%s", "x" * size)
    assert stderr.getvalue() == f"<3>first\n<3>{'x' * size}\n"


def test_a_journal_that_hangs_costs_entries_and_no_time(
    log: logging.Logger, journal: socket.socket, stderr: io.StringIO
) -> None:
    most = 5000  # far more than its queue has room for
    for number in range(most):
        log.info("entry %d", number)
    journal.setblocking(False)
    heard = 0
    while True:
        try:
            assert entry(journal.recv(65536))["MESSAGE"] == f"entry {heard}"
        except BlockingIOError:
            break
        heard += 1
    assert 0 < heard < most
    assert stderr.getvalue() == ""
    log.info("it is back")
    assert entry(journal.recv(65536))["MESSAGE"] == "it is back"


class Broken(io.StringIO):
    """The stream of a journal that ended."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_journal_that_ended_ends_nobody_else(tmp_path: Path) -> None:
    log = logging.Logger("polpod.test")
    log.addHandler(journald.Journal(Broken(), str(tmp_path / "journal")))
    log.warning("nobody hears it")
    log.handlers[0].close()


def polpod(stderr: Path, stream: str | None) -> str:
    """What a polpod says that does not start, with this $JOURNAL_STREAM."""
    environment = os.environ | ({"JOURNAL_STREAM": stream} if stream else {})
    with stderr.open("wb") as output:
        command = [sys.executable, "-m", "polpod", "--root", "/proc/nowhere"]
        assert subprocess.run(command, stderr=output, env=environment, cwd="/", timeout=60).returncode == 1
    return stderr.read_text()


def test_the_journal_listens_only_where_stderr_is_its_stream(tmp_path: Path) -> None:
    stderr = tmp_path / "stderr"
    stderr.touch()
    is_now = stderr.stat()
    said = polpod(stderr, f"{is_now.st_dev}:{is_now.st_ino}")
    assert said.startswith("<3>polpod: /proc/nowhere")
    assert polpod(stderr, None) == polpod(stderr, f"{is_now.st_dev}:{is_now.st_ino + 1}") == said.removeprefix("<3>")


SCRIPT = """
import logging, sys
from polpod import journald
journald.begin("info", sys.argv[1])
logging.getLogger("polpod.test").info("it goes on")
logging.getLogger("polpod.test").debug("in detail")
raise ValueError("a defect")
"""


def test_from_the_beginning_on_everything_is_an_entry_even_the_defect_that_ends_it(
    tmp_path: Path, journal: socket.socket
) -> None:
    stderr = tmp_path / "stderr"
    with stderr.open("wb") as output:
        stream = f"{os.fstat(output.fileno()).st_dev}:{os.fstat(output.fileno()).st_ino}"
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "journal")]
        ended = subprocess.run(command, stderr=output, env=os.environ | {"JOURNAL_STREAM": stream}, cwd="/", timeout=60)
    assert ended.returncode == 1
    first, last = (entry(journal.recv(65536)) for _ in range(2))
    assert (first["MESSAGE"], first["PRIORITY"]) == ("it goes on", "6")
    assert last["MESSAGE"].startswith("ended by a defect\nTraceback")
    assert (last["MESSAGE"].splitlines()[-1], last["PRIORITY"]) == ("ValueError: a defect", "2")
    assert stderr.read_text() == ""
