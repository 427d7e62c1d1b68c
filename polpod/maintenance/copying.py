"""`polpoctl store copy --to BACKEND`: everything of the task store into another backend, with no daemon at work."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing

import msgspec

from polpod.config import load
from polpod.errors import Conflict, InvalidRequest
from polpod.maintenance.place import require
from polpod.maintenance.stores import locked
from polpod.paths import StateDirectory
from polpod.remedies import command
from polpod.storage import locate
from polpod.store import copy as copies
from polpod.store.databases import TASKS
from polpod.store.group import open_store

_LASTING = ("sqlite", "file", "postgres")


def copy(paths: StateDirectory, to: str, as_json: bool) -> int:
    """Copy, prove it row by row, and say how to go on with the copy; what was there stays.

    Raises StartError (75: a daemon runs), InvalidRequest, Conflict, StoreError, DiskFull, Unavailable.
    """
    require(paths)
    config, _ = load(paths.config)
    storage = config.settings.storage
    if to not in _LASTING:
        raise InvalidRequest(f"--to {to}: one of {', '.join(_LASTING)}")
    changed = msgspec.structs.replace(config, settings=msgspec.structs.replace(config.settings, storage=to))
    source, target = locate(config, paths, os.environ), locate(changed, paths, os.environ)
    if source == target:
        raise Conflict(f"the task store is in {to} already")
    with locked(paths), closing(open_store(source, TASKS)) as old:
        with closing(open_store(target, TASKS)) as new:
            rows = copies.copy(old, old.session.where, new, _told)
            where = new.session.where
    if as_json:
        print(json.dumps({"from": storage, "to": to, "rows": rows}))
        return 0
    counted = ", ".join(f"{number} {name}" for name, number in rows.items() if number)
    print(f"{where} holds what is in {storage}, compared row by row: {counted or 'nothing'}")
    print(f"next: {command(paths.root, 'config', 'set', 'storage', to)}")
    return 0


def _told(table: str, rows: int) -> None:
    if rows:
        print(f"{rows} {table}", file=sys.stderr)
