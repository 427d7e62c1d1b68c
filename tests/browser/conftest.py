"""A daemon with its web endpoint, one browser for all, and who looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kit.browser import Visitor, chromium
from kit.host import Host
from kit.ports import free_port
from kit.waiting import until
from playwright.sync_api import Browser


class Site:
    """A daemon that is looked at by a browser."""

    def __init__(self, host: Host, browser: Browser) -> None:
        self.host = host
        self._browser = browser
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}/"
        host.configure(maxConcurrency=4, web={"listen": address})
        host.start()
        host.call("user.add", username="ada")
        self.key = self.key_of("admin")
        self.visitors: list[Visitor] = []
        until(lambda: f"listens on port {address.partition(':')[2]}" in host.log(), "the page is there")

    def key_of(self, role: str) -> str:
        """A new key with this role."""
        return str(self.host.call("key.add", user="ada", name=role, role=role)["secret"])

    def visitor(self, key: str | None = None, **options: Any) -> Visitor:
        """Somebody who has signed in."""
        visitor = Visitor(self._browser, self.url, **options)
        self.visitors.append(visitor)
        visitor.sign_in(key or self.key)
        return visitor


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(browser: Browser) -> Iterator[Site]:
    with Host() as host:
        site = Site(host, browser)
        yield site
        for visitor in site.visitors:
            visitor.close()
        assert "Traceback" not in host.log(), host.log()


@pytest.fixture(scope="module")
def administrator(site: Site) -> Visitor:
    return site.visitor()


@pytest.fixture
def visitor(site: Site, administrator: Visitor) -> Iterator[Visitor]:
    """The administrator, at the tasks; no browser complained of anything when the test is over."""
    administrator.go("tasks")
    yield administrator
    for one in site.visitors:
        assert one.complaints == []
