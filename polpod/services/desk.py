"""What the methods of the socket may ask: the instance, and the services that act for it."""

from __future__ import annotations

from dataclasses import dataclass

from polpod.services.artifacts import Uploads
from polpod.services.audit import Audit
from polpod.services.health import Health
from polpod.services.inbox import Inbox
from polpod.services.instance import Instance
from polpod.services.keys import Keys
from polpod.services.killer import Killer
from polpod.services.reload import Reload


@dataclass(frozen=True, slots=True)
class Desk:
    instance: Instance
    inbox: Inbox
    killer: Killer
    health: Health
    reload: Reload
    audit: Audit
    uploads: Uploads
    keys: Keys
