"""The manual pages: `python docs/man.py DIR` writes them.

They are made from what the programs themselves go by, the parsers of their command lines, and from the pages of docs/,
which tests hold to the code.  Their date is that of $SOURCE_DATE_EPOCH, else today's.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from roff import example, item, literal, markdown, options, prose, section, synopsis, title, without_empty_paragraphs

from polpoctl import parsers
from polpoctl.catalog import COMMANDS
from polpod import __main__ as daemon
from polpod import __version__

HERE = Path(__file__).parent
PAGES = {
    "polpod.8": "runs long jobs and does not lose them",
    "polpoctl.1": "hands work to polpod, and shows what becomes of it",
    "polpo.json.5": "settings of polpod",
    "polpod-rpc.7": "the socket of polpod",
}


def main(directory: str) -> None:
    """Write every page into the directory."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        (Path(directory) / page).write_text(text(page))


def text(page: str) -> str:
    """One page, as roff."""
    name, _, number = page.rpartition(".")
    date = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    others = ", ".join(rf"\fB{literal(n)}\fR({s})" for n, _, s in (p.rpartition(".") for p in PAGES if p != page))
    lines = [
        *title(name, int(number), PAGES[page], date, f"polpod {__version__}"),
        *BODIES[page](),
        ".SH SEE ALSO",
        others,
    ]
    return "\n".join([*without_empty_paragraphs(lines), ""])


def polpod() -> list[str]:
    parser = daemon.parser()
    return [
        ".SH SYNOPSIS",
        *synopsis(parser),
        ".SH DESCRIPTION",
        prose(_paragraph("README.md")),
        ".PP",
        "polpod runs in the foreground, as a service or by hand; \\fBpolpoctl start\\fR starts one in the background.",
        ".SH OPTIONS",
        *options(parser),
        ".SH FILES",
        *markdown(_section("README.md", "Where state lives")),
        ".SH LIMITS",
        *markdown(_section("README.md", "Limits")),
        ".SH EXIT STATUS",
        *markdown(_section("docs/exit-codes.md", "polpod")),
    ]


def polpoctl() -> list[str]:
    whole = parsers.whole()
    common = frozenset(action.dest for action in whole._actions)
    lines = [
        ".SH SYNOPSIS",
        r"\fBpolpoctl\fR [\fICOMMAND\fR] [\fIOPTIONS\fR]",
        ".SH DESCRIPTION",
        prose(str(whole.description)),
        ".SH COMMON OPTIONS",
        *options(whole),
        ".SH COMMANDS",
    ]
    for name in COMMANDS:
        parser = parsers.parser(name)
        lines += [f'.SS "polpoctl {literal(name)}"', *synopsis(parser, common), ".PP", prose(str(parser.description))]
        lines += options(parser, common)
        lines += [".PP", prose(parser.epilog)] if parser.epilog else []
    return [
        *lines,
        ".SH DAILY USE",
        *markdown(_section("README.md", "Daily use")),
        ".SH ENVIRONMENT",
        *item(r"\fBPOLPO_ROOT\fR", "The directory whose .polpo is meant, as --root."),
        *item(r"\fBPOLPO_SOCKET\fR", "The socket of the polpod that is meant, as --socket."),
        *item(r"\fBNO_COLOR\fR", "Where it is set, nothing is coloured."),
        ".SH EXIT STATUS",
        *markdown(_section("docs/exit-codes.md", "polpoctl")),
        ".SH EXAMPLES",
        *example(["polpoctl run -- make -j4", "polpoctl submit --title build -- make", "polpoctl logs -f 1"]),
    ]


def settings() -> list[str]:
    return [".SH DESCRIPTION", *markdown(_read("docs/configuration.md"))]


def rpc() -> list[str]:
    reference = _read("docs/rpc.md").replace("\n## Types\n", "\n")
    return [
        ".SH DESCRIPTION",
        *markdown(_read("docs/protocol.md")),
        ".SH REFERENCE",
        *markdown(reference, deeper=1),
    ]


BODIES: dict[str, Callable[[], list[str]]] = {
    "polpod.8": polpod,
    "polpoctl.1": polpoctl,
    "polpo.json.5": settings,
    "polpod-rpc.7": rpc,
}


def _read(name: str) -> str:
    return (HERE.parent / name).read_text()


def _section(name: str, heading: str) -> str:
    return section(_read(name), heading)


def _paragraph(name: str) -> str:
    """The first one of a page, below its title."""
    return " ".join(_read(name).split("\n\n")[1].split())


if __name__ == "__main__":
    main(sys.argv[1])
