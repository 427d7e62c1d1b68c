"""`settings.web` of polpo.json."""

from __future__ import annotations

import re

from msgspec import Struct

_HOST_PORT = re.compile(
    r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(6553[0-5]|655[0-2]\d|65[0-4]\d{2}|6[0-4]\d{3}|[1-5]?\d{1,4})", re.ASCII
)


class Web(Struct, frozen=True, rename="camel"):
    """Where people look at polpod with a browser, and programs from afar."""

    listen: str
    """`HOST:PORT` of this host, such as `127.0.0.1:7575`, or `unix:/a/path` for a proxy on it."""
    certificate: str | None = None
    """A file of PEM certificates, with its `key`: then it is https.  None: a proxy does that, or nobody."""
    key: str | None = None
    hosts: tuple[str, ...] = ()
    """Names, with the port where it is not the scheme's own, under which browsers may know it beside `listen`."""
    open_metrics: bool = False
    """Whether `/metrics` is shown without a key."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("web: a certificate needs its key, and a key its certificate")
        if not (self.listen.startswith("unix:/") or _HOST_PORT.fullmatch(self.listen)):
            raise ValueError(f"web: listen: HOST:PORT or unix:/PATH, not {self.listen!r}")

    @property
    def address(self) -> str | tuple[str, int]:
        """The path of a Unix socket, or a host and a port."""
        if self.listen.startswith("unix:"):
            return self.listen.removeprefix("unix:")
        host, _, port = self.listen.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)
