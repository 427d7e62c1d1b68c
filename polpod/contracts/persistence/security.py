"""The audit of tools.  It is only ever added to."""

from __future__ import annotations

from datetime import datetime

from polpod.contracts.persistence.errors import QueryError
from polpod.contracts.persistence.repository import Repository, require_positive, where
from polpod.model.organisation.security import ApprovalRiskLevel, AuditEntry, AuditVerdictStr
from polpod.store import organisation as stored


class AuditEntries(Repository[AuditEntry, str]):
    async def save(self, entry: AuditEntry) -> None:
        """Raises DuplicateRecordError."""
        await self._insert(entry)

    async def query(
        self,
        *,
        agent_id: str | None = None,
        action_type: str | None = None,
        verdict: AuditVerdictStr | None = None,
        risk_level: ApprovalRiskLevel | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> tuple[AuditEntry, ...]:
        """From `since` to `until`, both included; the newest first.  Raises QueryError: bounds crossed, limit below 1."""
        require_positive(limit)
        of = stored.AuditEntries
        filters = where(
            (of.agent_id.eq, agent_id),
            (of.action_type.eq, action_type),
            (of.verdict.eq, verdict),
            (of.risk_level.eq, risk_level),
            (of.timestamp.ge, since),
            (of.timestamp.le, until),
        )
        if since is not None and until is not None and until < since:
            raise QueryError(f"until: {until} is before since: {since}")
        return await self._find(*filters, limit=limit)
