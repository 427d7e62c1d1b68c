"""The Debian package, built as `make deb` builds it, and what is in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from kit.waiting import BOUND

CHECKOUT = Path(__file__).parents[2]

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid()}")
"""Of tests: all workers of one have the same."""


def need(*tools: str) -> None:
    """Skips the test where one of the programs is missing; in continuous integration that is a failure."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and "POLPOD_TEST_STRICT" not in os.environ:
        pytest.skip(f"needs {', '.join(missing)}")
    assert missing == []


def build(suffix: str = "") -> Path:
    """A new package of this checkout; `suffix`, such as `+1`, makes its version a later one."""
    need("dpkg-deb")
    made = subprocess.run(
        [CHECKOUT / "packaging/deb"],
        env=os.environ | {"VERSION_SUFFIX": suffix},
        capture_output=True,
        text=True,
        check=False,
        timeout=4 * BOUND,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return CHECKOUT / made.stdout.strip()


@cache
def built(suffix: str = "") -> Path:
    """As `build`, but once in a run of tests, whichever of its workers asks first."""
    need("dpkg-deb")
    directory = CHECKOUT / "build"
    directory.mkdir(exist_ok=True)
    with (directory / f"tests{suffix}.built").open("a+") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        note.seek(0)
        run, _, path = note.read().partition("\n")
        if run != RUN:
            path = str(build(suffix))
            note.truncate(0)
            note.write(f"{RUN}\n{path}")
        return Path(path)


def field(package: Path, name: str) -> str:
    """A field of its control file."""
    return subprocess.check_output(["dpkg-deb", "--field", package, name], text=True).strip()


def unpacked(package: Path, directory: Path) -> Path:
    """The directory, with what the package would install."""
    subprocess.run(["dpkg-deb", "--extract", package, directory], check=True)
    return directory
