"""System calls that the standard library lacks: prctl(2), fallocate(2) with a mode, close_range(2) with gaps."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02


def become_subreaper() -> None:
    """Orphaned descendants become our children instead of those of PID 1.  Not inherited by children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal to us when our parent dies.  Kept across exec, not across fork."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def set_name(name: str) -> None:
    """The name of this process in `ps` and `top`; the kernel keeps 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode())
    _prctl(_PR_SET_NAME, ctypes.addressof(buffer))


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Give these bytes of a file back to the file system: they read as zeros, and no offset changes.

    Raises OSError, with EOPNOTSUPP where the file system cannot.
    """
    _check(_libc.fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, offset, length))


def close_all_but(*kept: int) -> None:
    """Close every descriptor except 0, 1, 2 and these."""
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _prctl(option: int, argument: int) -> None:
    _check(_libc.prctl(option, argument, 0, 0, 0))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
