"""A web server that is told of events: it keeps what it was told, and answers as it is told to."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CERTIFICATE = str(Path(__file__).parents[1] / "data" / "localhost.pem")
"""With its key; good for nothing but these tests."""

EVENT = ("seq", "at", "kind", "subject", "body")
"""The fields of an event."""


class Webhook:
    """`answer` is the status of each answer; None: it says nothing until it is closed.  `tls`: with CERTIFICATE."""

    def __init__(self, answer: int | None = 200, *, tls: bool = False) -> None:
        self.answer = answer
        self.told: list[dict[str, Any]] = []
        """The event of each request, delivered or not."""
        self.requests: list[tuple[dict[str, str], bytes]] = []
        """Its headers and its body."""
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        origin = "https://localhost" if tls else "http://127.0.0.1"
        self.url = f"{origin}:{self._server.server_port}/hook?key=1"

    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.told]

    def said(self, name: str) -> list[Any]:
        """That field of each request's body."""
        return [json.loads(body)[name] for _, body in self.requests]

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _handler(self) -> Callable[..., BaseHTTPRequestHandler]:
        webhook = self

        class Request(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert (self.path, self.headers["Content-Type"]) == ("/hook?key=1", "application/json")
                webhook.requests.append((dict(self.headers), body))
                webhook.told.append({name: json.loads(body)[name] for name in EVENT})
                if webhook.answer is None:
                    webhook._closed.wait(60)
                    return
                self.send_response(webhook.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Request

    def __enter__(self) -> Webhook:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
