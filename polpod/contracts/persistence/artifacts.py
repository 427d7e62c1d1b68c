"""Artifacts, without their content, and projects."""

from __future__ import annotations

from polpod.contracts.persistence.repository import Repository, where
from polpod.model.organisation.artifacts import Artifact, ArtifactType, Project, ProjectStatus
from polpod.store import organisation as stored


class Artifacts(Repository[Artifact, str]):
    async def save(self, artifact: Artifact) -> None:
        await self._save(artifact)

    async def get(self, artifact_id: str) -> Artifact | None:
        return await self._get(artifact_id)

    async def list_artifacts(
        self,
        *,
        task_id: str | None = None,
        created_by: str | None = None,
        artifact_type: ArtifactType | None = None,
    ) -> tuple[Artifact, ...]:
        """By id."""
        of = stored.Artifacts
        filters = where((of.task_id.eq, task_id), (of.created_by.eq, created_by), (of.type.eq, artifact_type))
        return await self._find(*filters)

    async def delete(self, artifact_id: str) -> bool:
        return await self._delete(artifact_id)


class Projects(Repository[Project, str]):
    async def save(self, project: Project) -> None:
        await self._save(project)

    async def get(self, project_id: str) -> Project | None:
        return await self._get(project_id)

    async def list_projects(
        self, *, status: ProjectStatus | None = None, lead: str | None = None
    ) -> tuple[Project, ...]:
        """By id."""
        of = stored.Projects
        return await self._find(*where((of.status.eq, status), (of.lead.eq, lead)))

    async def delete(self, project_id: str) -> bool:
        """The tasks of the project stay as they are."""
        return await self._delete(project_id)
