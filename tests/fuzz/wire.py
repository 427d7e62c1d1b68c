"""`make fuzz`: a coverage-guided fuzzer on the wire layer, for as long as it is told; `make test` does not need it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import atheris
import orjson

sys.path.append(str(Path(__file__).parent.parent))
with atheris.instrument_imports(include=["polpod.wire"]):
    from kit.wire import check_frames, check_message, check_response


def one(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    limit, cuts = provider.ConsumeIntInRange(0, 300), provider.ConsumeIntListInRange(4, 0, 1000)
    for frame in check_frames(provider.ConsumeBytes(len(data)), cuts, limit):
        for loads in (json.loads, orjson.loads):
            check_message(frame, loads)
        try:
            value = json.loads(frame)
        except (ValueError, RecursionError):
            continue
        check_response(value)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
