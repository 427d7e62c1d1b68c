"""`polpoctl COMMAND …`: finds the command, loads it alone, and turns what happens into an exit code (DESIGN §10).

Modules are imported as late as they can be: the cost of a start is a promise.
"""

from __future__ import annotations

import os
import sys

from polpoctl.catalog import COMMANDS, DEFAULT

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from typing import NoReturn

_WITH_VALUE = ("--root", "--socket", "--url", "--key-file", "--color")
"""The common options that may stand before the command and take a value."""


_INSTEAD = ("-h", "--help", "--version")
"""What may stand in the place of a command."""


def main() -> NoReturn:
    """Run the command of sys.argv, and end the process."""
    import gc

    gc.disable()  # nothing here lives long or makes cycles that matter, and imports would set it off a dozen times
    if sys.stdout is None:  # closed by the caller: a write must fail, as it does for any other program
        sys.stdout = open(os.devnull)  # noqa: SIM115 - for the rest of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as above, but nobody wants to hear
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # said before, and in the code
        code = code or 1
    os._exit(code)  # everything is flushed: taking the interpreter apart would take a millisecond


def run(argv: list[str]) -> int:
    """Do what the arguments say, and return the exit code."""
    from polpoctl import exits
    from polpod.wire.jsonrpc import RemoteError

    own_error = False
    try:
        name, rest = _command([_text(argument) for argument in argv])
        own_error = name == "run" or (name == "wait" and "--exit-status" in rest)
        code = _dispatch(name, rest)
        sys.stdout.flush()
        return code
    except exits.Failure as failure:
        return _fail(str(failure), exits.OWN_ERROR if own_error else failure.code)
    except RemoteError as error:
        return _fail(str(error), exits.OWN_ERROR if own_error else exits.of_error(error))
    except BrokenPipeError:
        return exits.BROKEN_PIPE
    except OSError as error:
        code = exits.NOT_ALLOWED if isinstance(error, PermissionError) else exits.FAILED
        return _fail(_told(error), exits.OWN_ERROR if own_error else code)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except SystemExit as end:  # argparse's, after it printed the help that was asked for
        return int(end.code or 0)


def _command(argv: list[str]) -> tuple[str, list[str]]:
    """The command, and its arguments with the common options that stood before it."""
    at = 0
    while at < len(argv) and argv[at].startswith("-") and argv[at] not in _INSTEAD:
        at += 2 if argv[at] in _WITH_VALUE else 1
    name = argv[at] if at < len(argv) else DEFAULT
    return name, argv[:at] + argv[at + 1 :]


def _dispatch(name: str, rest: list[str]) -> int:
    if name == "--version":
        from polpod import __version__

        print(f"polpoctl {__version__}")
        return 0
    if name in _INSTEAD:
        return _list_commands()
    if name not in COMMANDS:
        raise _unknown(name)
    from polpoctl import parsers

    parser = parsers.parser(name)
    if name not in ("submit", "run"):  # options may stand anywhere among the words
        return int(parsers.module(name).run(parser.parse_intermixed_args(rest)))
    # What follows `--` is a command of the user's, that argparse must not look into.
    own, command = rest, None
    if "--" in rest:
        own, command = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    args = parser.parse_args(own)
    if command is not None:
        args.command += ["--", *command] if args.command else command
    return int(parsers.module(name).run(args))


def _list_commands() -> int:
    lines = ["usage: polpoctl COMMAND …", "", "Hand work to polpod, and see what becomes of it.", ""]
    margin = max(map(len, COMMANDS)) + 2
    lines += [f"  {name.ljust(margin)}{summary}" for name, summary in COMMANDS.items()]
    lines += ["", "Every command takes --root DIR, --socket PATH, --url URL, --key-file FILE, --json,"]
    lines += ["--color auto|always|never and --help."]
    lines += ["polpoctl --version tells its own."]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _unknown(name: str) -> Exception:
    from difflib import get_close_matches  # only for this message

    from polpoctl import exits

    near = get_close_matches(name, COMMANDS, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "polpoctl --help lists them"
    return exits.usage(f"no command {name!r}: {hint}")


def _text(argument: str) -> str:
    """The argument, which must be UTF-8 to go on the wire (DESIGN §5)."""
    from polpoctl import exits

    try:
        return os.fsencode(argument).decode()
    except UnicodeDecodeError:
        raise exits.usage(f"argument {os.fsencode(argument)!r} is not UTF-8") from None


def _told(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _fail(message: str, code: int) -> int:
    from polpoctl.render import notice

    notice(message)
    return code


if __name__ == "__main__":
    main()
