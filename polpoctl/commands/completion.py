"""`completion`: a script that teaches a shell polpoctl's commands and options, from the parsers, and asks polpod for ids.

Rules:

1. Commands, options and choices are in the script; what polpod alone knows the script asks of `--values`, each time.
2. A name is data: the functions below never have the shell expand one, and quote what they insert.
"""

from __future__ import annotations

import argparse
import sys

from polpoctl import exits, live, parsers
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_NOTHING = {"zsh": "()"}
"""zsh takes a place without candidates for a reason to complete no option there either, unless there is a list of them."""

_ZSH = r"""
_polpoctl_command() {
  if [[ $words[1] == -- ]]; then
    shift words
    (( CURRENT-- ))
  fi
  _normal
}
"""
_COMMAND = {
    "bash": "_shtab_compgen_files",
    "zsh": "_polpoctl_command",
    "fish": "(__fish_complete_subcommand --fcs-skip=2)",
    "preamble": {"zsh": _ZSH},
}
"""A command of the user's, completed as by itself; in bash as files."""

_ASKING = {
    "bash": r"""
_polpoctl_live() {
  local found quoted
  while IFS= read -r found; do
    printf -v quoted %q "$found"
    [[ $found == "$2"* || $quoted == "$2"* ]] && printf '%s\n' "$quoted"
  done < <(command polpoctl completion bash --values "$1" --line="${COMP_LINE:0:COMP_POINT}" 2>/dev/null </dev/null)
}
""",
    "zsh": r"""
_polpoctl_live() {
  local -a found
  found=(${(f)"$(command polpoctl completion zsh --values $1 --line=$BUFFER 2>/dev/null </dev/null)"})
  (( $#found )) && _describe $1 found
}
""",
    "fish": r"""
function __polpoctl_live
  command polpoctl completion fish --values $argv[1] --line=(commandline -pc | string collect) 2>/dev/null </dev/null
end
""",
}
"""Functions of the shells that complete a kind of things by asking polpod."""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    parser.add_argument("--values", metavar="KIND", help=argparse.SUPPRESS)
    parser.add_argument("--line", default="", help=argparse.SUPPRESS)
    parser.epilog = (
        "In bash and zsh: source <(polpoctl completion bash), in zsh after compinit; "
        "in fish: polpoctl completion fish | source."
    )


def run(args: Namespace) -> int:
    if args.values is not None:
        return _values(args)
    script = script_for(args.shell)
    screen = Screen(args)
    if screen.json:
        screen.value({"shell": args.shell, "script": script})
    else:
        screen.line(script.rstrip())
    return exits.OK


def script_for(shell: str) -> str:
    """The script, to be sourced, evaluated, or put where the shell looks for such."""
    from shtab import DIRECTORY, FILE, complete  # only here: it costs more than all other commands together

    fills = {"DIR": DIRECTORY, "PATH": FILE, "FILE": FILE, "CMD": _COMMAND}
    whole = parsers.whole()
    for parser in parsers.within(whole):
        command = parser.prog.rpartition(" ")[2]
        for action in parser._actions:
            if action.choices is None:
                usual = {} if action.option_strings else _NOTHING
                kind = live.kind_of(command, action)
                filled = fills.get(str(action.metavar), usual) if kind is None else _asking(kind)
                setattr(action, "complete", filled)  # noqa: B010 - shtab's own attribute
    # Its zsh script takes being sourced for being called, and completes nothing from then on.
    script: str = complete(whole, shell=shell, preamble=_ASKING[shell])
    return script.replace("$zsh_eval_context[-1] == eval", "$zsh_eval_context[-1] == (eval|file)")


def _asking(kind: str) -> dict[str, object]:
    """What shtab is told of an argument that polpod is asked about."""
    own = f"_polpoctl_live_{kind}"
    preamble = {
        "bash": f'{own}() {{ _polpoctl_live {kind} "$1"; }}',
        "zsh": f"{own}() {{ _polpoctl_live {kind} }}",
    }
    return {"bash": own, "zsh": own, "fish": f"(__polpoctl_live {kind})", "preamble": preamble}


def _values(args: Namespace) -> int:
    live.give_up_in_time()
    screen = Screen(args)
    for value, description in live.candidates(args.values, args.line):
        screen.line(_told(args.shell, value, description))
    sys.stdout.flush()
    return exits.OK


def _told(shell: str, value: str, description: str) -> str:
    """A candidate as the shell's function takes it."""
    if shell == "bash":
        return value
    if shell == "zsh":
        return value.replace("\\", "\\\\").replace(":", "\\:") + (f":{description}" if description else "")
    return f"{value}\t{description}" if description else value
