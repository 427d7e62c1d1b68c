"""Users and their keys; how agents came, went and worked together."""

from __future__ import annotations

from datetime import datetime

from polpod.contracts.persistence.errors import QueryError
from polpod.contracts.persistence.repository import Repository, only, require_positive, where
from polpod.model.organisation.people import (
    AgentLifecycleEvent,
    ApiKey,
    CollaborationMetricRecord,
    HumanRole,
    LifecycleEventType,
    User,
)
from polpod.store import organisation as stored

SYSTEM_USER = "system"

_HUMAN = stored.Users.role.ne(HumanRole.SYSTEM)


class Users(Repository[User, str]):
    async def save(self, user: User) -> None:
        """`created_at` stays as it was first.  Raises QueryError for a taken username, and for a second ceo."""
        await self._save_keeping(user.id, user, "created_at")

    async def get(self, user_id: str) -> User | None:
        return await self._get(user_id)

    async def get_by_username(self, username: str) -> User | None:
        return await self._first(only(stored.Users.username.eq, username))

    async def list_users(self) -> tuple[User, ...]:
        """All humans, the oldest first."""
        return await self._find(_HUMAN)

    async def count(self) -> int:
        """Of humans."""
        return await self._count(_HUMAN)

    async def count_by_role(self, role: HumanRole) -> int:
        return await self._count(only(stored.Users.role.eq, role))

    async def delete(self, user_id: str) -> bool:
        """The user's keys go, too.  Raises QueryError for the system user."""
        if user_id == SYSTEM_USER:
            raise QueryError("System user cannot be deleted")
        return await self._delete(user_id)


class ApiKeys(Repository[ApiKey, str]):
    """Revoked and expired ones, too: whoever asks has to look."""

    async def save(self, key: ApiKey) -> None:
        """`created_at` stays as it was first.  Raises QueryError for another key's hash, and for an unknown user."""
        await self._save_keeping(key.id, key, "created_at")

    async def get(self, key_id: str) -> ApiKey | None:
        return await self._get(key_id)

    async def get_by_hash(self, key_hash: str) -> ApiKey | None:
        return await self._first(only(stored.ApiKeys.key_hash.eq, key_hash))

    async def list_by_user(self, user_id: str) -> tuple[ApiKey, ...]:
        """The oldest first."""
        return await self._find(only(stored.ApiKeys.user_id.eq, user_id))

    async def delete(self, key_id: str) -> bool:
        return await self._delete(key_id)


class LifecycleEvents(Repository[AgentLifecycleEvent, str]):
    async def save(self, event: AgentLifecycleEvent) -> None:
        """Raises DuplicateRecordError."""
        await self._insert(event)

    async def list_events(
        self,
        *,
        agent_id: str | None = None,
        event_type: LifecycleEventType | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[AgentLifecycleEvent, ...]:
        """From `since` on, the newest first.  Raises QueryError for a limit below 1."""
        require_positive(limit)
        of = stored.LifecycleEvents
        filters = where((of.agent_id.eq, agent_id), (of.event_type.eq, event_type), (of.timestamp.ge, since))
        return await self._find(*filters, limit=limit)


class CollaborationMetrics(Repository[CollaborationMetricRecord, str]):
    async def save(self, record: CollaborationMetricRecord) -> None:
        """Raises DuplicateRecordError."""
        await self._insert(record)

    async def query(
        self, *, agent_id: str | None = None, since: datetime | None = None
    ) -> tuple[CollaborationMetricRecord, ...]:
        """From `since` on, the newest first."""
        of = stored.CollaborationMetrics
        return await self._find(*where((of.agent_id.eq, agent_id), (of.recorded_at.ge, since)))
