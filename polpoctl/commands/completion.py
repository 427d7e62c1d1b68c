"""`completion`: a script that teaches a shell polpoctl's commands and options, from the parsers themselves."""

from __future__ import annotations

from polpoctl import exits, parsers
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_NOTHING = {"zsh": "()"}
"""zsh takes a place without candidates for a reason to complete no option there either, unless there is a list of them."""

_ZSH = """
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


def options(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    parser.epilog = (
        "In bash and zsh: source <(polpoctl completion bash), in zsh after compinit; "
        "in fish: polpoctl completion fish | source."
    )


def run(args: Namespace) -> int:
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
        for action in parser._actions:
            if action.choices is None:
                usual = {} if action.option_strings else _NOTHING
                setattr(action, "complete", fills.get(str(action.metavar), usual))  # noqa: B010 - shtab's own attribute
    # Its zsh script takes being sourced for being called, and completes nothing from then on.
    return complete(whole, shell=shell).replace("$zsh_eval_context[-1] == eval", "$zsh_eval_context[-1] == (eval|file)")
