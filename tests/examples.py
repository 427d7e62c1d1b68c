"""Makes polpod/services/rpc/examples.json from a conversation with a real polpod: `python tests/examples.py`."""

from __future__ import annotations

import json

from kit.conversation import converse
from kit.host import Host

from polpod.services.rpc.described import EXAMPLES

if __name__ == "__main__":
    with Host() as host:
        examples = dict(sorted(converse(host).examples().items()))
    EXAMPLES.write_text(json.dumps(examples, ensure_ascii=False, indent=1) + "\n")
