"""The dashboard in the package is what its sources in web/ make: `make web` writes of what into its output."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

from polpod.wire.methods import METHODS

REPOSITORY = Path(__file__).parents[2]
SOURCES = REPOSITORY / "web"
BUILT = REPOSITORY / "polpod" / "services" / "web" / "static"
MOST_BYTES = 150_000
"""Of all files together, each compressed."""


def built_from() -> str:
    """As web/vite.config.ts computes it: each source's path and content, each ended by a NUL."""
    beside = ["index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"]
    paths = [str(path.relative_to(SOURCES)) for path in SOURCES.joinpath("src").rglob("*") if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted(paths + beside):
        digest.update(path.encode() + b"\0" + SOURCES.joinpath(path).read_bytes() + b"\0")
    return digest.hexdigest()


def test_the_output_is_of_these_sources() -> None:
    of, *made = BUILT.joinpath("built-from").read_text().splitlines()
    assert of == built_from(), "web/ was changed: make web, and commit both"
    there = sorted(path for path in BUILT.rglob("*") if path.is_file() and path.name != "built-from")
    hashes = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(BUILT)}" for path in there]
    assert made == hashes, "the output was changed by hand, or is of two builds: make web"


def test_it_calls_what_there_is() -> None:
    named = set(re.findall(r'^  "([a-z_]+\.[a-z_]+)"', SOURCES.joinpath("src", "methods.ts").read_text(), re.MULTILINE))
    assert "task.list" in named
    assert named <= set(METHODS)


def test_it_is_small() -> None:
    assert sum(len(gzip.compress(path.read_bytes())) for path in BUILT.rglob("*") if path.is_file()) < MOST_BYTES


def test_nothing_needs_more_than_the_policy_allows() -> None:
    """No script or style within the page, and nothing that makes markup of text."""
    page = BUILT.joinpath("index.html").read_text()
    assert "<style" not in page
    assert page.count("<script") == page.count('src="./assets/')
    for path in SOURCES.joinpath("src").rglob("*.ts*"):
        text = path.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, f"{path.name}: {word}"
