"""Task stores for `elkar`: give one to `TaskManagerWithStore` or `TaskManagerWithModifier` as its `store`.

    from polpod.contrib.elkar import PolpodTaskManagerStore

    manager = TaskManagerWithModifier(card, store=PolpodTaskManagerStore(), send_task_handler=handler)

`InMemoryTaskManagerStore` is gone with the process; `PolpodTaskManagerStore` is kept by polpod, and survives both.
"""

from __future__ import annotations

from polpod.contracts.elkar.memory import InMemoryTaskManagerStore
from polpod.contracts.elkar.refusals import Refused, UnknownTask, Unreachable
from polpod.contracts.elkar.remote import PolpodTaskManagerStore

__all__ = ["InMemoryTaskManagerStore", "PolpodTaskManagerStore", "Refused", "UnknownTask", "Unreachable"]
