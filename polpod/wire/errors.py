"""Error codes and words of the wire (DESIGN §9): the numbers of JSON-RPC 2.0 §5.1, and the words of `data.type`."""

from __future__ import annotations

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
APPLICATION_ERROR = -32000
"""What polpod itself refuses; `data.type` says why, in one of `WORDS`."""

INVALID = "invalid"
"""With INVALID_PARAMS; `data.path` names the field."""
NOT_FOUND = "not_found"
INVALID_TRANSITION = "invalid_transition"
CONFLICT = "conflict"
PERMISSION_DENIED = "permission_denied"
UNAVAILABLE = "unavailable"
DISK_FULL = "disk_full"
TOO_LARGE = "too_large"
UNSUPPORTED = "unsupported"
"""By the host that polpod runs on."""
REFUSED = "refused"

WORDS = (
    INVALID,
    NOT_FOUND,
    INVALID_TRANSITION,
    CONFLICT,
    PERMISSION_DENIED,
    UNAVAILABLE,
    DISK_FULL,
    TOO_LARGE,
    UNSUPPORTED,
    REFUSED,
)
"""Stable: a word is added, never changed."""
