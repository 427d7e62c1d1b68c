"""The manual pages: everything that can be said on a command line, in polpo.json or at the socket is in them."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from kit.package import CHECKOUT, need

from polpoctl import exits, parsers
from polpoctl.catalog import COMMANDS
from polpod.__main__ import parser as polpod_parser
from polpod.config import Config, Notification, QueueSettings, Retention, Settings
from polpod.model.agents import Agent
from polpod.services.rpc.table import METHODS

PAGES = ("polpod.8", "polpoctl.1", "polpo.json.5", "polpod-rpc.7")
EPOCH = "1700000000"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("roff", CHECKOUT / "docs/roff.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROFF = load()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("man")
    script = CHECKOUT / "docs/man.py"
    subprocess.run([sys.executable, "-B", script, made], env={"SOURCE_DATE_EPOCH": EPOCH}, check=True, timeout=60)
    return made


def plain(roff: str) -> str:
    """Without escapes and fonts."""
    return re.sub(r"\\f[BIR]|\\&", "", roff).replace(r"\-", "-").replace(r"\e", "\\")


def items(roff: str) -> set[str]:
    """The words of the names of all items."""
    return {word for tag in re.findall(r"^\.TP\n(.*)$", roff, re.MULTILINE) for word in re.split(r"[ ,]+", plain(tag))}


def options(parser: argparse.ArgumentParser) -> set[str]:
    shown = (action for action in parser._actions if action.help is not argparse.SUPPRESS)
    return {name for action in shown for name in action.option_strings}


@pytest.mark.parametrize("page", PAGES)
def test_man_shows_a_page_without_a_complaint(page: str, directory: Path) -> None:
    need("man")
    shown = subprocess.run(
        ["man", "--warnings", "--encoding=UTF-8", "--local-file", "-Tutf8", directory / page],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MAN_KEEP_STDERR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "2023-11-14" in shown.stdout
    assert (directory / page).read_text().count("\n.SH NAME\n") == 1


def test_polpod_has_every_option(directory: Path) -> None:
    assert options(polpod_parser()) <= items((directory / "polpod.8").read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_polpoctl_has_every_command_with_every_option(name: str, directory: Path) -> None:
    head, *commands = re.split(
        r'^\.S[SH] (?="?polpoctl|DAILY)', (directory / "polpoctl.1").read_text(), flags=re.MULTILINE
    )
    (text,) = (c for c in commands if plain(c).startswith(f'"polpoctl {name}"'))
    assert options(parsers.parser(name)) <= items(text) | items(head)


def test_polpo_json_has_every_setting(directory: Path) -> None:
    known = {
        f.encode_name
        for kind in (Settings, QueueSettings, Retention, Notification, Agent)
        for f in msgspec.structs.fields(kind)
    }
    page = (directory / "polpo.json.5").read_text()
    assert known <= items(page)
    assert {field.encode_name for field in msgspec.structs.fields(Config)} <= set(re.findall(r"\w+", plain(page)))


def test_the_page_of_the_socket_has_every_method_twice(directory: Path) -> None:
    headings = re.findall(r'^\.SS "(.*)"$', (directory / "polpod-rpc.7").read_text(), re.MULTILINE)
    assert {name: headings.count(name) for name in METHODS} == dict.fromkeys(METHODS, 2)


def test_every_exit_code_is_there(directory: Path) -> None:
    codes = {str(value) for name, value in vars(exits).items() if name.isupper() and type(value) is int}
    assert codes <= items((directory / "polpoctl.1").read_text())


@pytest.mark.parametrize(
    ("markdown", "roff"),
    [
        ("one\ntwo\n\nthree\n", [".PP", "one two", ".PP", "three"]),
        ("# Title\n\n## Some part\n", ['.SH "SOME PART"']),
        (".start\n", [".PP", r"\&.start"]),
        ("a \\ b `-x` **c**\n", [".PP", r"a \e b \fB\-x\fR \fBc\fR"]),
        ("see [a `b`](c.md), [d](https://e)\n", [".PP", r"see a \fBb\fR, d <https://e>"]),
        ("- one\n  more\n- two\n", [r".IP \(bu 2", "one more", r".IP \(bu 2", "two"]),
        (
            "| key | default | meaning |\n| --- | --- | --- |\n| `a` | 1 | x |\n",
            [".TP", r"\fBa\fR", "x", "(default: 1)"],
        ),
        ("```sh\n'a'\n\n```\n", [".PP", ".in +4n", ".nf", r"\(aqa\(aq", "", ".fi", ".in"]),
        ("<!-- no -->\n", []),
    ],
)
def test_markdown_becomes_roff(markdown: str, roff: list[str]) -> None:
    assert ROFF.markdown(markdown) == roff


def test_a_paragraph_beside_a_heading_is_not_begun_twice() -> None:
    assert ROFF.without_empty_paragraphs([".SH A", ".PP", "x", ".PP", ".PP", "y", ".PP", ".SS B"]) == [
        *(".SH A", "x", ".PP", "y", ".SS B")
    ]


def test_a_section_that_is_not_there_is_an_error() -> None:
    assert ROFF.section("## A\nx\n## B\ny\n", "A") == "x\n"
    with pytest.raises(ValueError, match="no section 'C'"):
        ROFF.section("## A\n", "C")
