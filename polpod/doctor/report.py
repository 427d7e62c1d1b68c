"""Carries out every check, in the order in which a person would look, and prints what each found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import msgspec

from polpod import remedies
from polpod.config import Config, load
from polpod.doctor import databases, host, place, processes, service
from polpod.doctor.checkup import Diagnosis, Patient, problem
from polpod.errors import StartError
from polpod.lock import holder, require_own
from polpod.paths import StateDirectory

CHECKS: tuple[Callable[[Patient], Iterator[Diagnosis]], ...] = (
    place.directory,
    place.file_system,
    place.space,
    service.lock_and_socket,
    service.work,
    databases.databases,
    host.containment,
    host.limits,
    processes.unknown_runs,
    processes.deleted_logs,
    host.descriptors,
    host.versions,
)


def main(paths: StateDirectory, socket: str, as_json: bool) -> int:
    """Print a line for each thing that was looked at; 1 if one of them is a problem."""
    found = list(examine(paths, socket))
    if as_json:
        print(json.dumps(msgspec.to_builtins(found)))
    else:
        for one in found:
            print(f"{one.level.ljust(8)} {one.name}: {one.says}{f' → {one.next}' if one.next else ''}")
    return 1 if any(one.level == "problem" for one in found) else 0


def examine(paths: StateDirectory, socket: str) -> Iterator[Diagnosis]:
    for directory in (paths.root, paths.path):
        if os.path.isdir(directory) and not os.access(directory, os.X_OK):
            yield problem(
                "directory",
                f"you may not look into {directory}",
                f"be its owner or root: {remedies.command(paths.root, 'doctor')}",
            )
            return
    if not os.path.isdir(paths.path):
        yield problem("directory", f"there is no {paths.path}", remedies.command(paths.root, "start"))
        return
    if os.geteuid() != 0:
        try:
            require_own(paths.path)
        except StartError as exc:  # nothing in it could be looked at
            yield problem("directory", str(exc))
            return
    try:
        config, _ = load(paths.config)
    except StartError as exc:
        yield problem(
            "settings", str(exc), f"correct {paths.config}; {remedies.command(paths.root, 'config', 'check')}"
        )
        config = Config()
    patient = Patient(paths, socket, config, holder(paths), service.ask(socket))
    for check in CHECKS:
        yield from check(patient)
