"""The units themselves, as systemd judges them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kit.box import CHECKOUT, Box


@pytest.mark.parametrize("place", ["system", "user"])
def test_systemd_has_no_complaint(box: Box, place: str) -> None:
    units = sorted(f"/usr/lib/systemd/{place}/{path.name}" for path in Path(CHECKOUT, "systemd", place).iterdir())
    assert units
    who = ["--user"] if place == "user" else []
    checked = box.run("env", "XDG_RUNTIME_DIR=/run", "systemd-analyze", *who, "verify", "--man=no", *units)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_exposure_is_what_the_page_says(box: Box) -> None:
    page = (CHECKOUT / "docs" / "install.md").read_text()
    said = re.search(r"`systemd-analyze security polpod` says ([0-9.]+)", page)
    assert said is not None
    judged = box.run("systemd-analyze", "security", "--no-pager", f"--threshold={float(said[1]) * 10:.0f}", "polpod")
    assert judged.returncode == 0, judged.stdout
