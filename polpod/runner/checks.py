"""The kinds of checks, and what each finds (polpo-behaviour §9.3).

Rules:

1. Exit code 0 within its time is what passes, whatever is printed (W39); a metric's number counts after that.
2. A check that did not come to a verdict says so (`passed` None), and never that the work is bad.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from polpod.runner import scoring
from polpod.runner.command import Ended, carry_out
from polpod.runner.contract import Check, ReviewSpec

KEPT = 2000
"""Characters of a check's output that are kept with the task; the log of the run has all of it."""
ANSWER = 2**16
"""Bytes of a reviewer's answer, or of a metric's, that are read."""
REASONING = 600

_SIGNALS = {number.value: number.name for number in signal.Signals}
"""Those that have a name: most of the real-time ones have none."""

Found = dict[str, Any]


def find(check: Check, spec: ReviewSpec, log: int) -> Found:
    """What the check finds, as `model/assessments.py` has it; what its command writes goes to the descriptor `log`."""
    began = time.monotonic()
    try:
        found = _KINDS[check["type"]](check, spec, log)
    except OSError as exc:
        found = {"passed": None, "message": f"it could not be carried out: {exc.strerror or exc}"}
    about = {"name": check["name"]} if check["type"] == "metric" else {"type": check["type"], "label": check["label"]}
    if check["type"] != "metric":
        about["confidence"] = check["confidence"]
    return about | found | {"duration": round(time.monotonic() - began, 3)}


def clean(output: bytes, most: int = KEPT) -> str:
    """The last of it as text that any store keeps and any terminal shows."""
    text = output.decode(errors="replace")[-most:]
    return "".join(c if c in "\n\t" or c.isprintable() else " " for c in text).strip()


def _command(check: Check, spec: ReviewSpec, log: int) -> Found:
    ended = _run(check, spec, log, keep=4 * KEPT)
    passed = ended.exit_code == 0
    return {"passed": passed, "message": _how(ended, check), "output": clean(ended.output)}


def _file_exists(check: Check, spec: ReviewSpec, log: int) -> Found:
    missing = [path for path in check["paths"] if not os.path.exists(path)]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        return {"passed": False, "message": f"missing: {', '.join(missing[:5])}{more}"}
    return {"passed": True, "message": "there" if len(check["paths"]) == 1 else f"all {len(check['paths'])} are there"}


def _metric(check: Check, spec: ReviewSpec, log: int) -> Found:
    ended = _run(check, spec, log, keep=ANSWER, errors=False)
    found: Found = {"value": None, "threshold": check["threshold"], "passed": False, "output": clean(ended.output)}
    if ended.exit_code != 0:
        return found | {"message": _how(ended, check)}
    try:
        value = float(ended.output.strip() or b"nothing")
    except ValueError:
        return found | {"message": "it printed no number"}
    if not math.isfinite(value):
        return found | {"message": f"it printed {value}"}
    passed = value >= check["threshold"]
    sign = "≥" if passed else "<"
    return found | {"value": value, "passed": passed, "message": f"{value:g} {sign} {check['threshold']:g}"}


def _review(check: Check, spec: ReviewSpec, log: int) -> Found:
    dimensions = check["dimensions"]
    names = [d["name"] for d in dimensions]
    answers: list[dict[str, float]] = []
    reviewers: list[Found] = []
    asked = {key: check.get(key) for key in ("criteria", "dimensions", "threshold")} | {"task": spec["task"]}
    for number in range(1, check["reviewers"] + 1):
        stdin = json.dumps(asked | {"reviewer": number}).encode()
        ended = _run(check, spec, log, keep=ANSWER, stdin=stdin, errors=False)
        try:
            if ended.exit_code != 0:
                raise ValueError(_how(ended, check))
            scores = scoring.scores_of(ended.output, names)
            reasoning = clean(scoring.reasoning_of(ended.output).encode(errors="replace"), REASONING)
        except ValueError as exc:
            reviewers.append({"reviewer": number, "error": clean(str(exc).encode(errors="replace"), REASONING)})
            continue
        answers.append(scores)
        reviewers.append({"reviewer": number, "scores": scores, "reasoning": reasoning})
    found: Found = {"reviewers": reviewers}
    if not answers:
        return found | {"passed": None, "message": f"no reviewer gave scores: {reviewers[0].get('error')}"}
    agreed = {name: scoring.consensus([scores[name] for scores in answers]) for name in names}
    mean = scoring.weighted(agreed, dimensions)
    passed = mean >= check["threshold"]
    message = f"{mean:.2f} {'≥' if passed else '<'} {check['threshold']:g}, by {len(answers)} of {check['reviewers']} reviewers"
    return found | {"passed": passed, "message": message, "scores": agreed, "globalScore": mean}


def _unreadable(check: Check, spec: ReviewSpec, log: int) -> Found:
    return {"passed": None, "message": check["label"]}


_KINDS: Mapping[str, Callable[[Check, ReviewSpec, int], Found]] = {
    "test": _command,
    "script": _command,
    "file_exists": _file_exists,
    "metric": _metric,
    "llm_review": _review,
    "unreadable": _unreadable,
}


def _run(check: Check, spec: ReviewSpec, log: int, *, keep: int, stdin: bytes = b"", errors: bool = True) -> Ended:
    return carry_out(
        check["argv"], timeout=check["timeout"], grace=spec["grace"], keep=keep, copy_to=log, stdin=stdin, errors=errors
    )


def _how(ended: Ended, check: Check) -> str:
    if ended.exit_code is None:
        return f"it did not end within {check['timeout']:g} s"
    if ended.exit_code < 0:
        return f"it was ended by {_SIGNALS.get(-ended.exit_code, f'signal {-ended.exit_code}')}"
    return f"exit code {ended.exit_code}"
