"""A daemon with its web endpoint, one browser for all, and who looks at it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from kit.browser import Visitor, chromium
from kit.host import Host
from playwright.sync_api import Browser


class Site:
    """A daemon that is looked at by a browser."""

    def __init__(self, host: Host, browser: Browser) -> None:
        self.host = host
        self._browser = browser
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        host.configure(maxConcurrency=4, web={"listen": f"127.0.0.1:{self.port}"})
        host.start()
        self.key = self.key_of("ada", "admin")
        self.visitors: list[Visitor] = []

    def key_of(self, user: str, role: str) -> str:
        """A new key of a user with this role."""
        return str(self.host.call("key.create", user=user, role=role, name="browser")["key"])

    def visitor(self, key: str | None = None, **options: Any) -> Visitor:
        """Somebody who has signed in."""
        visitor = Visitor(self._browser, self.url, **options)
        self.visitors.append(visitor)
        visitor.sign_in(key or self.key)
        return visitor


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(browser: Browser) -> Iterator[Site]:
    with Host() as host:
        yield Site(host, browser)
        assert "Traceback" not in host.log(), host.log()


@pytest.fixture
def visitor(site: Site) -> Iterator[Visitor]:
    """The administrator; no browser complained of anything when the test is over."""
    visitor = site.visitor()
    yield visitor
    for one in site.visitors:
        one.close()
    complaints = [complaint for one in site.visitors for complaint in one.complaints]
    site.visitors.clear()
    assert complaints == []
