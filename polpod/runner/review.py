"""`python -I -m polpod.runner.review FILE`: the job of a run that carries out the checks of what another run did.

Rules:

1. What it found is on the disk, under its name, before it ends; its exit code says the same in short: 0 passed, 1 did not,
   2 nobody can tell.
2. The checks are carried out one after another, in the order in which they were said: none disturbs another.
3. All of them are carried out, also after one that failed: whoever puts that right wants to know of the others.
4. Asked to end, it ends what it carries out, and writes nothing: the run was ended, and its checks come to no verdict.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from polpod.runner import contract
from polpod.runner.checks import Found, find

LOG = 1
PASSED, FAILED, UNKNOWN = 0, 1, 2


class Asked(BaseException):
    """Somebody wants this to end."""


def main(argv: Sequence[str]) -> int:
    """Carry out what the file says."""
    signal.signal(signal.SIGTERM, _end)
    with open(argv[1], "rb") as file:
        spec: contract.ReviewSpec = json.load(file)
    try:
        found = [_carry_out(number, check, spec) for number, check in enumerate(spec["checks"], 1)]
    except Asked:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise
    assessment = summary(spec, found)
    _say(f"\n{assessment['message']}\n")
    _write(spec["result"], encoded(assessment))
    return {True: PASSED, False: FAILED, None: UNKNOWN}[assessment["passed"]]


def summary(spec: contract.ReviewSpec, found: Sequence[Found]) -> dict[str, Any]:
    """The assessment.  One check that failed decides; else one that could not tell leaves all open."""
    verdicts = [one["passed"] for one in found]
    passed = False if False in verdicts else None if None in verdicts else True
    reviews = [one for one in found if one.get("globalScore") is not None]
    scores: dict[str, list[float]] = {}
    for review in reviews:
        for name, value in review["scores"].items():
            scores.setdefault(name, []).append(value)
    assessment: dict[str, Any] = {
        "runId": spec["run_id"],
        "passed": passed,
        "checks": [one for one in found if "type" in one],
        "metrics": [one for one in found if "type" not in one],
        "message": _message(verdicts),
        "timestamp": contract.timestamp(),
    }
    if reviews:
        assessment["scores"] = {name: sum(values) / len(values) for name, values in scores.items()}
        assessment["globalScore"] = sum(review["globalScore"] for review in reviews) / len(reviews)
    return assessment


def encoded(assessment: Mapping[str, Any]) -> bytes:
    """As it is written down; without what the checks wrote where nobody would believe so much."""
    whole = _json(assessment)
    if len(whole) <= contract.ASSESSMENT_SIZE:
        return whole
    short = {part: [_without_words(one) for one in assessment[part]] for part in ("checks", "metrics")}
    return _json({**assessment, **short})


def _without_words(found: Found) -> Found:
    return {name: value for name, value in found.items() if name not in ("output", "reviewers")}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode(errors="replace")


def _message(verdicts: Sequence[bool | None]) -> str:
    number = len(verdicts)
    said: list[str] = []
    for verdict, what in ((False, "failed"), (None, "could not be carried out"), (True, "passed")):
        if count := sum(v is verdict for v in verdicts):
            said.append(f"{count} of {number} checks {what}" if not said else f"{count} {what}")
    return ", ".join(said)


def _carry_out(number: int, check: contract.Check, spec: contract.ReviewSpec) -> Found:
    _say(f"[check {number} of {len(spec['checks'])}] {check['type']}: {check['label']}\n")
    found = find(check, spec, LOG)
    verdict = {True: "passed", False: "failed", None: "could not be carried out"}[found["passed"]]
    _say(f"[check {number} of {len(spec['checks'])}] {verdict} after {found['duration']:.1f} s: {found['message']}\n")
    for reviewer in found.get("reviewers", ()):
        said = reviewer.get("error") or f"{reviewer['scores']} {reviewer['reasoning']}"
        _say(f"  reviewer {reviewer['reviewer']}: {said}\n")
    return found


def _say(text: str) -> None:
    with suppress(OSError):  # a full disk is no reason to know nothing of the work
        os.write(LOG, text.encode(errors="replace"))


def _write(path: str, data: bytes) -> None:
    """Durable, or not there at all.  Raises OSError."""
    with open(f"{path}.tmp", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.tmp", path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _end(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Asked


if __name__ == "__main__":
    try:
        code = main(sys.argv)
    except OSError as exc:
        _say(f"the checks could not be carried out: {exc}\n")
        code = UNKNOWN
    sys.exit(code)
