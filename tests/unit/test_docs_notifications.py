"""The examples of docs/notifications.md and docs/configuration.md are what polpod takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from polpod.config import parse
from polpod.model.documents import read
from polpod.rules.notifying import faults

DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str, *, heading: str = "") -> list[str]:
    """The JSON of a page, from the heading to the next."""
    text = (DOCS / page).read_text()
    section = text.partition(heading)[2].partition("\n## ")[0] if heading else text
    return re.findall(r"```json\n(.*?)```", section, re.DOTALL)


def settings(text: str) -> Any:
    config, unknown = parse(text.encode(), "polpo.json")
    assert unknown == []
    return config.settings.told


def test_the_example_and_its_mission() -> None:
    whole, mission = examples("notifications.md")
    told = settings(whole)
    assert list(told.channels) == ["mail", "chat"]
    document = read(mission)
    assert document.notifications is not None
    assert list(faults(document, told.channels)) == []


def test_both_forms() -> None:
    listed, apart = (
        f'{{"settings": {{{text}}}}}' for text in examples("configuration.md", heading="## `notifications`")
    )
    assert list(settings(listed).channels) == ["chat", "script"]
    assert list(settings(apart).channels) == ["chat", "mail", "script"]
    assert json.loads(apart)["settings"]["notifications"]["rules"]
