"""Which backend the task store of a state directory is, as its polpo.json says."""

from __future__ import annotations

from collections.abc import Mapping

from polpod.config import Config
from polpod.errors import StartError
from polpod.paths import StateDirectory
from polpod.store.location import Files, Location, Memory, Postgres, Sqlite


def locate(config: Config, paths: StateDirectory, environment: Mapping[str, str]) -> Location:
    """Raises StartError: `postgres` without a database."""
    match config.settings.storage:
        case "sqlite":
            return Sqlite(paths.tasks_db)
        case "file":
            return Files(paths.path)
        case "memory":
            return Memory()
        case "postgres":
            url = config.settings.database_url or environment.get("DATABASE_URL")
            if not url:
                raise StartError(
                    f'{paths.config}: storage "postgres" needs settings.databaseUrl, or DATABASE_URL', exit_code=2
                )
            return Postgres(url)
