"""The backends on which a daemon runs that keeps what it has, and how polpo.json names them."""

from __future__ import annotations

from kit.postgres import PATIENT, server

LASTING = ("sqlite", "file", "postgres")


def database() -> str:
    """The address of a new one."""
    return server().url(server().fresh(), more=PATIENT)


def settings_of(storage: str) -> dict[str, str]:
    """What polpo.json has to say, with a new database where it takes one."""
    return {"storage": storage} | ({"databaseUrl": database()} if storage == "postgres" else {})
