"""The files of the page, as they are in the package: read once, and sent with the headers that keep them safe."""

from __future__ import annotations

import mimetypes
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable

from msgspec import Struct

INDEX = "index.html"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with every answer."""


class Answer(Struct, frozen=True):
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = {}


def page(path: str) -> Answer:
    """The file of that path; what the page shows is behind the `#` of its address, which no server sees."""
    found = _files().get(path.removeprefix("/") or INDEX)
    return found or Answer(b"there is no such page\n", status=HTTPStatus.NOT_FOUND)


@cache
def _files() -> dict[str, Answer]:
    return dict(_below(files("polpod.services.web").joinpath("static"), ""))


def _below(directory: Traversable, before: str) -> list[tuple[str, Answer]]:
    found: list[tuple[str, Answer]] = []
    for entry in directory.iterdir():
        path = before + entry.name
        if entry.is_dir():
            found += _below(entry, f"{path}/")
        elif not entry.name.startswith("."):
            kind = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
            if kind.startswith("text/") or kind.endswith(("javascript", "json", "xml")):
                kind += "; charset=utf-8"
            # Vite puts a hash into the names of assets: such a file never changes.
            keep = "public, max-age=31536000, immutable" if path.startswith("assets/") else "no-cache"
            found.append((path, Answer(entry.read_bytes(), kind, headers={"Cache-Control": keep})))
    return found
