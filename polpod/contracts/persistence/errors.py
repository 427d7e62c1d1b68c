"""What can go wrong with persistence, and what an error of the store is here.

PersistenceError
├── PersistenceConnectionError   not connected, or it cannot be
├── MigrationError               the schema is not what it must be
├── RecordNotFoundError          no such content of an artifact; a record that is not there is None
├── DuplicateRecordError         a record of that id is there, where none is replaced
├── QueryError                   bad arguments, a rule of the tables, a row that does not decode, or the store failed
│   └── VersionConflictError     somebody else was faster
├── ArtifactTooLargeError
└── ArtifactStorageFullError
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from polpod.errors import AlreadyExists, BrokenReference, PolpodError


class PersistenceError(Exception):
    pass


class PersistenceConnectionError(PersistenceError):
    pass


class MigrationError(PersistenceError):
    pass


class RecordNotFoundError(PersistenceError):
    pass


class DuplicateRecordError(PersistenceError):
    pass


class QueryError(PersistenceError):
    pass


class VersionConflictError(QueryError):
    pass


class ArtifactTooLargeError(PersistenceError):
    pass


class ArtifactStorageFullError(PersistenceError):
    pass


Errors = tuple[tuple[type[Exception], type[PersistenceError]], ...]
"""What is raised in place of what; the first that fits."""

OF_QUERIES: Errors = ((PolpodError, QueryError), (ValueError, QueryError))
"""ValueError: an argument that no column holds, such as a naive instant."""
OF_INSERTS: Errors = ((AlreadyExists, DuplicateRecordError), *OF_QUERIES)
OF_CONNECTING: Errors = ((PolpodError, PersistenceConnectionError), (OSError, PersistenceConnectionError))
OF_MIGRATING: Errors = ((PolpodError, MigrationError),)


SAID: tuple[tuple[type[Exception], str], ...] = (
    (AlreadyExists, "another record has this id, or this value that only one may have"),
    (BrokenReference, "it names a record that is not there, or one that is there names it"),
)
"""What is said in place of a database's own words."""


@contextmanager
def translated(errors: Errors, about: str = "") -> Iterator[None]:
    """`about`: what the message begins with, as a rule the name of a table."""
    try:
        yield
    except tuple(theirs for theirs, _ in errors) as error:
        ours = next(ours for theirs, ours in errors if isinstance(error, theirs))
        words = next((said for theirs, said in SAID if isinstance(error, theirs)), str(error))
        raise ours(f"{about}: {words}" if about else words) from error
