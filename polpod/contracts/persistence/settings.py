"""Settings by namespace, with compare and set; presets by name."""

from __future__ import annotations

from typing import NamedTuple

from polpod.contracts.persistence.errors import OF_QUERIES, translated
from polpod.contracts.persistence.repository import Repository, only
from polpod.model.organisation.settings import CustomPreset, NamespacedSetting
from polpod.store import organisation as stored
from polpod.store.records import Tx


class Settings(Repository[NamespacedSetting, tuple[str, str]]):
    async def get(self, namespace: str, key: str) -> tuple[str, str] | None:
        """Its value and `updated_at`."""
        found = await self._get((namespace, key))
        return None if found is None else (found.value, found.updated_at)

    async def get_namespace(self, namespace: str) -> tuple[tuple[str, str, str], ...]:
        """Key, value and `updated_at` of each, by key."""
        found = await self._find(only(stored.NamespacedSettings.namespace.eq, namespace))
        return tuple((s.key, s.value, s.updated_at) for s in found)

    async def get_all(self) -> tuple[tuple[str, str, str, str], ...]:
        """Namespace, key, value and `updated_at` of each, by namespace and key."""
        return tuple((s.namespace, s.key, s.value, s.updated_at) for s in await self._find())

    async def set(
        self, namespace: str, key: str, value: str, updated_at: str, *, expected_updated_at: str | None = None
    ) -> bool:
        """Whether it was stored: always, or if `updated_at` was as expected; "" expects no setting, or one without.

        Two writers that choose the same `updated_at` are taken for one: choose what nobody else does.
        """
        with translated(OF_QUERIES):
            setting = NamespacedSetting(namespace=namespace, key=key, value=value, updated_at=updated_at)

        def body(tx: Tx) -> bool:
            old = tx[stored.NamespacedSettings].get((namespace, key))
            found = "" if old is None else old.updated_at
            if expected_updated_at is not None and expected_updated_at != found:
                return False
            tx[stored.NamespacedSettings].save(setting)
            return True

        return await self._write(body)

    async def delete(self, namespace: str, key: str) -> bool:
        return await self._delete((namespace, key))

    async def delete_namespace(self, namespace: str) -> int:
        return await self._delete_where(only(stored.NamespacedSettings.namespace.eq, namespace))


class PresetRow(NamedTuple):
    config_json: str
    description: str
    created_at: str
    updated_at: str


class PresetListRow(NamedTuple):
    name: str
    config_json: str
    description: str
    created_at: str
    updated_at: str


class CustomPresets(Repository[CustomPreset, str]):
    async def save(self, name: str, config_json: str, description: str, created_at: str, updated_at: str) -> None:
        """`created_at` stays as it was first.  Raises QueryError for an empty name or configuration."""
        with translated(OF_QUERIES):
            preset = CustomPreset(
                name=name,
                config_json=config_json,
                description=description,
                created_at=created_at,
                updated_at=updated_at,
            )
        await self._save_keeping(name, preset, "created_at")

    async def get(self, name: str) -> PresetRow | None:
        found = await self._get(name)
        return None if found is None else PresetRow(*_row(found)[1:])

    async def list_all(self) -> tuple[PresetListRow, ...]:
        """By name."""
        return tuple(PresetListRow(*_row(preset)) for preset in await self._find())

    async def delete(self, name: str) -> bool:
        return await self._delete(name)

    async def count(self) -> int:
        return await self._count()


def _row(preset: CustomPreset) -> tuple[str, str, str, str, str]:
    return preset.name, preset.config_json, preset.description, preset.created_at, preset.updated_at
