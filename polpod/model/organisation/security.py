"""Security: what was decided about each tool that an agent wanted to use."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from polpod.model.entity import Amount, Entity, NotBlank
from polpod.model.tasks import Instant


class ToolCategory(StrEnum):
    FILE_SYSTEM = "file_system"
    CODE_EXECUTION = "code_execution"
    VERSION_CONTROL = "version_control"
    WEB = "web"
    DATABASE = "database"
    TERMINAL = "terminal"
    DESIGN = "design"
    COMMUNICATION = "communication"
    ANALYTICS = "analytics"
    DEPLOYMENT = "deployment"
    MEMORY = "memory"
    MCP = "mcp"
    OTHER = "other"


class ApprovalRiskLevel(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class EvaluationConfidence(StrEnum):
    HIGH = "high"
    LOW = "low"


AuditVerdictStr = Literal["allow", "deny", "escalate", "output_scan"]


class AuditEntry(Entity, frozen=True, kw_only=True):
    """`arguments_hash` is SHA-256 in lower case hexadecimal digits."""

    id: NotBlank
    timestamp: Instant
    agent_id: NotBlank | None = None
    task_id: NotBlank | None = None
    tool_name: NotBlank
    tool_category: ToolCategory
    action_type: str
    arguments_hash: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    verdict: AuditVerdictStr
    risk_level: ApprovalRiskLevel
    reason: NotBlank
    matched_rules: tuple[NotBlank, ...] = ()
    evaluation_duration_ms: Amount
    approval_id: NotBlank | None = None
    confidence: EvaluationConfidence = EvaluationConfidence.HIGH
