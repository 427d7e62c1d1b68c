"""A view as it is looked at: which page, in which order, what is selected, what is left out."""

from __future__ import annotations

import time
from typing import Any

from polpoctl.top.feed import Page, Wanted
from polpoctl.top.views import TASKS, Entry, View

_SELECTORS = ("queue", "project")


class Table:
    """One page of entries at a time; `about`: further parameters of the view's call."""

    def __init__(self, view: View, about: dict[str, Any] | None = None, title: str = "") -> None:
        self.view = view
        self.title = title or view.name
        self.filter = ""
        self.all = False
        self.entries: list[Entry] = []
        self.more = False
        self.refused = ""
        self.loaded = False
        self.first = 0
        """The entry in the uppermost line."""
        self._about = about or {}
        self._order = 0
        self._next: Any = None
        self._cursors: list[Any] = [None]
        self._selected: Any = None
        self._at = 0

    @property
    def page(self) -> int:
        """Its number, from 1 on."""
        return len(self._cursors)

    @property
    def order(self) -> str:
        """Its name; empty: that of polpod."""
        return self.view.orders[self._order - 1].name if self._order else ""

    @property
    def at(self) -> int:
        """The place of the selected entry in the page."""
        return self._at

    @property
    def selected(self) -> Entry | None:
        return self.entries[self._at] if self.entries else None

    def wanted(self) -> Wanted:
        """The page that is looked at."""
        params, word = self._about, self.filter
        if self.view is TASKS:
            select, word = selector(self.filter)
            params = params | {"all": self.all, "select": select}
        view = self.view
        return Wanted(view.method, view.params | params, view.field, self._cursors[-1], view.paged, word)

    def accept(self, page: Page) -> None:
        """Show this page, if it is the one that is looked at; the selection stays where it is."""
        if page.wanted != self.wanted():
            return
        self.entries, self._next, self.refused = page.entries, page.next, page.refused
        self.more, self.loaded = page.next is not None, True
        if not self.entries and len(self._cursors) > 1 and not self.more:
            self._cursors.pop()  # what was there is over
        self._sort()

    def change(self, filter: str | None = None, all: bool | None = None) -> None:
        """Look at others, from the first page on.  Raises ValueError where the filter makes no sense."""
        if filter is not None:
            selector(filter)
            self.filter = filter
        if all is not None:
            self.all = all
        self._turn([None])
        self._selected = None

    def sort(self) -> None:
        """The next order."""
        self._order = (self._order + 1) % (len(self.view.orders) + 1)
        self._sort()

    def move(self, by: int) -> None:
        """Select another entry; beyond the first or the last one, turn the page."""
        to = self._at + by
        last = len(self.entries) - 1
        if to > last and self._at >= last and self._next is not None:
            self._turn([*self._cursors, self._next])
        elif to < 0 and self._at == 0 and len(self._cursors) > 1:
            self._turn(self._cursors[:-1])
            self._at = -1
        else:
            self._select(to)

    def home(self) -> None:
        """The first entry of all."""
        if len(self._cursors) > 1:
            self._turn([None])
        self._select(0)

    def end(self) -> None:
        """The last entry of the page."""
        self._select(len(self.entries) - 1)

    def window(self, lines: int) -> list[Entry]:
        """The entries for so many lines, which the selected one is among."""
        lines = max(1, lines)
        if not self.first <= self._at < self.first + lines:  # by half of them, so that few steps move everything
            self.first = self._at - lines // 2
        self.first = max(0, min(self.first, len(self.entries) - lines))
        return self.entries[self.first : self.first + lines]

    def _turn(self, cursors: list[Any]) -> None:
        self._cursors = cursors
        self.entries, self._next = [], None
        self.more = self.loaded = False
        self._selected, self._at, self.first = None, 0, 0

    def _select(self, at: int) -> None:
        self._at = max(0, min(at, len(self.entries) - 1))
        self._selected = _name(self.entries[self._at]) if self.entries else None

    def _sort(self) -> None:
        if self._order:
            now, key = time.time(), self.view.orders[self._order - 1].key
            self.entries = sorted(self.entries, key=lambda entry: key(entry, now))
        elif all("seq" in entry for entry in self.entries) and self.view.orders:
            self.entries = sorted(self.entries, key=lambda entry: int(entry["seq"]))
        names = [_name(entry) for entry in self.entries]
        if self._selected in names:
            self._at = names.index(self._selected)
        else:
            self._select(len(names) - 1 if self._at < 0 else self._at)


def _name(entry: Entry) -> Any:
    return entry.get("id", entry.get("name"))


def selector(text: str) -> tuple[dict[str, Any], str]:
    """What `queue=build status=failed os=linux make` says: a Selector for polpod, and the word that titles have in them.

    Raises ValueError.
    """
    select: dict[str, Any] = {}
    words = []
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals:
            words.append(part)
        elif not name or not value:
            raise ValueError(f"{part}: NAME=VALUE is needed")
        elif name == "status":
            select.setdefault("status", []).append(value)
        elif name in _SELECTORS:
            select[name] = value
        else:
            select.setdefault("labels", {})[name] = value
    return select, " ".join(words)
