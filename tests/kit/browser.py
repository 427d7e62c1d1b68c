"""A person at the dashboard: headless Chromium, which Debian's package `chromium` brings, and its pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from kit.waiting import BOUND

DESK: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 375, "height": 740}
WIDER = """() => [document.documentElement, document.querySelector("main")]
  .filter(box => box.scrollWidth > box.clientWidth).map(box => `${box.tagName} ${box.scrollWidth}`)"""
"""What one has to scroll sideways."""

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser; without a program for it tests are skipped, but fail where nothing may be."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None and "POLPOD_TEST_STRICT" not in os.environ:
        pytest.skip("needs chromium")
    assert program is not None, "needs chromium"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none
    expect.set_options(timeout=BOUND * 1000)
    with sync_playwright() as playwright:
        arguments = [*sandbox, "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments, timeout=BOUND * 1000)
        yield browser
        browser.close()


class Visitor:
    """Somebody in a browser of their own, signed in with a key; what the browser complains of is kept."""

    def __init__(self, browser: Browser, url: str, **options: object) -> None:
        """`options`: of a browser context, such as `viewport` and `color_scheme`."""
        self._url = url
        self.context: BrowserContext = browser.new_context(**options)  # type: ignore[arg-type]
        self.context.set_default_timeout(BOUND * 1000)
        self.complaints: list[str] = []
        self.page = self.open()

    def open(self) -> Page:
        """Another tab."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._said)
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        return page

    def sign_in(self, key: str) -> None:
        self.go("tasks")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()

    def go(self, *path: str) -> None:
        """To a page by its address."""
        self.page.goto(f"{self._url}#/{'/'.join(path)}")

    def close(self) -> None:
        self.context.close()

    def _said(self, message: ConsoleMessage) -> None:
        # What cannot be had, or is refused, is an error to the console, whatever the page makes of it.
        expected = message.text.startswith(("Failed to load resource", "WebSocket connection"))
        if message.type in ("error", "warning") and not expected:
            self.complaints.append(message.text)


def row(page: Page, text: str) -> Locator:
    """Of a table, with that text."""
    return page.get_by_role("row").filter(has_text=text)


def shown_seqs(page: Page) -> list[int]:
    """Of the events that the timeline shows, the oldest first."""
    return sorted(
        int(item.get_attribute("data-seq") or 0) for item in page.get_by_label("Timeline").get_by_role("listitem").all()
    )
