"""What can go wrong, cut by what the caller can do about it.

    PolpodError
    ├── RequestError            the caller's fault, or the state's: say so to the caller, go on
    │   ├── InvalidRequest      a field is wrong; `path` names it
    │   │   └── Unstorable      a value that some database could not hold; a ValueError, too
    │   ├── NotFound
    │   ├── InvalidTransition   the state machine refuses (DESIGN §5)
    │   ├── Conflict            somebody else has it: a live run, a newer version, another key
    │   ├── PermissionDenied
    │   ├── TooLarge
    │   ├── Unsupported         this host cannot do it
    │   ├── Unavailable         try again later
    │   │   └── PerhapsDone     it was sent to a server that was lost: it may have been stored all the same
    │   └── DiskFull            try again when there is space
    ├── StoreError              a store cannot do what it must
    │   ├── AlreadyExists       a record with that key, or that unique value, is there
    │   ├── BrokenReference     a record names another that is not there
    │   ├── Undecodable         records mean nothing; `table` and `keys` name them
    │   ├── SchemaTooNew        the database was written by a later polpod
    │   ├── Damaged             the file is damaged, or no database at all
    │   └── CommitInDoubt       nobody knows whether the last group is durable: stop and recover
    └── StartError              polpod cannot start; `exit_code` says how to end
        ├── AnothersDirectory   the state directory is another user's
        └── InvalidConfig       polpo.json is not what it must be; the message says where

`kind` is the stable word that clients see in `data.type` (DESIGN §9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class PolpodError(Exception):
    """Any error that polpod raises on purpose."""


class RequestError(PolpodError):
    kind: ClassVar[str] = "refused"


class InvalidRequest(RequestError):
    kind = "invalid"

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class Unstorable(InvalidRequest, ValueError):
    pass


class NotFound(RequestError):
    kind = "not_found"


class InvalidTransition(RequestError):
    kind = "invalid_transition"


class Conflict(RequestError):
    kind = "conflict"


class PermissionDenied(RequestError):
    kind = "permission_denied"


class TooLarge(RequestError):
    kind = "too_large"


class Unsupported(RequestError):
    kind = "unsupported"


class Unavailable(RequestError):
    kind = "unavailable"


class PerhapsDone(Unavailable):
    pass


class DiskFull(RequestError):
    kind = "disk_full"


class StoreError(PolpodError):
    pass


class AlreadyExists(StoreError):
    pass


class BrokenReference(StoreError):
    pass


class Undecodable(StoreError):
    def __init__(self, message: str, table: str, keys: Sequence[tuple[str | int | float | None, ...]]) -> None:
        super().__init__(message)
        self.table = table
        self.keys = keys


class SchemaTooNew(StoreError):
    pass


class Damaged(StoreError):
    pass


class CommitInDoubt(StoreError):
    pass


OTHER_DAEMON = 75
"""Exit code: try again when the other one is gone (DESIGN §10)."""


class StartError(PolpodError):
    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class AnothersDirectory(StartError):
    pass


class InvalidConfig(StartError):
    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=2)
