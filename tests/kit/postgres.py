"""A PostgreSQL server of our own, one for each process of tests: Debian's `postgresql`, reached by a Unix socket alone.

It runs as another user where the tests are root, with its data in a temporary directory.  A process beside it waits for
the end of the tests, however they end, and then ends the server and removes its data.
"""

from __future__ import annotations

import atexit
import glob
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kit.waiting import BOUND, until
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit, open_store
from polpod.store.location import Postgres
from polpod.store.records import Tx

Store = GroupCommit[Tx]

CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{directory}'
fsync = off
max_connections = 60
shared_buffers = '32MB'
log_min_messages = warning
"""
"""Without fsync, since it is the server that is killed here and never its computer: what it wrote, the kernel has."""

ACCESS = """
local all ann scram-sha-256
local all all trust
"""
PASSWORD = "correct horse"
"""Of the user `ann`; others need none."""

PATIENT = "&connect_timeout=30"
"""On a busy machine a server takes longer to answer than polpod waits for one that may be gone."""

GUARD = """
import os, shutil, signal, sys, time
directory = sys.argv[1]
os.setsid()
sys.stdin.read()
def processes():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd") == f"{directory}/data":
                yield int(pid)
        except OSError:
            pass
while found := list(processes()):
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    time.sleep(0.02)
shutil.rmtree(directory)
"""
"""Every process of the server has its data as working directory, and no other process has."""


class Server:
    """It runs from here on.  `stop`, `start` and `stopped` are for faults; who uses them leaves it running."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.directory = tempfile.mkdtemp(prefix="polpod-pg-")
        self._data = Path(self.directory, "data")
        self._user = _user()
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self._idle: list[str] = []
        silent = subprocess.DEVNULL
        guard = subprocess.Popen(
            [sys.executable, "-c", GUARD, self.directory], stdin=subprocess.PIPE, stdout=silent, stderr=silent
        )
        assert guard.stdin is not None
        self._guard = guard
        if self._user is not None:
            os.chown(self.directory, self._user, -1)
        how = ["--auth=trust", "--username=polpod", "--encoding=UTF8", "--no-sync"]
        how += ["--locale=C", "--locale-provider=icu", "--icu-locale=en"]  # whose order of text is not ours
        self._run("initdb", f"--pgdata={self._data}", *how)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION.format(directory=self.directory))
        (self._data / "pg_hba.conf").write_text(ACCESS)
        self.start()
        self.execute("postgres", f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'")

    def url(self, database: str, *, user: str = "polpod", host: str | None = None, more: str = "") -> str:
        return f"postgresql://{user}@/{database}?host={host or self.directory}{more}"

    def fresh(self, template: str = "template0") -> str:
        """The name of a new database.  It stays: to drop one takes a checkpoint, and so, on a busy disk, seconds."""
        self._number += 1
        name = f"test{self._number}"
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    @contextmanager
    def lent(self) -> Iterator[str]:
        """The name of a database as good as new, for a while."""
        name = self._idle.pop() if self._idle else self.fresh()
        yield name
        self.hang_up(name)  # a test that failed may have left it in the middle of something
        schemas = self.execute(name, "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$'")
        drops = "; ".join(f"DROP SCHEMA {schema} CASCADE" for (schema,) in schemas)
        owner = "CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO public"
        self.execute(name, f"{drops}; {owner}")
        for change in ("RESET ALL", "OWNER TO polpod"):
            self.execute("postgres", f"ALTER DATABASE {name} {change}")
        self._idle.append(name)

    def hang_up(self, database: str) -> None:
        """End every connection to it; also those whose clients have gone, which the server may not have noticed."""
        self.execute(
            database,
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )

    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """As the administrator; the rows, where it gives any."""
        with psycopg.connect(self.url(database), autocommit=True) as db:
            cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Returns when it answers."""
        command = [self._programs / "postgres", "-D", self._data]
        with Path(self.directory, "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self._user, stdout=log, stderr=log, cwd="/")
        until(self._answers, "the server's answer")

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT: immediately, as in a crash; SIGINT: at once, but in order."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(BOUND)
        self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Every process of it is stopped meanwhile, as on a host that hangs."""
        pids = list(self._processes())
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """The guard does it, now."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(BOUND)
        if self._process is not None:
            self._process.wait(BOUND)

    def _processes(self) -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.readlink(entry / "cwd") == str(self._data):
                        yield int(entry.name)
                except OSError:  # it has ended
                    pass

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the server did not start: {Path(self.directory, 'log').read_text()}")
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, user=self._user, check=True, capture_output=True, cwd="/", timeout=BOUND)


def _user() -> int | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        return 65534


def _programs() -> Path | None:
    """Where the server's programs are; Debian puts them beside what is in PATH."""
    found = shutil.which("initdb")
    places = [os.path.dirname(os.path.realpath(found))] if found else []
    places += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return next((Path(place) for place in places if os.path.exists(f"{place}/postgres")), None)


@cache
def _started() -> Server | None:
    if (programs := _programs()) is None:
        return None
    made = Server(programs)
    atexit.register(made.close)
    return made


def server() -> Server:
    """The one of this process.  Where PostgreSQL is not installed, the test is skipped, or fails if tests are strict."""
    made = _started()
    if made is None:
        message = "needs PostgreSQL (apt install postgresql)"
        if "POLPOD_TEST_STRICT" in os.environ:
            pytest.fail(message)
        pytest.skip(message)
    return made


# Fixtures of the tests of a store in it.


@pytest.fixture
def pg() -> Server:
    return server()


@pytest.fixture
def name(pg: Server) -> Iterator[str]:
    with pg.lent() as name:
        yield name


@pytest.fixture
def store(pg: Server, name: str) -> Iterator[Store]:
    with closing(open_store(Postgres(pg.url(name)), TASKS)) as store:
        yield store
