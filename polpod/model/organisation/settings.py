"""Settings by namespace, and the personality presets that people made themselves.  What they say is theirs."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from polpod.model.entity import Entity, NotBlank


class NamespacedSetting(Entity, frozen=True, kw_only=True):
    """`updated_at` is whatever text its writer compares it by."""

    namespace: NotBlank
    key: NotBlank
    value: str
    updated_at: str


class CustomPreset(Entity, frozen=True, kw_only=True):
    """`config_json` is not read here; both times are texts of its writer's."""

    name: NotBlank
    config_json: Annotated[str, Meta(min_length=1)]
    description: str
    created_at: str
    updated_at: str
