"""The line that says how far work is: what there is room for, and never wider than that."""

from __future__ import annotations

from typing import Any

import pytest

from polpoctl.outlook import line
from polpoctl.render import columns


def going(**members: Any) -> dict[str, Any]:
    task = {"id": "5", "status": "in_progress", "percent": None, "text": None, "elapsed": 10.0, "usual": None}
    return task | {"left": None} | members


USUAL = {"duration": 100.0, "runs": 3}
OVER = going(status="done", elapsed=None)


@pytest.mark.parametrize(
    ("tasks", "shown"),
    [
        ([going()], ""),
        ([going(text="linking")], ""),
        ([going(status="pending", elapsed=None)], ""),
        ([OVER], ""),
        ([going(percent=40.0)], "[########............]  40%"),
        ([going(percent=40.0, text="linking", left=15.0)], "[########............]  40%  linking  about 15s left"),
        ([going(usual=USUAL, left=90.0)], "[##..................]  ~10%  about 1m30s left"),
        (
            [going(usual=USUAL, left=0.0, elapsed=200.0)],
            "[###################.]  ~99%  longer than the usual 1m40s",
        ),
        ([going(status="pending", elapsed=None, usual=USUAL)], "not started, takes about 1m40s"),
        ([OVER, going(percent=1.0, left=3.0)], "[##########..........]  1 of 2 over  about 3.0s left"),
        ([OVER, going(percent=1.0, left=3.0), going()], "[######..............]  1 of 3 over"),
        ([OVER, OVER], ""),
    ],
)
def test_what_is_known_is_said(tasks: list[dict[str, Any]], shown: str) -> None:
    assert line(tasks, 79) == shown


TEXT = "compiling 日本\x1b[2J of everything there is"


@pytest.mark.parametrize("width", range(60))
def test_it_fits_however_narrow_the_terminal_is(width: int) -> None:
    for tasks in (
        [going(percent=40.0, text=TEXT, left=15.0, usual=USUAL)],
        [going(status="pending", elapsed=None, usual=USUAL)],
        [OVER, going(percent=1.0, left=3.0)],
    ):
        shown = line(tasks, width)
        assert columns(shown) <= width
        assert shown.isprintable()


def test_what_matters_most_stays_longest() -> None:
    task = going(percent=40.0, text=TEXT, left=15.0, usual=USUAL)
    assert line([task], 50) == "[########............]  40%  about 15s left"
    assert line([task], 59) == "[########............]  40%  compiling 日…  about 15s left"
    assert line([task], 24) == "40%  about 15s left"
    assert line([task], 5) == "40%"
    assert line([task], 2) == ""
