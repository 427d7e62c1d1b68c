"""What kind of file system a directory lies on: SQLite's WAL needs one whose memory maps all processes share (F57).

The numbers are those of statfs(2) and linux/magic.h.
"""

from __future__ import annotations

import ctypes
import os

from polpod.errors import StartError

UNFIT = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB2",
    0xFF534D42: "CIFS",
    0x01021997: "9p",
    0x65735546: "FUSE",
    0x5346414F: "AFS",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
}
"""Kinds on which a database in WAL mode is refused: other hosts, or another kernel, may hold the same file."""

FLEETING = {0x794C7630: "overlay", 0x01021994: "tmpfs", 0x858458F6: "ramfs"}
"""Kinds that work, and that forget everything when a container or the host ends."""

_LONGEST = 256
"""Bytes: more than any architecture's `struct statfs`, whose first member is the kind."""


def kind(path: str) -> int:
    """`f_type` of the file system of `path`.  Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(_LONGEST)
    if libc.statfs(os.fsencode(path), answer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return ctypes.c_long.from_buffer(answer).value & 0xFFFFFFFF


def refuse_unfit(path: str) -> None:
    """Raises StartError, naming the kind, where a database must not be."""
    if (name := UNFIT.get(kind(path))) is not None:
        raise StartError(
            f"{path} is on {name}: databases there are damaged sooner or later, since file locks and shared memory do "
            "not hold between hosts; put the state directory on a local disk (polpod --root DIR)"
        )
