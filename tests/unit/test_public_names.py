"""Every public name of the pages that polpod's stores are made after can be imported from where a user looks for it.

Not here is what stays Elkar's own: `TaskManagerStore` and `TaskManagerWithStore`, which polpod's stores are given to, and
`ElkarClientStore`, which is for Elkar's server.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

NAMES = {
    "polpod.config": "JsonConfigStore PolpoConfigStore",
    "polpod.taskstore": (
        "ApprovalStore LogStore MemoryStore Mission NotificationStore PolpoState RunStore SessionStore Task TaskStatus"
        " TaskStore"
    ),
    "polpod.persistence": (
        "AgentLifecycleEvent AgentRuntimeState AgentStateRepository ApiKey ApiKeyRepository ApprovalRiskLevel Artifact"
        " ArtifactRepository ArtifactStorageBackend ArtifactStorageFullError ArtifactTooLargeError ArtifactType"
        " AuditEntry AuditRepository AuditVerdictStr Checkpoint CheckpointRepository CollaborationMetricRecord"
        " CollaborationMetricRepository CostRecord CostRecordRepository DuplicateRecordError Heartbeat"
        " HeartbeatRepository HumanRole LifecycleEventRepository LifecycleEventType Message MessageRepository"
        " MigrationError ParkedContext ParkedContextRepository PersistenceBackend PersistenceConfig"
        " PersistenceConnectionError PersistenceError PersonalityPresetRepository Project ProjectRepository"
        " ProjectStatus QueryError RecordNotFoundError SQLiteConfig SQLiteCostRecordRepository SQLiteMessageRepository"
        " SQLitePersistenceBackend SQLiteTaskRepository SettingsRepository Task TaskMetricRecord TaskMetricRepository"
        " TaskRepository TaskStatus User UserRepository VersionConflictError WorkflowDefinition"
        " WorkflowDefinitionRepository WorkflowExecution WorkflowExecutionRepository create_backend"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in NAMES.items() for n in names.split()])
def test_a_name_of_the_pages_is_there(module: str, name: str) -> None:
    found = importlib.import_module(module)
    assert hasattr(found, name)
    assert name in getattr(found, "__all__", [name])


def test_elkars_name_is_there() -> None:
    """Read as text, since few Pythons have elkar."""
    spec = importlib.util.find_spec("polpod.contrib.elkar")
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text()).body
    imported = {alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {"InMemoryTaskManagerStore", "PolpodTaskManagerStore"} <= imported
