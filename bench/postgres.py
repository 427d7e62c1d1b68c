"""A PostgreSQL server of the benchmark's own: that of the tests (tests/kit/postgres.py)."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path


@contextmanager
def database() -> Iterator[str | None]:
    """The address of a new database; None where no server is installed."""
    if shutil.which("initdb") is None and not glob("/usr/lib/postgresql/*/bin/initdb"):
        yield None
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from kit.postgres import server

    yield server().url(server().fresh())
