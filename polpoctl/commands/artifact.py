"""`artifact`: files that jobs leave behind: kept for their task, listed, fetched."""

from __future__ import annotations

import os
import sys
import time

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen, notice
from polpoctl.sizes import short
from polpoctl.times import ago
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any, BinaryIO

    from polpoctl.client import Connection

PAGE = 1000


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb", nargs="?", default="list", choices=("put", "get", "list", "remove"),
        help="put: keep files, and print their ids; get: print what is in one; list: what there is (the default); "
        "remove: forget some",
    )  # fmt: skip
    parser.add_argument("words", metavar="FILE or ID", nargs="*", help="for put: files; for get and remove: ids")
    parser.add_argument("--task", metavar="ID", help="for put and list: of this task (default: of the run that asks)")
    parser.add_argument(
        "--type", choices=("code", "tests", "documentation"), default="code", help="for put (default: code)"
    )
    parser.add_argument("--description", metavar="TEXT", default="", help="for put")
    parser.add_argument("-o", "--output", metavar="FILE", help="for get: into this file")


def run(args: Namespace) -> int:
    if bool(args.words) is (args.verb == "list") or (args.verb == "get" and len(args.words) != 1):
        raise exits.usage("usage: polpoctl artifact put FILE…, get ID [-o FILE], list, or remove ID…")
    connection, screen = connect(args), Screen(args)
    match args.verb:
        case "put":
            _put(args, connection, screen)
        case "get":
            _get(args, connection, screen)
        case "list":
            _list(args, connection, screen)
        case "remove":
            answers = list(connection.call_many(("artifact.remove", {"id": word}) for word in args.words))
            refused = [answer for answer in answers if isinstance(answer, RemoteError)]
            for error in refused:
                notice(str(error))
            return exits.of_errors(refused, len(args.words))
    return exits.OK


def _put(args: Namespace, connection: Connection, screen: Screen) -> None:
    kept = []
    for path in args.words:
        try:
            with open(path, "rb") as file:
                kept.append(_send(args, connection, path, file))
        except OSError as exc:
            raise exits.usage(f"{path}: {(exc.strerror or str(exc)).lower()}") from None
        if not screen.json:
            screen.line(kept[-1]["id"])
    if screen.json:
        screen.value(kept)


def _send(args: Namespace, connection: Connection, path: str, file: BinaryIO) -> dict[str, Any]:
    from base64 import b64encode
    from hashlib import sha256

    about = {"path": path, "size": os.fstat(file.fileno()).st_size, "type": args.type, "description": args.description}
    begun = connection.call("artifact.begin", about | ({} if args.task is None else {"task_id": args.task}))
    digest, offset = sha256(), 0
    while data := file.read(begun["part"]):
        digest.update(data)
        part = {"id": begun["id"], "offset": offset, "data": b64encode(data).decode()}
        offset = connection.call("artifact.write", part)["size"]
    artifact: dict[str, Any] = connection.call("artifact.end", {"id": begun["id"], "sha256": digest.hexdigest()})[
        "artifact"
    ]
    return artifact


def _get(args: Namespace, connection: Connection, screen: Screen) -> None:
    if screen.json and args.output is None:
        screen.value(connection.call("artifact.get", {"id": args.words[0], "limit": 0})["artifact"])
        return
    if args.output is None:
        _receive(connection, args.words[0], sys.stdout.buffer)
        return
    partial = f"{args.output}.{os.getpid()}"
    try:
        with open(partial, "wb") as file:
            artifact = _receive(connection, args.words[0], file)
        os.rename(partial, args.output)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)
    if screen.json:
        screen.value(artifact)


def _receive(connection: Connection, artifact_id: str, to: BinaryIO) -> dict[str, Any]:
    """Write the content; what is known of it.  Raises Failure where it is not what was kept."""
    from base64 import b64decode
    from hashlib import sha256

    digest, offset, end = sha256(), 0, False
    while not end:
        part = connection.call("artifact.get", {"id": artifact_id, "offset": offset})
        data = b64decode(part["data"])
        to.write(data)
        digest.update(data)
        offset, end = part["next_offset"], part["end"] or not data
    artifact: dict[str, Any] = part["artifact"]
    if offset != artifact["size_bytes"] or artifact["sha256"] not in (None, digest.hexdigest()):
        raise exits.Failure(f"artifact {artifact_id} is damaged: it is not what was kept", exits.FAILED)
    return artifact


def _list(args: Namespace, connection: Connection, screen: Screen) -> None:
    asked: dict[str, Any] = {"limit": PAGE} | ({} if args.task is None else {"task_id": args.task})
    found: list[dict[str, Any]] = []
    while True:
        page = connection.call("artifact.list", asked)
        found += page["artifacts"]
        if page["next"] is None:
            break
        asked["after"] = page["next"]
    if screen.json:
        screen.value(found)
        return
    now = time.time()
    screen.table(("ID", "TASK", "SIZE", "TYPE", "KEPT", "PATH"), [_row(entry, now, screen.terminal) for entry in found])


def _row(entry: dict[str, Any], now: float, terminal: bool) -> tuple[str, ...]:
    size, at = entry["size_bytes"], entry["created_at"]
    shown = (short(size), ago(at, now)) if terminal else (str(size), at or "")
    return entry["id"], entry["task_id"], shown[0], entry["type"], shown[1], entry["path"]
