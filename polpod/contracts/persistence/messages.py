"""Messages, by channel.  They are only ever added to."""

from __future__ import annotations

from polpod.contracts.persistence.repository import Repository, only, require_positive
from polpod.model.organisation.messages import Message
from polpod.store import organisation as stored


class Messages(Repository[Message, str]):
    async def save(self, message: Message) -> None:
        """Raises DuplicateRecordError."""
        await self._insert(message)

    async def get_history(self, channel: str, *, limit: int | None = None) -> tuple[Message, ...]:
        """The newest first.  Raises QueryError for a limit below 1."""
        require_positive(limit)
        return await self._find(only(stored.Messages.channel.eq, channel), limit=limit)
