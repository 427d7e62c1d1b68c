"""Who may look at the web endpoint, and from where.

Rules:

1. The name under which it was called is one of its own: a page of another name that leads here (DNS rebinding) is told
   nothing.  A page of another origin is told nothing either.
2. Nothing is known of anybody but by a key in the request itself: no cookie, no address, nothing that a browser adds by
   itself.  A browser's WebSocket has no headers of ours, so there the key is one of the subprotocols.
3. A wrong key is refused, whatever is wrong with it, and logged; who shows too many is told to wait, and logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import trio

from polpod.model.web import Web
from polpod.services.keys import Access, Keys

PROTOCOL = "polpod"
KEY_PROTOCOL = "polpod.key."
"""A subprotocol that begins so ends with a key."""

LONGEST_KEY = 200

WRONG = 10
"""Wrong keys from one address within a WINDOW."""
WINDOW = 60.0
ADDRESSES = 1000
"""Whose wrong keys are counted; of more, those are forgotten that were counted first."""

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}

log = logging.getLogger(__name__)


class Refusal(Exception):
    """The request is answered with this status, and why in a sentence."""

    def __init__(self, status: HTTPStatus, why: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.headers = dict(headers or {})


def own_hosts(web: Web, port: int | None) -> frozenset[str]:
    """What `Host` may say, in lower case; `port`: where it listens, if that is a port."""
    names = {name.lower() for name in web.hosts}
    if port is None or isinstance(web.address, str):
        return frozenset(names | {"localhost"})
    host = web.address[0].lower()
    for name in {host} | (_LOOPBACK if host in _LOOPBACK else set()):
        shown = f"[{name}]" if ":" in name else name
        names |= {f"{shown}:{port}"} | ({shown} if port in (80, 443) else set())
    return frozenset(names)


class Door:
    """`hosts`: its own."""

    def __init__(self, keys: Keys, hosts: frozenset[str]) -> None:
        self._keys = keys
        self._hosts = hosts
        self._wrong: dict[str, tuple[float, int]] = {}

    def require_own(self, headers: Mapping[str, str]) -> None:
        """Rule 1.  Raises Refusal."""
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            raise Refusal(
                HTTPStatus.MISDIRECTED_REQUEST, "not a name of this polpod: settings.web.hosts says which are"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host:
            raise Refusal(HTTPStatus.FORBIDDEN, "a page of another origin is told nothing")

    async def require_key(self, headers: Mapping[str, str], address: str) -> Access:
        """Whose key the request shows.  Raises Refusal, Unavailable."""
        key = _shown(headers)
        access = await self._keys.find(key[:LONGEST_KEY]) if key else None
        if access is not None:
            return access
        if not key:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "a key is needed", {"WWW-Authenticate": 'Bearer realm="polpod"'})
        self._count_wrong(address)
        raise Refusal(HTTPStatus.UNAUTHORIZED, "not a key", {"WWW-Authenticate": 'Bearer realm="polpod"'})

    def _count_wrong(self, address: str) -> None:
        """Rule 3.  Raises Refusal."""
        began, count = self._wrong.pop(address, (-WINDOW, 0))
        now = trio.current_time()
        if now - began >= WINDOW:
            began, count = now, 0
        self._wrong[address] = began, count + 1
        if len(self._wrong) > ADDRESSES:
            del self._wrong[next(iter(self._wrong))]
        if count < WRONG:
            log.warning("a wrong key from %s", address)
            return
        if count == WRONG:
            log.warning("too many wrong keys from %s: those that follow are not logged for a minute", address)
        raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong keys", {"Retry-After": f"{WINDOW:g}"})


def _shown(headers: Mapping[str, str]) -> str:
    """The key that a request shows; empty: none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return next((p.removeprefix(KEY_PROTOCOL) for p in protocols(headers) if p.startswith(KEY_PROTOCOL)), "")


def protocols(headers: Mapping[str, str]) -> Sequence[str]:
    """The subprotocols that a WebSocket handshake offers."""
    return [word.strip() for word in headers.get("sec-websocket-protocol", "").split(",")]
