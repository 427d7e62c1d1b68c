"""Who calls: the kernel's word about the process at the other end of the socket (DESIGN §9).

Who may submit may do what polpod's user may, since jobs run as that user: the difference between members is courtesy, not
security.  A process inside a run gets that run's rights, whoever its user is: a defence against accidents.
"""

from __future__ import annotations

import os
import re
import socket
import struct

import trio

from polpod.services.keys import Access, Role
from polpod.services.rpc.method import Caller, Right

RIGHTS = {Role.ADMIN: Right.OWNER, Role.OPERATOR: Right.OPERATOR, Role.OBSERVER: Right.MEMBER}

NOBODY = -1
"""The uid of who only looks: nothing is its own."""

_CREDENTIALS = struct.Struct("3i")


def caller(peer: trio.socket.SocketType, base: str) -> Caller:
    """The process that connected; `base` is what the cgroup is called that holds our runs.  Raises OSError: it is gone."""
    pid, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if (run_id := _run_around(pid, base)) is not None:
        return Caller(uid, pid, Right.RUN, run_id)
    return Caller(uid, pid, Right.OWNER if uid in (0, os.geteuid()) else Right.MEMBER)


def of_run(who: Caller, run_id: int) -> Caller:
    """The same process, with that run's rights and no others."""
    return Caller(who.uid, who.pid, Right.RUN, run_id, who.user)


def of_key(access: Access) -> Caller:
    """Who showed a key; the work that it hands in is that of polpod's own user, as whom it runs."""
    reads_only = access.role is Role.OBSERVER
    uid = NOBODY if reads_only else os.geteuid()
    return Caller(uid, os.getpid(), RIGHTS[access.role], user=access.user, reads_only=reads_only)


def _run_around(pid: int, base: str) -> int | None:
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            groups = file.read()
    except OSError:  # it ended, or hides: then it is nobody's job
        return None
    found = re.search(rf"^0::.*{re.escape(base)}/run-(\d+)(?:/|$)", groups, re.MULTILINE)
    return int(found[1]) if found else None
