"""Manual pages in man(7) from what is there already: argparse's parsers, and Markdown as the pages of docs/ use it.

Every text goes through `prose` or `literal`, which escape it; everything else is lines of roff.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

WIDTH = 78
"""Columns of a synopsis."""
_SPECIAL = {"\\": r"\e", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", "-": r"\-"}
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<strong>[^*]+)\*\*|\[(?P<text>(?:`[^`]*`|[^\]`])+)\]\((?P<link>[^)]+)\)"
)
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_BLOCK = re.compile(
    r"""
    ^```.*\n (?P<code> (?:.*\n)*?) ```$
    | ^(?P<level>\#+)[ ](?P<heading>.*)$
    | (?P<table> (?:^\|.*\n)+)
    | ^-[ ](?P<item> .*(?:\n[ ]+\S.*)*)
    | (?P<paragraph> (?:^(?!```|\#|\||-[ ]).+\n)+)
    """,
    re.MULTILINE | re.VERBOSE,
)


def literal(text: str) -> str:
    """Text that means exactly its characters: a name, an option, code."""
    return "".join(_SPECIAL.get(c, c) for c in text)


def prose(text: str) -> str:
    """Text with the inline Markdown of docs/: code, emphasis, links (of which only those to elsewhere show where)."""
    parts, at = [], 0
    for found in _INLINE.finditer(text):
        parts.append(text[at : found.start()].replace("\\", r"\e"))
        at = found.end()
        if found["text"]:
            elsewhere = f" <{literal(found['link'])}>" if "://" in found["link"] else ""
            parts.append(prose(found["text"]) + elsewhere)
        else:
            parts.append(rf"\fB{literal(found['code'] or found['strong'])}\fR")
    return "".join([*parts, text[at:].replace("\\", r"\e")])


def line(text: str) -> str:
    """A line of text: at its beginning, `.` and `'` would make it a request."""
    return rf"\&{text}" if text.startswith((".", "'")) else text


def title(name: str, section: int, summary: str, date: str, source: str) -> list[str]:
    """The head of a page, up to its NAME."""
    return [
        f'.TH {literal(name.upper())} {section} {date} "{source}"',
        ".nh",
        ".ad l",
        ".SH NAME",
        rf"{literal(name)} \- {prose(summary)}",
    ]


def heading(level: int, text: str) -> str:
    """A section's heading (level 2), or one within a section (3 and more)."""
    text = text.replace("`", "")
    return f'.SH "{prose(text.upper())}"' if level == 2 else f'.SS "{prose(text)}"'


def item(tag: str, *lines: str) -> list[str]:
    """An item of a list: its name (roff) and what it is."""
    return [".TP", line(tag), *(line(text) for text in lines)]


def example(lines: Iterable[str]) -> list[str]:
    """Lines as they are."""
    return [".PP", ".in +4n", ".nf", *(line(literal(text)) for text in lines), ".fi", ".in"]


def without_empty_paragraphs(lines: list[str]) -> list[str]:
    """The lines without `.PP` beside a heading or another `.PP`, which begin a paragraph themselves."""
    made: list[str] = []
    for text in lines:
        begins = text == ".PP" or text.startswith((".SH", ".SS"))
        if begins and made and made[-1] == ".PP":
            made.pop()
        if text != ".PP" or not made[-1].startswith((".SH", ".SS")):
            made.append(text)
    return made


# argparse


def synopsis(parser: argparse.ArgumentParser, without: frozenset[str] = frozenset()) -> list[str]:
    """How the command is called, without the options whose `dest` is given."""
    formatter = argparse.HelpFormatter(parser.prog, width=WIDTH)
    actions = [a for a in parser._actions if a.dest not in without]
    formatter.add_usage(parser.usage, actions, parser._mutually_exclusive_groups, prefix="")
    return [".nf", *(line(literal(text)) for text in formatter.format_help().rstrip().splitlines()), ".fi"]


def options(parser: argparse.ArgumentParser, without: frozenset[str] = frozenset()) -> list[str]:
    """Every argument that the help shows, with its help."""
    formatter = argparse.HelpFormatter(parser.prog, width=WIDTH)
    lines = []
    for action in parser._actions:
        if action.help is argparse.SUPPRESS or action.dest in without or isinstance(action, argparse._SubParsersAction):
            continue
        names = ", ".join(rf"\fB{literal(name)}\fR" for name in action.option_strings)
        usual = (action.dest.upper() if action.option_strings else action.dest) if not action.choices else None
        values = formatter._format_args(action, usual or "|".join(map(str, action.choices or ())))
        tag = " ".join(part for part in (names, rf"\fI{literal(values)}\fR" if values else "") if part)
        lines += item(tag, prose(formatter._expand_help(action)) if action.help else r"\&")
    return lines


# Markdown


def markdown(text: str, deeper: int = 0) -> list[str]:
    """A page of docs/: paragraphs, headings (each `deeper` than written), tables, lists, code.  Its title is left out."""
    made: list[str] = []
    for block in _BLOCK.finditer(_COMMENT.sub("", text) + "\n"):
        match block.lastgroup:
            case "code":
                made += example(block["code"].splitlines())
            case "heading" if len(block["level"]) > 1:
                made.append(heading(len(block["level"]) + deeper, block["heading"]))
            case "table":
                made += _table(block["table"].splitlines())
            case "item":
                made += [r".IP \(bu 2", line(prose(_one_line(block["item"])))]
            case "paragraph":
                made += [".PP", line(prose(_one_line(block["paragraph"])))]
    return made


def section(text: str, name: str) -> str:
    """What stands below a heading of level 2, up to the next one.  Raises ValueError where there is none."""
    found = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"no section {name!r}")
    return found[1]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _table(rows: list[str]) -> list[str]:
    """A list: the first cell is the name of an item, the others say what it is, a default last."""
    titles, _, *items = ([cell.strip() for cell in row.strip("|").split(" |")][: row.count(" |")] for row in rows)
    made = []
    for name, *cells in items:
        said = [cell for heading, cell in zip(titles[1:], cells, strict=True) if cell and heading != "default"]
        said += [
            f"({_default(cell)})"
            for heading, cell in zip(titles[1:], cells, strict=True)
            if heading == "default" and cell
        ]
        made += item(prose(name), *map(prose, said))
    return made


def _default(cell: str) -> str:
    return cell if cell in ("required", "–") else f"default: {cell}"
