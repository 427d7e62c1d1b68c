"""The state directory: whose it is, what it lies on, and how much room there is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from polpod import filesystem
from polpod.doctor.checkup import Diagnosis, Patient, ok, problem, warning


def directory(patient: Patient) -> Iterator[Diagnosis]:
    """Owner and modes."""
    path = patient.paths.path
    status = os.stat(path)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022:
        yield problem("directory", f"{path} may be written by others (mode {mode:04o})", f"chmod go-w {path}")
    elif mode & 0o007:
        yield warning("directory", f"{path} may be entered by everybody (mode {mode:04o})", f"chmod o= {path}")
    else:
        yield ok("directory", f"{path}, uid {status.st_uid}, mode {mode:04o}")
    for name in sorted(os.listdir(path)):
        try:
            inner = os.lstat(os.path.join(path, name))
        except FileNotFoundError:  # a daemon that starts or stops makes and removes files
            continue
        if inner.st_uid != status.st_uid:
            yield problem(
                "directory",
                f"{path}/{name} belongs to uid {inner.st_uid}, so the daemon may not be able to use it",
                f"chown {status.st_uid} {path}/{name}",
            )
    for inner_path in (patient.paths.run_directories, patient.paths.logs):
        if os.path.lexists(inner_path) and not os.path.isdir(inner_path):
            yield problem("directory", f"{inner_path} is no directory, so nothing can start", f"move {inner_path} away")
    for name in sorted(os.listdir(path)):
        if name.startswith("incoming-"):
            yield warning("directory", f"{path}/{name}: a restore was interrupted; the next start completes it")


def file_system(patient: Patient) -> Iterator[Diagnosis]:
    """F57."""
    path = patient.paths.path
    kind = filesystem.kind(path)
    if (name := filesystem.UNFIT.get(kind)) is not None:
        yield problem(
            "file system", f"{path} is on {name}, where polpod does not start", "use a local disk: --root DIR"
        )
    elif (name := filesystem.FLEETING.get(kind)) is not None:
        yield warning(
            "file system", f"{path} is on {name}: it is gone with the container or the host", "use a disk: --root DIR"
        )
    else:
        yield ok("file system", f"local (type {kind:#x})")


def space(patient: Patient) -> Iterator[Diagnosis]:
    """Against the reserve, below which nothing starts (F49)."""
    statistics = os.statvfs(patient.paths.path)
    free, reserve = statistics.f_bavail * statistics.f_frsize, patient.config.settings.reserve
    said = f"{free >> 20} MiB are free, and the reserve is {reserve >> 20} MiB"
    if free < reserve:
        yield problem("space", f"{said}: nothing starts and nothing is accepted", "make room, or lower `reserve`")
    elif free < 2 * reserve:
        yield warning("space", f"{said}: soon nothing will start", "make room")
    else:
        yield ok("space", said)
    if statistics.f_files and not statistics.f_favail:
        yield problem("space", "no inode is free", "remove files")
