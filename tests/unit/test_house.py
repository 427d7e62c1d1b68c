"""The house is in order: what is packaged, what is locked, and documents that say what the code says."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import msgspec
import pytest
from packaging.requirements import Requirement

import polpod
from polpoctl import exits
from polpoctl.catalog import COMMANDS
from polpod.config import Artifacts, Config, QueueSettings, Retention, Settings, Sla
from polpod.model.agents import Agent
from polpod.model.gates import ApprovalGate
from polpod.model.notifying import Email, Notification, Rule
from polpod.rules.waiting import State
from polpod.services.rpc.table import METHODS
from polpod.wire import errors

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [line for line in (ROOT / "requirements-dev.lock").read_text().splitlines() if not line.startswith("#")]


def rows(document: str) -> set[str]:
    """The words in code style that stand in first cells of a document's tables."""
    cells = re.findall(r"^\| ([^|]*) \|", (ROOT / document).read_text(), re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell) or [cell.strip()]}


@pytest.mark.parametrize("name", ["polpod", "polpoctl"])
def test_a_console_script_leads_to_a_function(name: str) -> None:
    module, _, function = PROJECT["scripts"][name].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    (installed,) = metadata.entry_points(group="console_scripts", name=name)
    assert installed.value == PROJECT["scripts"][name]


def test_the_installed_version_is_the_source_s_and_the_changelog_has_it() -> None:
    assert metadata.version("polpod") == polpod.__version__
    assert re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == polpod.__version__  # type: ignore[index]


def test_the_migrations_are_installed_with_the_package() -> None:
    here = {p.relative_to(ROOT / "polpod").as_posix() for p in (ROOT / "polpod").rglob("*.sql")}
    assert here
    assert [name for name in sorted(here) if not resources.files(polpod).joinpath(name).is_file()] == []


def test_importing_polpod_imports_nothing_else() -> None:
    script = "import sys; before = set(sys.modules); import polpod; print(*sorted(set(sys.modules) - before))"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["polpod"]


def test_the_lock_names_exact_versions_and_no_place_to_get_them() -> None:
    assert LOCK
    assert [line for line in LOCK if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []


def test_the_lock_holds_every_dependency_in_its_range() -> None:
    locked = {name.lower(): version for name, _, version in (line.partition("==") for line in LOCK)}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["top"]]
    assert [w for w in map(Requirement, wanted) if not w.specifier.contains(locked.get(w.name.lower(), "0"))] == []


DOCUMENTED = (Settings, QueueSettings, Retention, Artifacts, Notification, Email, Rule, Sla, Agent, ApprovalGate)


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_every_setting_is_documented(kind: type[msgspec.Struct]) -> None:
    named = {field.encode_name for field in msgspec.structs.fields(kind)}
    assert named - rows("docs/configuration.md") == set()


def test_only_settings_that_exist_are_documented() -> None:
    known = {f.encode_name for kind in (Config, *DOCUMENTED) for f in msgspec.structs.fields(kind)}
    assert rows("docs/configuration.md") - known - {"key", "---"} == set()


def test_every_exit_code_is_documented() -> None:
    codes = {str(value) for name, value in vars(exits).items() if name.isupper() and type(value) is int}
    assert codes <= rows("docs/exit-codes.md")


def test_every_method_has_its_heading_and_every_heading_its_method() -> None:
    headings = re.findall(r"^### (\S+)$", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE)
    assert set(headings) == set(METHODS)
    assert len(headings) == len(set(headings))


def test_every_error_word_is_documented() -> None:
    assert set(errors.WORDS) <= rows("docs/protocol.md")


def test_the_documented_states_are_those_that_exist() -> None:
    paragraph = re.search(r"and `state`, which.*?\n\n", (ROOT / "docs/protocol.md").read_text(), re.DOTALL)
    assert paragraph is not None
    assert set(re.findall(r"`([a-z_]+)`", paragraph[0])) - {"state"} == set(State)


def test_the_readme_names_only_commands_that_exist() -> None:
    named = re.findall(r"polpoctl ([a-z]+)\b", (ROOT / "README.md").read_text())
    assert len(named) > 10
    assert set(named) - set(COMMANDS) == set()


def test_documents_link_only_to_files_that_exist() -> None:
    documents = [*ROOT.glob("*.md"), *(p for d in ("docs", "tests", "bench") for p in (ROOT / d).rglob("*.md"))]
    links = [(d, link) for d in documents for link in re.findall(r"\]\((?!https?:)([^)#]+)", d.read_text())]
    assert links
    assert [f"{d.name}: {link}" for d, link in links if not (d.parent / link).exists()] == []
