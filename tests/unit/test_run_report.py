"""Who says how a run ended, and is heard."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import trio
from kit.samples import a_run

from polpod.services.rpc.method import Call
from polpod.services.rpc.methods.run import Report, report

AT = "2026-11-21T12:00:00.000000Z"


def test_what_others_report_does_not_displace_what_the_runner_said() -> None:
    run, heard = a_run(), []

    async def read(body: object) -> Any:
        return run

    desk = SimpleNamespace(
        instance=SimpleNamespace(runs=SimpleNamespace(read=read)), inbox=SimpleNamespace(report=heard.append)
    )
    said = {"id": run.id, "status": "completed", "reason": "exited", "ended_at": AT, "exit_code": 0}
    for nonce in (run.nonce, "no"):
        params = msgspec.convert(said | {"nonce": nonce}, Report)
        trio.run(report, cast("Call", SimpleNamespace(desk=desk)), params)
    assert [(payload["nonce"], payload["ended_at"]) for payload in heard] == [(run.nonce, AT)]
